"""What optimised slopes are worth: method alpha beside crown on mnist_fc 256x4 at ε = 0.03.

    python -m benches.slopes [--network NAME] [--radius EPS] [--rounds N]

The margins of every property of that kind, as `gamma verify` asks for them, by both methods in
turn: the mean of all margins, how many are proved, and the least processor time of several rounds.
Needs the benchmark data (`benches.cases.DATA`).
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import gamma
from benches.cases import DATA, load
from gamma.network.graph import Network
from gamma.propagate.analysis import lower_bounds
from gamma.propagate.specification import Specification
from gamma.tensor.box import Box
from gamma.verification.targets import Targets

METHODS = ("crown", "alpha")


def questions(folder: Path, network: str, radius: str) -> list[tuple[Network, Box, Specification]]:
    """Network, box and margins of each property of the benchmark."""
    found = []
    nets: dict[str, Network] = {}
    with (folder / "instances.csv").open(newline="") as stream:
        instances = [(row[0], row[1]) for row in csv.reader(stream)]
    for onnx, vnnlib in instances:
        if network not in onnx or not vnnlib.endswith(f"_{radius}.vnnlib"):
            continue
        net = nets.setdefault(onnx, load(folder / onnx))
        file = folder / vnnlib
        prop = gamma.read_vnnlib(file if file.exists() else file.with_name(file.name + ".gz"))
        targets, (region,) = Targets.of(prop), prop.regions
        ends = (np.array([float(v) for v in end]) for end in (region.lower, region.upper))
        box = Box(*(end.reshape(1, *net.input_shape) for end in ends))
        rows = targets.rows(targets.askable())
        where = np.zeros(len(rows.constant), np.int64)
        asked = Specification(rows.rows_y, rows.rows_x, rows.constant, where, rows.exact)
        found.append((net, box, asked))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="256x4")
    parser.add_argument("--radius", default="0.03")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    asked = questions(DATA / "vnncomp" / "mnist_fc", args.network, args.radius)
    if not asked:
        print(f"no property of {args.network} at {args.radius} in {DATA}", file=sys.stderr)
        return 2
    best = dict.fromkeys(METHODS, np.inf)
    margins = {}
    for _ in range(args.rounds):
        for method in METHODS:
            start = time.process_time()
            found = [lower_bounds(*one, method=method).lower for one in asked]
            best[method] = min(best[method], time.process_time() - start)
            margins[method] = np.concatenate(found)
    for method in METHODS:
        lower = margins[method]
        print(
            f"{method:6} {len(asked)} properties: mean margin {lower.mean():.3f}, "
            f"{(lower > 0).sum()} of {len(lower)} proved, {best[method] * 1e3:.1f} ms, "
            f"{best[method] / best['crown']:.2f} times crown"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
