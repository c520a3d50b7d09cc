"""Wide boxes on a small classifier of sentence embeddings: 30 inputs, one hidden layer of 128.

python -m benches.wide [--timeout S] [--seeds N] [--shares A,B]

(The shape of VNN-COMP's safenlp: Casadio et al. 2024. Its files are not here, so the network is
trained on two clouds of points.) Each box is a share of the smallest one in which the attack finds
a witness. Most neurons cross 0 there and every input matters, so that splitting gains little.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

import gamma
from gamma import ops
from gamma.network.graph import Builder, Network

INPUTS, HIDDEN = 30, 128
Array = npt.NDArray[Any]


def sentences(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Points of two clouds, each of several clusters, and their labels."""
    centres = rng.normal(size=(2, 4, INPUTS)) * 0.6
    label = rng.integers(0, 2, count)
    x = centres[label, rng.integers(0, 4, count)] + rng.normal(size=(count, INPUTS)) * 0.3
    return x, label


def classifier(seed: int, steps: int = 600) -> tuple[Network, Array]:
    """A trained network, and a point that it classifies well (class 0)."""
    rng = np.random.default_rng(seed)
    x, label = sentences(rng, 2000)
    sizes = (INPUTS, HIDDEN, 2)
    weights = [rng.normal(size=(m, n)) * np.sqrt(2 / n) for n, m in pairwise(sizes)]
    biases = [np.zeros(m) for m in sizes[1:]]
    parts = [*weights, *biases]
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parts]
    for step in range(1, steps + 1):
        chosen = rng.integers(0, len(x), 128)
        batch, truth = x[chosen], label[chosen]
        before = batch @ weights[0].T + biases[0]
        hidden = np.maximum(before, 0)
        score = hidden @ weights[1].T + biases[1]
        share = np.exp(score - score.max(axis=1, keepdims=True))
        error = share / share.sum(axis=1, keepdims=True)
        error[np.arange(len(batch)), truth] -= 1
        error /= len(batch)
        back = (error @ weights[1]) * (before > 0)
        slopes = [back.T @ batch, error.T @ hidden, back.sum(axis=0), error.sum(axis=0)]
        for part, slope, (mean, square) in zip(parts, slopes, moments, strict=True):
            mean += 0.1 * (slope - mean)
            square += 0.001 * (slope**2 - square)
            fair = mean / (1 - 0.9**step), square / (1 - 0.999**step)
            part -= 3e-3 * fair[0] / (np.sqrt(fair[1]) + 1e-8)
    build = Builder(ops.Input(), (INPUTS,))
    first = build.add(ops.Gemm(*(p.astype(np.float32) for p in (weights[0], biases[0]))), 0)
    second = build.add(ops.Relu(), first)
    last = build.add(ops.Gemm(*(p.astype(np.float32) for p in (weights[1], biases[1]))), second)
    margin = _scores(parts, x) @ [1.0, -1.0]
    middle = np.argsort(np.where(label == 0, margin, -np.inf))[-len(x) // 4]
    return build.build(last), x[middle].astype(np.float32)


def _scores(parts: list[Array], x: Array) -> Array:
    return np.maximum(x @ parts[0].T + parts[2], 0) @ parts[1].T + parts[3]


def refuted(net: Network, x: Array, radius: float) -> bool:
    """Whether the attack finds another class within the radius."""
    prop = gamma.robustness(gamma.Box.linf(x, radius), label=0)
    return gamma.attack(net, prop, timeout=3.0) is not None


def smallest(net: Network, x: Array) -> float:
    """The smallest radius at which the attack finds a witness, roughly."""
    low, high = 0.0, 1.0
    while not refuted(net, x, high):
        low, high = high, 2 * high
    for _ in range(8):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if refuted(net, x, middle) else (middle, high)
    return high


def main() -> None:
    """Print what becomes of each box."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shares", default="0.5,0.7,0.8,0.9", metavar="A,B")
    options = parser.parse_args()
    for seed in range(options.seeds):
        net, x = classifier(seed)
        radius = smallest(net, x)
        for share in map(float, options.shares.split(",")):
            prop = gamma.robustness(gamma.Box.linf(x, share * radius), label=0)
            begin, used = time.perf_counter(), time.process_time()
            result = gamma.verify(net, prop, timeout=options.timeout)
            wall, spent = time.perf_counter() - begin, time.process_time() - used
            tree = result.branched
            how = f"{tree.domains:,} on {tree.on}, worst {tree.worst:.4g}" if tree else "no split"
            print(
                f"seed {seed}, {share:g} of radius {radius:.3g}: {result.verdict}, {how}, "
                f"{wall:.1f} s, {spent:.1f} s of processor time",
                flush=True,
            )


if __name__ == "__main__":
    main()
