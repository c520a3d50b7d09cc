"""Networks of the benchmark data survive save and load: same outputs, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gamma.formats.detect import load
from gamma.formats.save import save

BENCHMARKS = (
    *("ACC", "acasxu", "cifar10_resnet", "collins_rul_cnn", "marabou_cifar10", "mnist_fc"),
    *("nn4sys", "oval21", "reach_prob_density", "rl_benchmarks", "sri_resnet_a", "test"),
    *("tllverifybench", "verivital", "vit"),
)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_saved_network_is_the_same(shared: Path, tmp_path: Path, name: str) -> None:
    models = sorted((shared / "vnncomp" / name / "onnx").rglob("*.onnx*"))[:3]
    assert models
    for model in models:
        net = load(model.with_name(model.name.removesuffix(".gz")))
        save(net, tmp_path / "net.safetensors")
        again = load(tmp_path / "net.safetensors")
        assert (again.parameters, len(again.nodes)) == (net.parameters, len(net.nodes))
        x = np.random.default_rng(0).random((4, *net.input_shape), np.float32)
        assert np.array_equal(net.forward(x), again.forward(x))
        assert np.array_equal(net.forward(x, np.float64), again.forward(x, np.float64))
