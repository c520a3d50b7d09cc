"""The arguments of every subcommand. Imports nothing heavy: ``gamma --help`` must be instant."""

from __future__ import annotations

import argparse
import re
from typing import Any

from gamma.cli import values
from gamma.cli.parser import Parser
from gamma.errors import UsageError
from gamma.verification.choices import (
    AUTO_SECONDS,
    BRANCHINGS,
    DECIDING,
    DTYPES,
    ENCLOSING,
    GAP,
    GUARANTEES,
    NORMS,
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
    _suite(command("suite", "verify a list of instances, one durable record for each"))
    inspect = command("inspect", "print layers, shapes and what is supported")
    _model(inspect)
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
    completion = command("completion", "print a shell completion script")
    completion.add_argument("shell", choices=SHELLS, help="the shell to complete in")
    return parser


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _model(parser)
    _inputs(parser, label=True)
    _storage(parser)
    _computation(parser, DECIDING)
    how = _branching(parser)
    text = "write what is open there, every few seconds and at the end"
    _file(how, "--open", metavar="FILE", help=text)
    _file(how, "--resume", metavar="FILE", help="go on with what another run wrote to --open FILE")
    search = parser.add_argument_group("search for a witness")
    search.add_argument("--no-attack", action="store_true", help="no search for a witness")
    search.add_argument("--seed", type=values.whole, default=0, metavar="N", help="default: 0")
    output = _output(parser)
    output.add_argument(
        "-v", "--verbose", action="store_true", help="all facts, and more of a witness's numbers"
    )
    _file(output, "--witness-out", metavar="X.npy", help="write the witness, where there is one")
    output.add_argument(
        "--fail-on",
        type=values.statuses,
        default=("violated", "unknown"),
        metavar="V,V",
        help="verdicts that end with their exit status, others with 0: violated, unknown (a "
        "timeout is one), none; default: violated,unknown",
    )
    output.add_argument(
        "--format",
        choices=FORMATS,
        help="text (default), json, or vnncomp: sat, unsat, unknown or timeout and the witness",
    )
    text = "draw how two inputs were cut into proved and open boxes: .svg or .png"
    _file(output, "--picture", metavar="FILE", help=text)
    output.add_argument(
        "--explain", action="store_true", help="where looseness and time went, layer by layer"
    )


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
    _model(parser)
    _inputs(parser, label=False)
    how = _computation(parser, ENCLOSING)
    text = "method branch: until proved and reached ends are so close, in the outputs' units; "
    text += f"default: {GAP:g}"
    how.add_argument("--gap", type=values.gap, metavar="G", help=text)
    output = _output(parser)
    output.add_argument("--explain", action="store_true", help="the plan of the memory")
    output.add_argument("--all-layers", action="store_true", help="the bounds of every node")
    _file(output, "--npz", metavar="FILE", help="write the arrays to a NumPy .npz file")


def _ranges(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print the proved range of every activation: of a language model for every prompt, of "
        "another network for every input; or for the input set that is given."
    )
    _model(parser)
    _inputs(parser, label=False)
    how = parser.add_argument_group("computation")
    how.add_argument(
        "--storage",
        choices=("real", "f16", "bf16"),
        default="f16",
        help="ranges hold when activations are kept in this format, too; default: f16",
    )
    how.add_argument("--timeout", type=values.seconds, metavar="S", help="stop after S seconds")
    how.add_argument(
        "--threads", type=values.positive, metavar="N", help="threads, default: all cores"
    )
    output = _output(parser)
    output.add_argument("--all-layers", action="store_true", help="every node, one by one")
    _file(output, "--picture", metavar="FILE", help="draw the ranges: .svg or .png")


def _suite(parser: argparse.ArgumentParser) -> None:
    text = "lines model,property,timeout; paths relative to the list"
    _file(parser, "list", metavar="LIST.csv", help=text)
    for name, choices, default in (
        ("--method", DECIDING, "auto"),
        ("--guarantee", GUARANTEES, "real"),
        ("--dtype", DTYPES, "auto"),
    ):
        parser.add_argument(name, choices=choices, default=default, help=f"default: {default}")
    _branching(parser)
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
    parser.add_argument(
        "--backend",
        choices=("processes", "dask"),
        default="processes",
        help="who works: processes of this machine (default), or a dask cluster",
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="of the dask scheduler, like tcp://host:8786"
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep the records that still fit, run the rest"
    )
    _gzip(parser)
    _file(parser, "--plot", metavar="FILE", help="draw instances solved within t: .svg or .png")
    text = "one page with verdicts, times, margins, the plot and an explanation of each instance"
    _file(parser, "--report", metavar="FILE.html", help=text)
    text = "records, one a line (default: LIST.results.jsonl in this folder)"
    _file(parser, "-o", "--output", metavar="OUT.jsonl", help=text)


def _model(parser: argparse.ArgumentParser) -> None:
    text = ".onnx, .onnx.gz, .safetensors or .gguf file, or a folder with config.json"
    _file(parser, "model", metavar="MODEL", help=text)
    reading = parser.add_argument_group("reading the model")
    reading.add_argument(
        "--activation", metavar="NAME", help="safetensors without a graph: relu, tanh, ..."
    )
    reading.add_argument(
        "--input-shape",
        type=values.shape,
        metavar="N,N,...",
        help="input shape, without the batch axis",
    )
    reading.add_argument("--output-name", metavar="NAME", help="which output of several")
    text = "config.json of a .safetensors file, where it is not beside it"
    _file(reading, "--config", metavar="FILE", help=text)
    reading.add_argument("--native", action="store_true", help="accepted, changes nothing")
    _gzip(reading)


def _gzip(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--gzip-ratio",
        type=values.ratio,
        metavar="N",
        help="how many times its size a .gz file may expand to, default: 100",
    )


def _inputs(parser: argparse.ArgumentParser, label: bool) -> None:
    what = parser.add_argument_group("input set: a property, or an input and a radius")
    _file(what, "--property", metavar="FILE", help="VNN-LIB file (1.0 or 2.0, may be .gz)")
    _file(what, "--input", metavar="X.npy", help='NumPy array, one input; or "zeros"')
    what.add_argument("--epsilon", type=values.radius, metavar="E", help="radius: 0.01, 8/255, ...")
    what.add_argument("--norm", choices=NORMS, default="inf", help="default: inf")
    what.add_argument(
        "--clip",
        nargs=2,
        type=values.exact,
        metavar=("LO", "HI"),
        help="cut the input set to [LO, HI]",
    )
    what.add_argument(
        "--box", nargs=2, metavar=("LO.npy", "HI.npy"), help="all inputs between two arrays"
    )
    if label:
        what.add_argument("--label", metavar="K", help="prove that class (or token) K wins")
        text = "prove that outputs (sentence embeddings) have this cosine with the centre's"
        what.add_argument("--cosine", type=values.cosine, metavar="C", help=text)
    _prompt(parser, axis=not label)


def _prompt(parser: argparse.ArgumentParser, axis: bool) -> None:
    prompt = parser.add_argument_group("prompt of a language model")
    prompt.add_argument("--ids", type=values.ids, metavar="I,I,...", help="token ids")
    prompt.add_argument("--text", metavar="TEXT", help="text, through the model's tokenizer")
    text = "perturb these positions of the prompt alone (0 is the first)"
    if axis:
        text += "; of another network: bound positions along this axis apart"
    prompt.add_argument("--positions", type=values.positions, metavar="P,P,...", help=text)
    prompt.add_argument(
        "--block", type=values.whole, metavar="K", help="perturb the state before block K"
    )
    prompt.add_argument(
        "--to", dest="to_word", metavar="WORD", help="all embeddings on the line to this token's"
    )
    text = "where the line starts (default: the prompt's token)"
    prompt.add_argument("--from", dest="from_word", metavar="WORD", help=text)


def _branching(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    how = parser.add_argument_group("branch and bound (method auto)")
    how.add_argument(
        "--branch",
        choices=BRANCHINGS,
        default="auto",
        help="what is split: input boxes, ReLUs, nothing; default: what suits the network",
    )
    how.add_argument(
        "--no-branch", action="store_const", const="none", dest="branch", help="as --branch none"
    )
    return how


def _computation(
    parser: argparse.ArgumentParser, methods: tuple[str, ...]
) -> argparse._ArgumentGroup:
    how = parser.add_argument_group("computation")
    default = "auto" if "auto" in methods else "crown"
    text = f"default: {default}"
    if default == "auto":
        text += ", from the cheapest bounds and attacks to branch and bound"
    else:
        text += "; branch: least and greatest values by branch and bound, and what was reached"
    how.add_argument("--method", choices=methods, default=default, help=text)
    how.add_argument(
        "--guarantee",
        choices=GUARANTEES,
        default="real",
        help="real arithmetic (default), or also every float32 execution",
    )
    how.add_argument("--dtype", choices=DTYPES, default="auto", help="default: auto")
    text = "stop after S seconds"
    if default == "auto":
        text += f"; method auto: {AUTO_SECONDS:g} when not given"
    else:
        text += f"; method branch: {AUTO_SECONDS:g} when not given"
    how.add_argument("--timeout", type=values.seconds, metavar="S", help=text)
    how.add_argument(
        "--threads", type=values.positive, metavar="N", help="threads, default: all cores"
    )
    how.add_argument(
        "--memory",
        type=values.size,
        metavar="SIZE",
        help="most memory for the bounds (200MB, 1.5GiB): streams as that needs, or refuses",
    )
    how.add_argument(
        "--stream", action="store_true", help="keep bounds and weights in memory only while used"
    )
    how.add_argument("--profile", action="store_true", help="print where the time went on stderr")
    _file(how, "--trace", metavar="FILE", help="write Chrome trace JSON (chrome://tracing)")
    return how


def _output(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print one JSON object")
    _file(output, "-o", "--output", metavar="FILE", help="write the result there, not on stdout")
    return output


def _file(group: argparse._ActionsContainer, *names: str, metavar: str, help: str) -> None:
    """A path argument; ``complete`` is what shell completion reads."""
    action = group.add_argument(*names, metavar=metavar, help=help)
    action.complete = {  # type: ignore[attr-defined]
        "bash": "_shtab_compgen_files",
        "zsh": "_files",
        "fish": "__fish_complete_path",
        "tcsh": "f",
    }


def streaming(args: argparse.Namespace) -> Any:
    """The StreamingConfig that --stream and --memory ask for, or None."""
    if not args.stream and args.memory is None:
        return None
    from gamma.propagate import StreamingConfig

    return StreamingConfig(max_memory_bytes=args.memory or 0)


WAYS = (
    "--ids or --text (language models), --input X.npy or --input zeros with --epsilon E, "
    "--box LO.npy HI.npy, or --property FILE.vnnlib"
)


def check_combination(args: argparse.Namespace) -> None:
    """Raise UsageError for options that contradict each other or miss a partner."""
    names = ("property", "input", "ids", "text", "box")
    ways = [f"--{name}" for name in names if getattr(args, name) is not None]
    if len(ways) > 1:
        hint = ": the property has its own box" if args.property else ""
        raise UsageError(f"{ways[0]} and {ways[1]} exclude each other{hint}")
    if not ways:
        raise UsageError(f"no input set: give {WAYS}")
    given = [f"--{n}" for n in ("epsilon", "clip") if getattr(args, n) is not None]
    given += ["--norm"] if args.norm != "inf" else []
    if args.property:
        label = getattr(args, "label", None) is not None
        if given or label:
            name = given[0] if given else "--label"
            raise UsageError(f"{name} needs --input; a property file already says it")
    elif args.box or args.to_word is not None:
        if given:
            way = "--box" if args.box else "--to"
            raise UsageError(f"{given[0]} and {way} exclude each other: {way} is the whole set")
    elif args.epsilon is None:
        raise UsageError(
            f"{ways[0]} needs --epsilon: the radius of the input set (0 for one point)"
        )
    if args.from_word is not None and args.to_word is None:
        raise UsageError("--from needs --to: the other end of the line")
    if args.to_word is not None and (args.block is not None or not (args.ids or args.text)):
        raise UsageError("--to needs --ids or --text, and no --block: it moves one of their tokens")


def check_axis(args: argparse.Namespace) -> int | None:
    """The axis that --positions of `gamma bounds` names for a network without a prompt."""
    if args.positions is None:
        return None
    if len(args.positions) != 1:
        raise UsageError("--positions: one axis of the input, or positions of a language model")
    return int(args.positions[0])
