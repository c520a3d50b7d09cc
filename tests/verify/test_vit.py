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


def test_proofs_where_the_consensus_is_unsat(shared: Path) -> None:
    folder = shared / "vnncomp" / "vit"
    lines = (folder / "expected.csv").read_text().splitlines()
    expected = {row["vnnlib"]: row["expected"] for row in csv.DictReader(lines)}
    net = gamma.load(folder / "onnx" / f"{PGD}.onnx.gz")
    for number in (7396, 8458):
        name = f"vnnlib/{PGD}_{number}.vnnlib"
        found = gamma.verify(net, gamma.read_vnnlib(folder / f"{name}.gz"), method="crown")
        assert (found.verdict, expected[name]) == ("verified", "unsat")
