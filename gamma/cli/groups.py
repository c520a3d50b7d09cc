"""Groups of arguments that subcommands share. Imports nothing heavy, as `options`."""

from __future__ import annotations

import argparse

from gamma.cli import values
from gamma.verification.choices import AUTO_SECONDS, BRANCHINGS, DTYPES, GUARANTEES, NORMS


def model(parser: argparse.ArgumentParser) -> None:
    text = ".onnx, .onnx.gz, .safetensors or .gguf file, or a folder with config.json"
    file(parser, "model", metavar="MODEL", help=text)
    parser.usage = "%(prog)s MODEL [options]"
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
    file(reading, "--config", metavar="FILE", help=text)
    reading.add_argument("--native", action="store_true", help="accepted, changes nothing")
    gzip(reading)


def gzip(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--gzip-ratio",
        type=values.ratio,
        metavar="N",
        help="how many times its size a .gz file may expand to, default: 100",
    )


def inputs(parser: argparse.ArgumentParser, label: bool, axis: bool = False) -> None:
    what = parser.add_argument_group("input set: a property, or an input and a radius")
    file(what, "--property", metavar="FILE", help="VNN-LIB file (1.0 or 2.0, may be .gz)")
    text = 'one input or a batch of them: .npy, .npz (FILE.npz:ARRAY) or .png; or "zeros"'
    file(what, "--input", metavar="X.npy", help=text)
    text = "the network takes (x - mean) / std of the input: one number, or one for each channel"
    what.add_argument("--mean", type=values.numbers, metavar="M,M,...", help=text)
    text = "the other half; epsilon and clip are in the units of the input"
    what.add_argument("--std", type=values.deviations, metavar="S,S,...", help=text)
    what.add_argument("--epsilon", type=values.radius, metavar="E", help="radius: 0.01, 8/255, ...")
    what.add_argument("--norm", choices=NORMS, default="inf", help="default: inf")
    what.add_argument(
        "--clip",
        nargs=2,
        type=values.exact,
        metavar=("LO", "HI"),
        help="cut the input set to [LO, HI]",
    )
    ends = ("LO.npy", "HI.npy")
    file(what, "--box", nargs=2, metavar=ends, help="all inputs between two arrays")
    if label:
        what.add_argument("--label", metavar="K", help="prove that class (or token) K wins")
        file(what, "--labels", metavar="Y.npy", help="the class of each input of a batch")
        text = "prove that outputs (sentence embeddings) have this cosine with the centre's"
        what.add_argument("--cosine", type=values.cosine, metavar="C", help=text)
    model = prompt(parser, axis)
    if label:
        text = "every block by itself, its own true state perturbed: a table of widths"
        model.add_argument("--layer-by-layer", action="store_true", help=text)


def prompt(parser: argparse.ArgumentParser, axis: bool) -> argparse._ArgumentGroup:
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
    return prompt


def branching(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
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


def computation(
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
    threads(how)
    text = "most memory for the bounds (200MB, 1.5GiB): streams as that needs, or refuses"
    memory(how, text)
    how.add_argument(
        "--stream", action="store_true", help="keep bounds and weights in memory only while used"
    )
    how.add_argument("--profile", action="store_true", help="print where the time went on stderr")
    file(how, "--trace", metavar="FILE", help="write Chrome trace JSON (chrome://tracing)")
    return how


def threads(group: argparse._ActionsContainer) -> None:
    text = "threads, default: all cores"
    group.add_argument("--threads", type=values.positive, metavar="N", help=text)


def memory(group: argparse._ActionsContainer, text: str) -> None:
    group.add_argument("--memory", type=values.size, metavar="SIZE", help=text)


def output(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print one JSON object")
    file(group, "-o", "--output", metavar="FILE", help="write the result there, not on stdout")
    return group


def reports(group: argparse._ActionsContainer) -> None:
    """Files for CI systems."""
    text = "JUnit XML: violated is a failure, unknown is skipped where --fail-on leaves it out"
    file(group, "--junit", metavar="FILE.xml", help=text)
    text = "SARIF 2.1.0: an alert for what is violated, unknown or without an answer"
    file(group, "--sarif", metavar="FILE.sarif", help=text)


def fail_on(group: argparse._ActionsContainer, default: tuple[str, ...]) -> None:
    """Verdicts that end with their exit status."""
    group.add_argument(
        "--fail-on",
        type=values.statuses,
        default=default,
        metavar="V,V",
        help="verdicts that end with their exit status, others with 0: violated, unknown (a "
        f"timeout is one), none; default: {','.join(default) or 'none'}",
    )


def file(
    group: argparse._ActionsContainer,
    *names: str,
    metavar: str | tuple[str, ...],
    help: str,
    nargs: int | str | None = None,
) -> None:
    """A path argument; ``complete`` is what shell completion reads."""
    action = group.add_argument(*names, metavar=metavar, help=help, nargs=nargs)
    action.complete = {  # type: ignore[attr-defined]
        "bash": "_shtab_compgen_files",
        "zsh": "_files",
        "fish": "__fish_complete_path",
        "tcsh": "f",
    }
