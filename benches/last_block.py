"""CROWN through the last blocks of a decoder: margins of the best token over the next 64.

    python benches/models.py qwen3-0.6b --type Q6_K -o qwen3-0.6b.gguf
    python -m benches.last_block qwen3-0.6b.gguf [--blocks 1] [--epsilon 1e-3] [--docs]

The set lies around the state that the prompt truly has before these blocks, every entry perturbed.
Evaluating that state is not counted. ``--docs`` writes docs/performance.md.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

import gamma
from benches.report import replace_block
from gamma.propagate.analysis import lower_bounds
from gamma.propagate.specification import Specification
from gamma.runtime import workers

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
IDS = (1, 2, 3, 4)


def margins(scores: np.ndarray, rows: int) -> Specification:
    """The best score less each of the next ``rows``."""
    best, *others = np.argsort(scores)[::-1][: rows + 1]
    output = np.zeros((rows, len(scores)))
    output[:, best], output[np.arange(rows), others] = 1.0, -1.0
    return Specification(output, None, np.zeros(rows), np.zeros(rows, np.int64))


def measured(path: Path, blocks: int, epsilon: float, rows: int) -> str:
    """One line of the table."""
    model = gamma.open_model(path)
    first = model.config.layers - blocks
    x = np.asarray(model.states(model.embed(IDS), first), np.float32)
    net = model.network(len(IDS), block=first)
    asked = margins(net.forward(x.astype(np.float64)), rows)
    begun, used = time.perf_counter(), time.process_time()
    found = lower_bounds(net, gamma.Box.linf(x, epsilon), asked)
    wall, cpu = time.perf_counter() - begun, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    proved = int((found.lower > 0).sum())
    return (
        f"| {path.stem} | {blocks} | {epsilon:g} | {rows} | {wall:.1f} | {cpu:.1f} "
        f"| {workers.workers()} | {peak:.0f} | {proved} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--epsilon", type=float, default=1e-3)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--docs", action="store_true", help="write the table there")
    asked = parser.parse_args()
    lines = [
        "| model | blocks | radius | rows | wall s | processor s | threads | peak MB | proved |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        measured(asked.model, asked.blocks, asked.epsilon, asked.rows),
    ]
    print("\n".join(lines))
    if asked.docs:
        replace_block(PAGE, "last block", "\n".join(lines))


if __name__ == "__main__":
    main()
