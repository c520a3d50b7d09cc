"""The vision transformers of VNN-COMP: bounds beside another tool's, verdicts beside consensus."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import gamma
from tests.reference.test_reference import case

PGD = "pgd_2_3_16"


@pytest.mark.parametrize("scale", ["0.25", "1.0"])
def test_linear_bounds_are_at_least_as_narrow(shared: Path, scale: str) -> None:
    record, net, box = case(shared, f"vit_{PGD}_{scale}")
    (peer,) = (r for r in record["records"] if r["method"] == "CROWN")
    out = gamma.bounds(net, box, method="crown")
    width = np.subtract(out.upper, out.lower, dtype=np.float64)
    assert width.mean() <= peer["width_mean"]
    y = np.array(record["center_output_f64"])
    assert (out.lower.ravel() <= y).all() and (y <= out.upper.ravel()).all()


def test_no_verdict_contradicts_the_consensus(shared: Path) -> None:
    """Of the small network; expected are proofs, and properties that nobody decided."""
    folder = shared / "vnncomp" / "vit"
    rows = list(csv.DictReader((folder / "expected.csv").open()))
    net = gamma.load(folder / "onnx" / f"{PGD}.onnx.gz")
    mine = [row for row in rows if PGD in row["onnx"]][:3]
    for row in mine:
        prop = gamma.read_vnnlib(folder / f"{row['vnnlib']}.gz")
        found = gamma.verify(net, prop, method="crown").verdict
        assert found != {"unsat": "violated", "sat": "verified"}.get(row["expected"])
    assert len(mine) == 3
