"""The shipped example networks: three readers of the same weights agree, files are in order."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gamma

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS = EXAMPLES / "digits"
NETWORKS = ("mlp", "cnn")


def test_shipped_files_are_small() -> None:
    files = [path for path in DIGITS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 500_000


@pytest.mark.parametrize("name", NETWORKS)
def test_the_three_forward_passes_agree(name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(DIGITS / f"{name}.onnx")
    x = np.random.default_rng(0).random((50, 1, 8, 8), dtype=np.float32)
    (expected,) = session.run(None, {session.get_inputs()[0].name: x})
    close = {"rtol": 1e-5, "atol": 1e-5 * float(abs(expected).max())}
    for suffix in ("onnx", "safetensors"):
        net = gamma.load(DIGITS / f"{name}.{suffix}")
        assert net.input_shape == (1, 8, 8) and net.output_shape == (10,)
        np.testing.assert_allclose(net.forward(x), expected, **close)
        np.testing.assert_allclose(net.forward(x, np.float64), expected, **close)


@pytest.mark.parametrize("name", NETWORKS)
def test_both_files_hold_the_same_weights(name: str) -> None:
    x = np.random.default_rng(1).random((20, 1, 8, 8))
    first, second = (gamma.load(DIGITS / f"{name}.{kind}") for kind in ("onnx", "safetensors"))
    assert first.parameters == second.parameters
    np.testing.assert_allclose(
        first.forward(x, np.float64), second.forward(x, np.float64), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_accurate(name: str) -> None:
    """Over 95 % on the 360 test images, and right on all shipped ones."""
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))[4 * 1797 // 5 :]
    net = gamma.load(DIGITS / f"{name}.safetensors")
    scores = net.forward((digits.images[order] / 16)[:, None])
    assert (scores.argmax(1) == digits.target[order]).mean() > 0.95
    for label in range(10):
        image = np.load(DIGITS / "images" / f"digit{label}.npy", allow_pickle=False)
        assert image.dtype == np.float32 and image.shape == (1, 8, 8)
        assert net.forward(image).argmax() == label


def test_properties_are_the_boxes_around_the_images() -> None:
    for label in range(10):
        image = np.load(DIGITS / "images" / f"digit{label}.npy").ravel().astype(np.float64)
        for epsilon in ("0.01", "0.03", "0.05", "0.1"):
            path = DIGITS / "properties" / f"digit{label}_eps{epsilon}.vnnlib"
            prop = gamma.read_vnnlib(path)
            assert (prop.inputs, prop.outputs, len(prop.regions)) == (64, 10, 1)
            region = prop.regions[0]
            assert len(region.unsafe) == 9
            lower = np.array([float(v) for v in region.lower])
            upper = np.array([float(v) for v in region.upper])
            assert np.allclose(lower, np.maximum(image - float(epsilon), 0), atol=1e-12)
            assert np.allclose(upper, np.minimum(image + float(epsilon), 1), atol=1e-12)


def test_instances_name_files_that_exist() -> None:
    with (DIGITS / "instances.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert len(rows) == 2 * 10 * 4
    for network, prop, seconds in rows:
        assert (DIGITS / network).exists() and (DIGITS / prop).exists() and float(seconds) > 0


@pytest.mark.slow
def test_training_writes_the_same_set_of_files(tmp_path: Path) -> None:
    """The script runs from scratch (few epochs), twice with the same bytes."""
    pytest.importorskip("sklearn")
    for folder in ("a", "b"):
        command = [sys.executable, EXAMPLES / "train_digits.py", "--epochs", "8"]
        environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
        subprocess.run(
            [*command, "--output", tmp_path / folder], check=True, env=environment, timeout=120
        )
    first, second = tmp_path / "a", tmp_path / "b"
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert names == sorted(p.relative_to(DIGITS) for p in DIGITS.rglob("*") if p.is_file())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
