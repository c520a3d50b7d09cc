"""The shipped example networks: three readers of the same weights agree, files are in order."""

from __future__ import annotations

import csv
import importlib
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
def test_training_script_writes_the_shipped_set_of_files(tmp_path: Path) -> None:
    """From scratch; a few epochs are enough to classify one image of every digit."""
    pytest.importorskip("sklearn")
    command = [sys.executable, EXAMPLES / "train_digits.py", "--epochs", "4", "--output", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    subprocess.run(command, check=True, env=environment, timeout=120)
    names = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert names == sorted(p.relative_to(DIGITS) for p in DIGITS.rglob("*") if p.is_file())
    for name in (n for n in names if n.suffix in (".vnnlib", ".csv")):
        assert (tmp_path / name).read_text().count("\n") == (DIGITS / name).read_text().count("\n")


@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_reproducible(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    training = importlib.import_module("digits_training")
    data = np.random.default_rng(0)
    x, labels = data.random((128, 1, 8, 8)), data.integers(0, 10, 128)

    def trained() -> bytes:
        rng = np.random.default_rng(1)
        net = getattr(training, name)(rng)
        training.train(net, x, labels, rng, epsilon=0.1, epochs=1, decay=0.2)
        return b"".join(layer.weight.tobytes() + layer.bias.tobytes() for layer in net.layers)

    assert trained() == trained()


@pytest.mark.parametrize("name", NETWORKS)
def test_training_gradients_are_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against central differences, for the input and every parameter array."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    training = importlib.import_module("digits_training")
    rng = np.random.default_rng(2)
    net = getattr(training, name)(rng)
    x, seed = rng.random((3, 1, 8, 8)), rng.standard_normal((3, 10))
    net.forward(x)
    arrays = [(x, net.backward(seed))]
    for layer in net.layers:
        arrays += zip((layer.weight, layer.bias), layer.gradients, strict=True)
    for array, gradient in arrays:
        direction = rng.standard_normal(array.shape)
        step = 1e-6
        array += step * direction
        high = (net.forward(x) * seed).sum()
        array -= 2 * step * direction
        low = (net.forward(x) * seed).sum()
        array += step * direction
        exact = float((gradient * direction).sum())
        assert abs((high - low) / (2 * step) - exact) < 1e-5 * (1 + abs(exact))
