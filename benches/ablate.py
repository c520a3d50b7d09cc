"""What each gate is worth: all off, each alone, all on, each removed, at small and large sizes.

    python -m benches.ablate                    writes docs/performance/ablation.md
    python -m benches.ablate --cases digits_cnn --rounds 3 --print
    python -m benches.ablate --resume --most 300   goes on where such a run ended, about 300 s long

Rounds go through every configuration in turn, so that a machine that slows down slows them all; the
figure is the least processor time of one call. "All on" is measured twice: the difference is the
noise, and a configuration faster than the default by more than three times it is marked, if its
bounds are as narrow. One that is far slower is measured a few times only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benches import made
from benches.cases import DATA, ROOT, Case, names
from benches.peer import read
from benches.report import markdown
from gamma import tuning
from gamma.propagate import bounds
from gamma.runtime import heap

PAGE = ROOT / "docs" / "performance" / "ablation.md"
KEPT = ROOT / "build" / "ablation.json"
SMALL = ("digits_mlp", "digits_cnn", "acasxu_1_1_p1", "reach_robot", "rl_cartpole", "made_0")
LARGE = (
    *("mnist_fc_256x4_p0_0.05", "mnist_fc_256x6_p0_0.03", "oval21_base", "cifar10_resnet_2b"),
    *("made_1", "made_3"),
)
# What single gates are for: case -> methods and batches.
SPECIAL: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "gelu_6x200": (("crown",), (1,)),
    "lattice_24": (("crown",), (1,)),
    "encoder": (("ibp", "crown"), (1,)),
    "acasxu_1_1_p1": (("alpha",), (1,)),
    "mnist_fc_256x4_p0_0.05": (("ibp",), (128,)),
}
BRANCHING = "mnist_fc 256x4"
"""The network of `benches.branching` whose cases of ReLUs are split, and the rounds of it."""
SPLITS = 16
FLOOR = 0.05
"""Least relative difference that counts as one, however quiet the two runs of "all on" were."""
NARROWING = frozenset({"norm_caps", "ellipsotopes"})
"""Gates that take time for narrower bounds: without them a call may well be faster."""
DECIDED, ENOUGH = 1.25, 3
"""Times the default from which on so many measurements are enough."""
REPEATED, SHORT = 5, 0.005
"""Calls in a row at most, and seconds that they may take: the first finds the caches as another
configuration left them, which doubles the time of a call that reads much and computes little."""
WIDER = 1.001
"""Times the default's mean width from which on a configuration's bounds are wider."""


@dataclass(frozen=True)
class Workload:
    """One column of a table."""

    name: str
    call: Callable[[], Any]


def configurations() -> dict[str, Callable[[], AbstractContextManager[None]]]:
    """Name -> context in which to measure. "all on" comes twice, for the noise."""
    gates = list(tuning.GATES)
    found: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "all on": lambda: tuning.disabled(),
        "all off": lambda: tuning.only(),
    }
    for gate in gates:
        found[f"only {gate}"] = lambda gate=gate: tuning.only(gate)  # type: ignore[misc]
    for gate in gates:
        found[f"without {gate}"] = lambda gate=gate: tuning.disabled(gate)  # type: ignore[misc]
    found["all on again"] = lambda: tuning.disabled()
    return found


def workloads(chosen: Case, batches: tuple[int, ...], methods: tuple[str, ...]) -> list[Workload]:
    """The columns of one case."""
    result = []
    for method in methods:
        for batch in batches:
            box = chosen.boxes(batch)

            def call(box: Any = box, method: str = method) -> Any:
                return bounds(chosen.network, box, method=method)

            suffix = f", {batch} boxes" if batch > 1 else ""
            result.append(Workload(f"{chosen.name} {method}{suffix}", call))
    return result


@dataclass
class Figures:
    """Of one column: configuration -> least processor seconds of a call, and mean width."""

    seconds: dict[str, float]
    widths: dict[str, float]


def splits() -> Workload:
    """Branch and bound over cases of ReLUs."""
    from benches.branching import rounds

    # What shares the work is chosen where the tree is planted.
    return Workload(f"{BRANCHING}, {SPLITS} rounds of splits", lambda: rounds(BRANCHING, SPLITS)())


def measure(workload: Workload, rounds: int, patience: float) -> Figures:
    """Least processor seconds of one call under each configuration."""
    best: dict[str, float] = {}
    widths: dict[str, float] = {}
    spent: dict[str, float] = {}
    seen: Any = None
    for turn in range(rounds + 1):
        for name, context in configurations().items():
            # Slow configurations (every neuron bounded, dense frames) get one measurement.
            if spent.get(name, 0.0) > patience or (turn > ENOUGH and _decided(name, best)):
                continue
            with context():
                start = time.perf_counter()
                found, took = least(workload.call)
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
            if turn or spent[name] > patience:  # the first round warms up
                best[name] = min(best.get(name, np.inf), took)
            if hasattr(found, "lower"):
                widths[name] = float(np.mean(found.upper.astype(np.float64) - found.lower))
                seen = _overlap(workload.name, name, found, seen)
    return Figures(best, widths)


def least(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and the least processor seconds of it and of its repetitions."""
    best, start = np.inf, time.perf_counter()
    for _ in range(REPEATED):
        cpu = time.process_time()
        found = call()
        best = min(best, time.process_time() - cpu)
        if time.perf_counter() - start > SHORT:
            break
    return found, best


def _decided(name: str, best: dict[str, float]) -> bool:
    return best[name] > DECIDED * min(best["all on"], best["all on again"])


def _overlap(workload: str, name: str, found: Any, seen: Any) -> Any:
    """Sound bounds of one set overlap: disjoint ones would mean that a gate changes the answer."""
    if seen is not None and not ((found.lower <= seen[1]) & (seen[0] <= found.upper)).all():
        raise SystemExit(f"{workload}: bounds with {name!r} contradict those measured before")
    if seen is None:
        return found.lower, found.upper
    return np.maximum(found.lower, seen[0]), np.minimum(found.upper, seen[1])


def noise(seconds: dict[str, float]) -> float:
    """Relative difference of the two runs of the default."""
    first, again = seconds["all on"], seconds["all on again"]
    return abs(first - again) / min(first, again)


def wider(figures: Figures, name: str) -> float:
    """Mean width of a configuration, times the default's; 1 where there are no bounds."""
    widths = figures.widths
    return widths[name] / widths["all on"] if widths.get("all on") else 1.0


def faster_than_default(figures: Figures) -> list[str]:
    """Configurations that beat the default beyond the noise, their bounds no wider."""
    seconds = figures.seconds
    default = min(seconds["all on"], seconds["all on again"])
    found = []
    for name, took in seconds.items():
        spared = sum(max(0.0, default - seconds[f"without {gate}"]) for gate in _narrowing(name))
        limit = (default - spared) * (1 - max(3 * noise(seconds), FLOOR))
        if took < limit and wider(figures, name) <= WIDER:
            found.append(name)
    return found


def _narrowing(name: str) -> frozenset[str]:
    """Gates that narrow bounds and are off in a configuration."""
    with configurations()[name]():
        return tuning.off() & NARROWING


def tables(results: dict[str, Figures]) -> Iterator[str]:
    """Markdown tables of at most four columns: milliseconds, and times the default."""
    columns = list(results)
    for start in range(0, len(columns), 4):
        part = columns[start : start + 4]
        rows = []
        for name in configurations():
            cells = []
            for column in part:
                figures, seconds = results[column], results[column].seconds
                share = seconds[name] / min(seconds["all on"], seconds["all on again"])
                mark = " **faster**" if name in faster_than_default(figures) else ""
                width = wider(figures, name)
                mark += f" {width:.3g}× as wide" if abs(width - 1) > WIDER - 1 else ""
                cells.append(f"{seconds[name] * 1e3:.3g} ({share:.2f}×){mark}")
            rows.append((name, *cells))
        noises = [f"{noise(results[column].seconds):.1%}" for column in part]
        rows.append(("noise", *noises))
        yield markdown(("milliseconds (× default)", *part), rows, (False, *[True] * len(part)))


def page(groups: dict[str, dict[str, Figures]]) -> str:
    """The whole document; title -> column -> figures."""
    from gamma.cli.measuring import describe_machine

    about = describe_machine()
    lines = [
        "# Ablation",
        "",
        "Generated by `make ablate`; do not edit. Every optimisation is a gate of `gamma.tuning`;\n"
        "this page says what each is worth alone and in company. Figures are the least processor\n"
        "time of one call; a configuration that beats the default (all on) beyond the noise is\n"
        "marked, and is a bug of the default.",
        "",
        f"Measured on {time.strftime('%Y-%m-%d', time.gmtime())}: {about['processor']}, "
        f"{about['isa']},\n{about['blas']}, {about['threads']} BLAS thread(s), load average "
        f"{os.getloadavg()[0]:.1f}.",
        "",
        "| gate | what it does |\n| --- | --- |",
    ]
    lines[-1] += "".join(f"\n| `{name}` | {text} |" for name, text in tuning.GATES.items())
    for title, results in groups.items():
        if results:
            lines += ["", f"## {title}"]
            for table in tables(results):
                lines += ["", table]
    columns = {c: f for results in groups.values() for c, f in results.items()}
    marked = {c: names for c, f in columns.items() if (names := faster_than_default(f))}
    lines += ["", "## Verdict", ""]
    if not marked:
        lines.append("No configuration beats the default beyond the noise.")
    lines += [f"- {column}: {', '.join(which)}" for column, which in marked.items()]
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--cases", help="comma-separated; default: small and large ones")
    parser.add_argument("--methods", default="ibp,crown")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--patience", type=float, default=2.0, help="seconds per configuration")
    parser.add_argument("--print", action="store_true", help="to stdout, write nothing")
    parser.add_argument("--resume", action="store_true", help=f"keep columns in {KEPT.name}")
    parser.add_argument("--most", type=float, default=np.inf, help="seconds, then stop: status 2")
    return parser.parse_args()


def kept() -> dict[str, Figures]:
    """Columns that a run with --resume measured, with today's gates."""
    found = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    known, columns = configurations().keys(), {c: Figures(**f) for c, f in found.items()}
    return {column: f for column, f in columns.items() if f.seconds.keys() == known}


def plan(args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], list[Workload]]]]:
    """Title of the group, and what makes the columns of a case."""
    known = {*names(args.data), *made.NAMES, BRANCHING}
    known &= set(args.cases.split(",")) if args.cases else known
    methods, data = tuple(args.methods.split(",")), args.data
    for title, cases in (("Small networks", SMALL), ("Large networks", LARGE)):
        for name in (name for name in cases if name in known):
            # A batch of large convolutions with every gate off takes minutes and says nothing new.
            all_of_them = cases is SMALL or "mnist" in name
            batches = tuple(b for b in args.batches if b == 1 or all_of_them)
            yield title, partial(_columns, name, data, batches, methods)
    for name, (only, batches) in SPECIAL.items():
        if name in known:
            yield "What single gates are for", partial(_columns, name, data, batches, only)
    if BRANCHING in known:
        yield "What single gates are for", lambda: [splits()]


def _columns(name: str, data: Path, batches: Any, methods: Any) -> list[Workload]:
    return workloads(read(name, data), batches, methods)


def main() -> int:
    """Measure and write the page; 1 when the default loses beyond the noise."""
    args = _arguments()
    before, started = kept() if args.resume else {}, time.perf_counter()
    groups: dict[str, dict[str, Figures]] = {}
    for title, columns in plan(args):
        for workload in columns():
            if workload.name not in before:
                if time.perf_counter() - started > args.most:
                    return 2
                print(f"{time.perf_counter() - started:4.0f} s", workload.name, file=sys.stderr)
                before[workload.name] = measure(workload, args.rounds, args.patience)
                if args.resume:
                    KEPT.parent.mkdir(exist_ok=True)
                    KEPT.write_text(json.dumps({c: asdict(f) for c, f in before.items()}))
            groups.setdefault(title, {})[workload.name] = before[workload.name]
    text = page(groups)
    if args.print:
        print(text)
    else:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text)
    return int(any(faster_than_default(f) for results in groups.values() for f in results.values()))


if __name__ == "__main__":
    heap.own()
    sys.exit(main())
