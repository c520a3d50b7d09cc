"""The arguments of every subcommand. Imports nothing heavy: ``gamma --help`` must be instant."""

from __future__ import annotations

import argparse
import math
import re
from fractions import Fraction
from typing import Any, NoReturn

from gamma.errors import UsageError
from gamma.verify.choices import DTYPES, GUARANTEES, METHODS, NORMS

FORMATS = ("text", "json", "vnncomp")
SHELLS = ("bash", "zsh", "fish", "tcsh")

EPILOG = """\
exit status:
  0 verified, or the command did its work    3 violated (the witness was replayed)
  1 internal error                           4 unknown
  2 usage error or unreadable input          5 timeout or resource limit   130 interrupted
"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and to which -1e-3 is a number."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


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
    _suite(command("suite", "verify a list of instances, one durable record for each"))
    inspect = command("inspect", "print layers, shapes and what is supported")
    _model(inspect)
    inspect.add_argument("--json", action="store_true", help="print one JSON object")
    info = command("info", "print versions and machine: for bug reports")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    bench = command("bench", "measure this machine and the networks gamma ships")
    bench.add_argument("--seconds", type=_seconds, default=15.0, metavar="S", help="default: 15")
    bench.add_argument("--threads", type=_positive, metavar="N", help="BLAS threads")
    bench.add_argument("--json", action="store_true", help="print one JSON object")
    tune = command("tune", "measure which way is faster on this machine, and remember")
    tune.add_argument("--seconds", type=_seconds, default=12.0, metavar="S", help="default: 12")
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
    _computation(parser)
    search = parser.add_argument_group("search for a witness")
    search.add_argument("--no-attack", action="store_true", help="bounds only")
    search.add_argument("--seed", type=_whole, default=0, metavar="N", help="default: 0")
    output = _output(parser)
    output.add_argument(
        "--format",
        choices=FORMATS,
        help="text (default), json, or vnncomp: sat, unsat, unknown or timeout and the witness",
    )
    output.add_argument(
        "--explain", action="store_true", help="where looseness and time went, layer by layer"
    )


def _bounds(parser: argparse.ArgumentParser) -> None:
    _model(parser)
    _inputs(parser, label=False)
    _computation(parser)
    parser.add_argument(
        "--positions",
        type=int,
        metavar="AXIS",
        help="bound the positions along this axis of the input apart, where they are independent",
    )
    output = _output(parser)
    output.add_argument("--explain", action="store_true", help="the plan of the memory")
    output.add_argument("--all-layers", action="store_true", help="the bounds of every node")
    _file(output, "--npz", metavar="FILE", help="write the arrays to a NumPy .npz file")


def _suite(parser: argparse.ArgumentParser) -> None:
    text = "lines model,property,timeout; paths relative to the list"
    _file(parser, "list", metavar="LIST.csv", help=text)
    for name, choices, default in (
        ("--method", METHODS, "crown"),
        ("--guarantee", GUARANTEES, "real"),
        ("--dtype", DTYPES, "auto"),
    ):
        parser.add_argument(name, choices=choices, default=default, help=f"default: {default}")
    parser.add_argument("--no-attack", action="store_true", help="bounds only")
    parser.add_argument("--seed", type=_whole, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--timeout", type=_seconds, metavar="S", help="caps the time limits of the list"
    )
    parser.add_argument(
        "--jobs", type=_positive, default=1, metavar="N", help="worker processes, default: 1"
    )
    text = "threads of each, default: its share of the cores"
    parser.add_argument("--threads", type=_positive, metavar="N", help=text)
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
    text = "records, one a line (default: LIST.results.jsonl in this folder)"
    _file(parser, "-o", "--output", metavar="OUT.jsonl", help=text)


def _model(parser: argparse.ArgumentParser) -> None:
    _file(parser, "model", metavar="MODEL", help=".onnx, .onnx.gz or .safetensors file")
    reading = parser.add_argument_group("reading the model")
    reading.add_argument(
        "--activation", metavar="NAME", help="safetensors without a graph: relu, tanh, ..."
    )
    reading.add_argument(
        "--input-shape", type=_shape, metavar="N,N,...", help="input shape, without the batch axis"
    )
    reading.add_argument("--output-name", metavar="NAME", help="which output of several")


def _inputs(parser: argparse.ArgumentParser, label: bool) -> None:
    what = parser.add_argument_group("input set: a property, or an input and a radius")
    _file(what, "--property", metavar="FILE", help="VNN-LIB file (1.0 or 2.0, may be .gz)")
    _file(what, "--input", metavar="X.npy", help="NumPy array, one input")
    what.add_argument("--epsilon", type=_radius, metavar="E", help="radius around the input")
    what.add_argument("--norm", choices=NORMS, default="inf", help="default: inf")
    what.add_argument(
        "--clip", nargs=2, type=_number, metavar=("LO", "HI"), help="cut the input set to [LO, HI]"
    )
    if label:
        what.add_argument(
            "--label", type=_whole, metavar="K", help="prove that class K wins (without: bounds)"
        )


def _computation(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("computation")
    how.add_argument("--method", choices=METHODS, default="crown", help="default: crown")
    how.add_argument(
        "--guarantee",
        choices=GUARANTEES,
        default="real",
        help="real arithmetic (default), or also every float32 execution",
    )
    how.add_argument("--dtype", choices=DTYPES, default="auto", help="default: auto")
    how.add_argument("--timeout", type=_seconds, metavar="S", help="stop after S seconds")
    how.add_argument("--threads", type=_positive, metavar="N", help="threads, default: all cores")
    how.add_argument(
        "--memory",
        type=_size,
        metavar="SIZE",
        help="most memory for the bounds (200MB, 1.5GiB): streams as that needs, or refuses",
    )
    how.add_argument(
        "--stream", action="store_true", help="keep bounds and weights in memory only while used"
    )
    how.add_argument("--profile", action="store_true", help="print where the time went on stderr")
    _file(how, "--trace", metavar="FILE", help="write Chrome trace JSON (chrome://tracing)")


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


# --- values -------------------------------------------------------------------------------------


def exact(text: str) -> Fraction:
    """A decimal number as the fraction it is (the exponent is capped: 1e999999999 is refused)."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not finite")
    vanished = value == 0 and any(digit in text.lower().partition("e")[0] for digit in "123456789")
    if len(text) > 1000 or vanished:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is too small or too long")
    return Fraction(text) if value else Fraction(0)


def _number(text: str) -> Fraction:
    return exact(text)


def _radius(text: str) -> Fraction:
    value = exact(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative, expected zero or more")
    return value


def _seconds(text: str) -> float:
    value = float(exact(text))
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text}: expected more than zero seconds")
    return value


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 0")
    return int(text)


def _positive(text: str) -> int:
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected at least 1")
    return value


def _size(text: str) -> int:
    from gamma.propagate.planning import parse_size

    try:
        return parse_size(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a size such as 200MB, 1.5GiB or 300000"
        ) from None


def streaming(args: argparse.Namespace) -> Any:
    """The StreamingConfig that --stream and --memory ask for, or None."""
    if not args.stream and args.memory is None:
        return None
    from gamma.propagate import StreamingConfig

    return StreamingConfig(max_memory_bytes=args.memory or 0)


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(_positive(part.strip()) for part in text.split(","))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected sizes such as 1,28,28") from None
    return shape


def check_combination(args: argparse.Namespace) -> None:
    """Raise UsageError for options that contradict each other or miss a partner."""
    if args.property and args.input:
        raise UsageError("--property and --input exclude each other: the property has its own box")
    if args.property:
        given = [f"--{n}" for n in ("epsilon", "clip", "label") if getattr(args, n, None)]
        given += ["--norm"] if args.norm != "inf" else []
        given += ["--label"] if getattr(args, "label", None) == 0 else []
        if given:
            raise UsageError(f"{given[0]} needs --input; a property file already says it")
        return
    if not args.input:
        raise UsageError(
            "no input set: give --property FILE.vnnlib, or --input X.npy with --epsilon E"
        )
    if args.epsilon is None:
        raise UsageError("--input needs --epsilon: the radius of the input set (0 for one point)")
