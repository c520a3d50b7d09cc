"""Verdicts on instances of the benchmark data, the witnesses checked by another route."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import gamma
from tests.conftest import open_data

SAT = ("ACC", "acasxu", "mnist_fc", "marabou_cifar10", "reach_prob_density", "rl_benchmarks")
SAT += ("sri_resnet_a", "test", "tllverifybench", "verivital", "oval21")


def instances(folder: Path, expected: str) -> list[tuple[str, str]]:
    with (folder / "expected.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["expected"] == expected]
    return [(row["onnx"], row["vnnlib"]) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("folder_name", SAT)
def test_a_witness_holds_for_onnxruntime_and_the_exact_property(
    shared: Path, folder_name: str
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    folder = shared / "vnncomp" / folder_name
    onnx, vnnlib = instances(folder, "sat")[-1]
    net, prop = gamma.load(folder / onnx), gamma.read_vnnlib(folder / vnnlib)
    result = gamma.verify(net, prop, timeout=60)
    assert result.verdict == "violated"
    found = result.counterexample
    assert found is not None and found.outside == 0
    session = runtime.InferenceSession(open_data(folder / onnx), providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    shape = [n if isinstance(n, int) else 1 for n in entry.shape]
    y = session.run(None, {entry.name: found.x.astype(np.float32).reshape(shape)})[0]
    assert prop.is_unsafe(found.x, y) is not None


@pytest.mark.slow
@pytest.mark.parametrize("folder_name", ["test", "nn4sys", "collins_rul_cnn", "verivital"])
def test_a_proof_where_the_consensus_is_unsat(shared: Path, folder_name: str) -> None:
    folder = shared / "vnncomp" / folder_name
    onnx, vnnlib = instances(folder, "unsat")[0]
    net, prop = gamma.load(folder / onnx), gamma.read_vnnlib(folder / vnnlib)
    for guarantee in ("real", "float32"):
        assert gamma.verify(net, prop, guarantee=guarantee, timeout=60).verdict == "verified"
