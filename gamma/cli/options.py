"""The arguments of every subcommand. Imports nothing heavy: ``gamma --help`` must be instant."""

from __future__ import annotations

import argparse
import re

from gamma.cli import groups, values
from gamma.cli.groups import file
from gamma.cli.parser import Parser
from gamma.verification.choices import (
    AUTO_SECONDS,
    DECIDING,
    DTYPES,
    ENCLOSING,
    GAP,
    GUARANTEES,
    METHODS,
)

FORMATS = ("text", "json", "vnncomp")
SHELLS = ("bash", "zsh", "fish", "tcsh")

EPILOG = """\
exit status:
  0 verified, or the command did its work    3 violated (the witness was replayed)
  1 internal error                           4 unknown
  2 usage error or unreadable input          5 timeout or resource limit   130 interrupted
"""


# Arguments of Python whose option is not called like them.
RENAMED = {
    "partition": "--picture",
    "save_open": "--open",
    "output": "--output-name",
    "max_memory_bytes": "--memory",
    "streaming": "--stream",
}


def in_options(message: str) -> str:
    """A message of Python's with its ``name=`` and ``long_name`` in the command line's options."""
    names = dict(RENAMED)
    for parser in build_parser().parsers().values():
        for action in parser._actions:
            if action.option_strings:
                names.setdefault(action.dest, action.option_strings[-1])
    words = "|".join(sorted(names, key=len, reverse=True))
    plain = "|".join(sorted(name for name in names if "_" in name))
    pattern = rf"(?<![\w./-])(?:({words})=(?:\((\w+(?:, ?\w+)*),?\))?|({plain})(?![\w./-]))"

    def option(match: re.Match[str]) -> str:
        name, entries, alone = match.groups()
        values = " " + entries.replace(" ", "") if entries else ""
        following = message[match.end() : match.end() + 1]
        gap = " " if name and not entries and following not in ("", " ", ";", ",", ".", ":") else ""
        return names[name or alone] + values + gap

    return re.sub(pattern, option, message)


def build_parser() -> Parser:
    """The whole command line."""
    parser = Parser(
        prog="gamma",
        description="Certified bounds on what a neural network can output.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")

    _verify(command("verify", "decide a property of a network"))
    _bounds(command("bounds", "print certified output bounds, no verdict"))
    _ranges(command("ranges", "print the range of every activation, for every prompt or input"))
    _overflow(command("overflow", "prove that an execution in float16 or bfloat16 cannot overflow"))
    _suite(command("suite", "verify a list of instances, one durable record for each"))
    _merge(commands.add_parser("merge", description="Join the records of a suite's shards."))
    inspect = command("inspect", "print layers, shapes and what is supported")
    groups.model(inspect)
    inspect.add_argument(
        "--ids", type=values.ids, metavar="I,I,...", help="of a prompt: its network and memory"
    )
    inspect.add_argument("--json", action="store_true", help="print one JSON object")
    info = command("info", "print versions and machine: for bug reports")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    bench = command("bench", "measure this machine and the networks gamma ships")
    bench.add_argument(
        "--seconds", type=values.seconds, default=15.0, metavar="S", help="default: 15"
    )
    bench.add_argument("--threads", type=values.positive, metavar="N", help="BLAS threads")
    bench.add_argument("--json", action="store_true", help="print one JSON object")
    tune = command("tune", "measure which way is faster on this machine, and remember")
    tune.add_argument(
        "--seconds", type=values.seconds, default=12.0, metavar="S", help="default: 12"
    )
    tune.add_argument("--show", action="store_true", help="print what is in use, measure nothing")
    tune.add_argument("--reset", action="store_true", help="forget what was measured")
    tune.add_argument("--json", action="store_true", help="print one JSON object")
    command("schema", "print the JSON Schema of every --json and of a suite's records")
    completion = command("completion", "print a shell completion script")
    completion.add_argument("shell", choices=SHELLS, help="the shell to complete in")
    return parser


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    groups.model(parser)
    groups.inputs(parser, label=True)
    parser.usage = (
        "%(prog)s MODEL --property FILE [options]\n"
        "       %(prog)s MODEL --input X.npy --epsilon E --label K [options]"
    )
    _storage(parser)
    groups.computation(parser, DECIDING)
    how = groups.branching(parser)
    text = "write what is open there, every few seconds and at the end"
    file(how, "--open", metavar="FILE", help=text)
    file(how, "--resume", metavar="FILE", help="go on with what another run wrote to --open FILE")
    _cluster(how, "threads", "threads of this process")
    search = parser.add_argument_group("search for a witness")
    search.add_argument("--no-attack", action="store_true", help="no search for a witness")
    search.add_argument("--seed", type=values.whole, default=0, metavar="N", help="default: 0")
    output = groups.output(parser)
    output.add_argument(
        "-v", "--verbose", action="store_true", help="all facts, and more of a witness's numbers"
    )
    file(output, "--witness-out", metavar="X.npy", help="write the witness, where there is one")
    groups.fail_on(output, ("violated", "unknown"))
    groups.reports(output)
    output.add_argument(
        "--format",
        choices=FORMATS,
        help="text (default), json, or vnncomp: sat, unsat, unknown or timeout and the witness",
    )
    text = "draw how two inputs were cut into proved and open boxes: .svg or .png"
    file(output, "--picture", metavar="FILE", help=text)
    output.add_argument(
        "--explain", action="store_true", help="where looseness and time went, layer by layer"
    )


def _cluster(parser: argparse._ActionsContainer, here: str, what: str) -> None:
    text = f"who works: {what} (default), or a dask cluster"
    parser.add_argument("--backend", choices=(here, "dask"), default=here, help=text)
    text = "of the dask scheduler, like tcp://host:8786"
    parser.add_argument("--scheduler", metavar="ADDRESS", help=text)


def _storage(parser: argparse.ArgumentParser) -> None:
    kept = parser.add_argument_group("activations in few bits, for every prompt or input")
    kept.add_argument(
        "--ranges",
        choices=("f16", "bf16", "int8"),
        help="prove that no activation overflows in this format; see gamma ranges",
    )
    kept.add_argument(
        "--scale", type=values.scale, default=1.0, metavar="S", help="of int8, default: 1"
    )


def _bounds(parser: argparse.ArgumentParser) -> None:
    groups.model(parser)
    groups.inputs(parser, label=False, axis=True)
    parser.usage = "%(prog)s MODEL --input X.npy --epsilon E [options]"
    how = groups.computation(parser, ENCLOSING)
    text = "method branch: until proved and reached ends are so close, in the outputs' units; "
    text += f"default: {GAP:g}"
    how.add_argument("--gap", type=values.gap, metavar="G", help=text)
    output = groups.output(parser)
    output.add_argument("--explain", action="store_true", help="the plan of the memory")
    output.add_argument("--all-layers", action="store_true", help="the bounds of every node")
    file(output, "--npz", metavar="FILE", help="write the arrays to a NumPy .npz file")


def _ranges(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print the proved range of every activation: of a language model for every prompt, of "
        "another network for every input; or for the input set that is given."
    )
    groups.model(parser)
    groups.inputs(parser, label=False)
    how = parser.add_argument_group("computation")
    how.add_argument(
        "--storage",
        choices=("real", "f16", "bf16"),
        default="f16",
        help="ranges hold when activations are kept in this format, too; default: f16",
    )
    text = "float32: of every float32 execution of the operators, too; default: real"
    how.add_argument("--guarantee", choices=GUARANTEES, default="real", help=text)
    how.add_argument("--timeout", type=values.seconds, metavar="S", help="stop after S seconds")
    groups.threads(how)
    groups.memory(how, "stop where the ranges take more memory than this (200MB, 1.5GiB)")
    output = groups.output(parser)
    output.add_argument("--all-layers", action="store_true", help="every node, one by one")
    file(output, "--picture", metavar="FILE", help="draw the ranges: .svg or .png")


def _overflow(parser: argparse.ArgumentParser) -> None:
    groups.model(parser)
    groups.inputs(parser, label=False)
    how = parser.add_argument_group("computation")
    text = "what the network runs in; default: float16"
    how.add_argument("--dtype", choices=("float16", "bfloat16"), default="float16", help=text)
    text = "bounds of the exact network to compare executions with; ibp (default): none"
    how.add_argument("--method", choices=METHODS, default="ibp", help=text)
    how.add_argument("--timeout", type=values.seconds, metavar="S", help="stop after S seconds")
    groups.threads(how)
    text = "most memory for the bounds (200MB, 1.5GiB): fewer boxes at once, or refuses"
    groups.memory(how, text)
    text = "of the inputs that are tried; default: 0"
    how.add_argument("--seed", type=values.whole, default=0, metavar="N", help=text)
    output = groups.output(parser)
    output.add_argument("-v", "--verbose", action="store_true", help="every node, in order")
    groups.fail_on(output, ("violated", "unknown"))


def _suite(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s LIST.csv [options]"
    text = "lines model,property,timeout; paths relative to the list"
    file(parser, "list", metavar="LIST.csv", help=text)
    for name, choices, default in (
        ("--method", DECIDING, "auto"),
        ("--guarantee", GUARANTEES, "real"),
        ("--dtype", DTYPES, "auto"),
    ):
        parser.add_argument(name, choices=choices, default=default, help=f"default: {default}")
    groups.branching(parser)
    parser.add_argument("--no-attack", action="store_true", help="no search for a witness")
    parser.add_argument("--seed", type=values.whole, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--timeout",
        type=values.seconds,
        metavar="S",
        help="caps the time limits of the list; method auto: "
        f"{AUTO_SECONDS:g} where neither gives one",
    )
    parser.add_argument(
        "--jobs", type=values.positive, default=1, metavar="N", help="worker processes, default: 1"
    )
    text = "threads of each, default: its share of the cores"
    parser.add_argument("--threads", type=values.positive, metavar="N", help=text)
    _cluster(parser, "processes", "processes of this machine")
    parser.add_argument(
        "--resume", action="store_true", help="keep the records that still fit, run the rest"
    )
    parser.add_argument(
        "--shard",
        type=values.shard,
        metavar="I/N",
        help="part I of N alone, for job arrays; gamma suite merge LIST.csv joins the parts",
    )
    groups.gzip(parser)
    _outcome(parser, "LIST.results.jsonl beside the list, with --shard LIST.results.I-of-N.jsonl")


def _merge(parser: argparse.ArgumentParser) -> None:
    parser.prog = "gamma suite merge"
    parser.usage = "%(prog)s LIST.csv [RECORDS.jsonl ...] [options]"
    file(parser, "list", metavar="LIST.csv", help="the whole list")
    text = "of the shards; default: LIST.results.I-of-N.jsonl beside the list"
    file(parser, "records", nargs="*", metavar="RECORDS.jsonl", help=text)
    _outcome(parser, "LIST.results.jsonl beside the list")


def _outcome(parser: argparse.ArgumentParser, default: str) -> None:
    """What becomes of the records of a suite."""
    output = parser.add_argument_group("output")
    groups.fail_on(output, ())
    groups.reports(output)
    file(output, "--csv", metavar="FILE.csv", help="a line with verdict and time of each instance")
    text = "write each witness there, in the competition's form"
    file(output, "--witnesses", metavar="FOLDER", help=text)
    file(output, "--plot", metavar="FILE", help="draw instances solved within t: .svg or .png")
    text = "one page with verdicts, times, margins, the plot and an explanation of each instance"
    file(output, "--report", metavar="FILE.html", help=text)
    output.add_argument("--force", action="store_true", help="replace records that are there")
    text = f"records, one a line; default: {default}"
    file(output, "-o", "--output", metavar="OUT.jsonl", help=text)
