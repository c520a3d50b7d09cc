"""What each gate is worth: all off, each alone, all on, each removed, at small and large sizes.

    python -m benches.ablate                    writes docs/performance/ablation.md
    python -m benches.ablate --cases digits_cnn --rounds 3 --print
    python -m benches.ablate --resume --most 300   goes on where such a run ended, about 300 s long

Rounds go through every configuration in turn, so that a machine that slows down slows them all; the
figure is the least processor time of one call. "All on" is measured twice: the difference is the
noise, and a configuration faster than the default by more than three times it is marked.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benches.cases import DATA, ROOT, Case, case, names
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
FLOOR = 0.05
"""Least relative difference that counts as one, however quiet the two runs of "all on" were."""


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


def measure(workload: Workload, rounds: int, patience: float) -> dict[str, float]:
    """Least processor seconds of one call under each configuration."""
    best: dict[str, float] = {}
    spent: dict[str, float] = {}
    seen: Any = None
    for turn in range(rounds + 1):
        for name, context in configurations().items():
            # Slow configurations (every neuron bounded, dense frames) get one measurement.
            if spent.get(name, 0.0) > patience:
                continue
            with context():
                start, cpu = time.perf_counter(), time.process_time()
                found = workload.call()
                took = time.process_time() - cpu
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
            if turn or spent[name] > patience:  # the first round warms up
                best[name] = min(best.get(name, np.inf), took)
            seen = _overlap(workload.name, name, found, seen)
    return best


def _overlap(workload: str, name: str, found: Any, seen: Any) -> Any:
    """Sound bounds of one set overlap: disjoint ones would mean that a gate changes the answer."""
    if seen is not None and not ((found.lower <= seen[1]) & (seen[0] <= found.upper)).all():
        raise SystemExit(f"{workload}: bounds with {name!r} contradict those measured before")
    if seen is None:
        return found.lower, found.upper
    return np.maximum(found.lower, seen[0]), np.minimum(found.upper, seen[1])


def noise(figures: dict[str, float]) -> float:
    """Relative difference of the two runs of the default."""
    first, again = figures["all on"], figures["all on again"]
    return abs(first - again) / min(first, again)


def faster_than_default(figures: dict[str, float]) -> list[str]:
    """Configurations that beat the default beyond the noise."""
    default = min(figures["all on"], figures["all on again"])
    limit = default * (1 - max(3 * noise(figures), FLOOR))
    return [name for name, seconds in figures.items() if seconds < limit]


def tables(results: dict[str, dict[str, float]]) -> Iterator[str]:
    """Markdown tables of at most four columns: milliseconds, and times the default."""
    columns = list(results)
    for start in range(0, len(columns), 4):
        part = columns[start : start + 4]
        rows = []
        for name in configurations():
            cells = []
            for column in part:
                figures = results[column]
                share = figures[name] / min(figures["all on"], figures["all on again"])
                mark = " **faster**" if name in faster_than_default(figures) else ""
                cells.append(f"{figures[name] * 1e3:.3g} ({share:.2f}×){mark}")
            rows.append((name, *cells))
        noises = [f"{noise(results[column]):.1%}" for column in part]
        rows.append(("noise", *noises))
        yield markdown(("milliseconds (× default)", *part), rows, (False, *[True] * len(part)))


def page(small: dict[str, dict[str, float]], large: dict[str, dict[str, float]]) -> str:
    """The whole document."""
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
    for title, results in (("Small", small), ("Large", large)):
        if results:
            lines += ["", f"## {title} networks"]
            for table in tables(results):
                lines += ["", table]
    marked = {c: s for r in (small, large) for c, f in r.items() if (s := faster_than_default(f))}
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
    parser.add_argument("--patience", type=float, default=4.0, help="seconds per configuration")
    parser.add_argument("--print", action="store_true", help="to stdout, write nothing")
    parser.add_argument("--resume", action="store_true", help=f"keep columns in {KEPT.name}")
    parser.add_argument("--most", type=float, default=np.inf, help="seconds, then stop: status 2")
    return parser.parse_args()


def kept() -> dict[str, dict[str, float]]:
    """Columns that a run with --resume measured, with today's gates."""
    found = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    names = configurations().keys()
    return {column: figures for column, figures in found.items() if figures.keys() == names}


def main() -> int:
    """Measure and write the page; 1 when the default loses beyond the noise."""
    args = _arguments()
    known = args.cases.split(",") if args.cases else names(args.data)
    before, started = kept() if args.resume else {}, time.perf_counter()
    groups: list[dict[str, dict[str, float]]] = []
    for chosen in (SMALL, LARGE):
        results: dict[str, dict[str, float]] = {}
        for name in (n for n in known if n in chosen):
            # A batch of large convolutions with every gate off takes minutes and says nothing new.
            batches = tuple(b for b in args.batches if b == 1 or chosen is SMALL or "mnist" in name)
            for workload in workloads(
                case(name, args.data), batches, tuple(args.methods.split(","))
            ):
                if workload.name not in before:
                    if time.perf_counter() - started > args.most:
                        return 2
                    print(workload.name, file=sys.stderr)
                    before[workload.name] = measure(workload, args.rounds, args.patience)
                    if args.resume:
                        KEPT.parent.mkdir(exist_ok=True)
                        KEPT.write_text(json.dumps(before))
                results[workload.name] = before[workload.name]
        groups.append(results)
    text = page(*groups)
    if args.print:
        print(text)
    else:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text)
    return int(any(faster_than_default(f) for results in groups for f in results.values()))


if __name__ == "__main__":
    heap.own()
    sys.exit(main())
