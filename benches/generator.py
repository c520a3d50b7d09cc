"""Bounds of a convolutional generator, 5 inputs and 160,000 neurons, by method.

python -m benches.generator [--methods forward+crown,crown] [--radius R] [--timeout S]

Rows of all neurons (crown) take minutes where linear forms in the inputs take a fraction of a
second; ``auto`` has to choose these by itself.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import gamma
from benches.made import case
from gamma.errors import ResourceError
from gamma.propagate import bounding_method


def main() -> None:
    """One line for each method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", default="ibp,forward,crown-ibp,forward+crown")
    parser.add_argument("--radius", type=float, default=0.01)
    parser.add_argument("--timeout", type=float, default=60.0)
    args = parser.parse_args()
    found = case("generator")
    network, x = found.network, (found.lower + found.upper) / 2
    box = gamma.Box.linf(x.reshape(network.input_shape), args.radius)
    neurons = sum(node.size for node in network.nodes if node.op.name != "Relu")
    print(f"{neurons:,} neurons; auto takes {bounding_method(network, x.size)}")
    for method in args.methods.split(","):
        start = time.perf_counter()
        try:
            bounds = gamma.bounds(network, box, method=method, timeout=args.timeout)
            width = f"mean width {np.mean(bounds.upper - bounds.lower):.4g}"
        except ResourceError:
            width = "not done"
        print(f"{method:14} {time.perf_counter() - start:8.2f} s  {width}", flush=True)


if __name__ == "__main__":
    main()
