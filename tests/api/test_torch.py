"""A module of PyTorch becomes the same network; without torch, one line says what is missing."""

from __future__ import annotations

import gc
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gamma
from gamma.errors import FormatError, UsageError

HAS = importlib.util.find_spec("torch") is not None


@pytest.mark.skipif(not HAS, reason="torch is not installed")
def test_a_module_is_the_same_network() -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(), nn.Flatten(),
        nn.Linear(108, 4),
    )  # fmt: skip
    net = gamma.from_torch(module, torch.zeros(1, 1, 8, 8))
    assert module.training and net.source is not None
    path = Path(net.source.path)
    assert path.exists()
    x = np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(np.float32)
    with torch.no_grad():
        wanted = module.eval()(torch.from_numpy(x)).numpy()
    assert np.abs(net(x) - wanted).max() < 1e-4
    box = gamma.Box.linf(x[0], 0.01)
    out = gamma.bounds(net, box)
    assert out.contains(wanted[0].astype(np.float64))
    wrong = gamma.verify(net, gamma.robustness(box, int(wanted[0].argmin())))
    assert wrong.verdict == "violated" and wrong.counterexample is not None
    del net, out, wrong
    gc.collect()
    assert not path.exists()
    with pytest.raises(UsageError, match="example_input"):
        gamma.from_torch(module, np.zeros((1, 1, 8, 8)))
    with pytest.raises(UsageError, match="Module"):
        gamma.from_torch(torch.zeros(1), torch.zeros(1))


@pytest.mark.skipif(HAS, reason="torch is installed")
def test_without_torch_one_line_says_so() -> None:
    with pytest.raises(UsageError, match="pip install torch"):
        gamma.from_torch(object(), object())


def test_a_checkpoint_is_pointed_to_the_exporter(tmp_path: Path) -> None:
    path = tmp_path / "mlp.pt"
    path.write_bytes(b"PK\x03\x04" + bytes(60))
    with pytest.raises(FormatError, match=r"gamma\.from_torch"):
        gamma.load(path)


def test_torch_is_imported_only_when_asked_for() -> None:
    code = "import gamma, sys; gamma.load, gamma.from_torch; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
