"""Thirty ordinary PyTorch networks through both of PyTorch's exporters: which load and agree.

    python tests/interop/torch_exports.py [--only WORD]

Needs ``pip install torch==2.13.0 onnxscript``; without them the script says so and ends.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import gamma
from gamma.errors import GammaError

try:
    import onnxscript  # noqa: F401  (the newer exporter needs it)
    import torch
    from torch import nn
except ImportError as missing:
    sys.exit(f"skipped: {missing}; pip install torch==2.13.0 onnxscript")


class Call(nn.Module):
    """A module of one function, to write a forward pass in a line."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: Any) -> Any:
        return self.function(x, *self.parts)


def dense(*middle: nn.Module, width: int = 8) -> nn.Module:
    """An activation between two dense layers."""
    return nn.Sequential(nn.Linear(6, 8), *middle, nn.Linear(width, 3))


def image(*middle: nn.Module, channels: int = 4) -> nn.Module:
    """Image layers between a convolution and a classifier."""
    tail = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), *middle, *tail)


def block() -> nn.Module:
    """A residual block."""
    inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    return image(Call(lambda x, f: torch.relu(x + f(x)), inner))


def networks() -> dict[str, nn.Module]:
    """Name to network; those that start with "image" take (1, 2, 8, 8), the others (1, 6)."""
    where = Call(lambda x: torch.where(x > 0, x, 0.1 * x))
    return {
        "relu": dense(nn.ReLU()),
        "leaky": dense(nn.LeakyReLU(0.1)),
        "prelu": dense(nn.PReLU(8)),
        "gelu": dense(nn.GELU()),
        "gelu tanh": dense(nn.GELU(approximate="tanh")),
        "silu": dense(nn.SiLU()),
        "mish": dense(nn.Mish()),
        "softplus": dense(nn.Softplus()),
        "softsign": dense(nn.Softsign()),
        "elu": dense(nn.ELU(0.5)),
        "celu": dense(nn.CELU(0.7)),
        "selu": dense(nn.SELU()),
        "hardswish": dense(nn.Hardswish()),
        "hardsigmoid": dense(nn.Hardsigmoid()),
        "relu6": dense(nn.ReLU6()),
        "hardtanh": dense(nn.Hardtanh(-0.5, 0.7)),
        "threshold": dense(nn.Threshold(0.1, 0.05)),
        "hardshrink": dense(nn.Hardshrink(0.3)),
        "softshrink": dense(nn.Softshrink(0.3)),
        "tanhshrink": dense(nn.Tanhshrink()),
        "logsigmoid": dense(nn.LogSigmoid()),
        "where": dense(where),
        "dropout": dense(nn.Dropout(0.5), nn.Sigmoid(), nn.BatchNorm1d(8), nn.Tanh()),
        "glu free": dense(Call(lambda x: torch.cat([x.clamp(0, 1), x.abs()], 1)), width=16),
        "image batch norm": image(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        "image residual": block(),
        "image depthwise": image(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Hardswish()),
        "image upsample": image(nn.Upsample(scale_factor=2), nn.ReLU(), nn.AvgPool2d(2)),
        "image bilinear": image(nn.Upsample(scale_factor=2, mode="bilinear"), nn.ReLU()),
        "image shuffle": image(nn.PixelShuffle(2), nn.ReLU(), channels=1),
    }


def export(net: nn.Module, x: Any, path: Path, dynamo: bool) -> None:
    """Write the file, without the exporters' chatter."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x,), str(path), dynamo=dynamo)


def outcome(net: nn.Module, x: Any, path: Path) -> str:
    """ "agrees", or what is wrong."""
    with torch.no_grad():
        expected = net(x).numpy()
    try:
        loaded = gamma.load(path)
        point = x.numpy().reshape(loaded.input_shape).astype(np.float64)
        found = loaded.forward(point[None], np.float64).reshape(expected.shape)
        bounds = gamma.bounds(loaded, gamma.Box.linf(point, 0.01), method="crown")
    except GammaError as error:
        return f"refused: {str(error).removeprefix(str(path))}"
    room = 1e-5 * (1 + abs(expected))
    lower, upper = (np.asarray(v).reshape(expected.shape) for v in (bounds.lower, bounds.upper))
    if (abs(found - expected) > room).any():
        return f"wrong: values differ by {abs(found - expected).max():.3g}"
    inside = (lower <= expected + room).all() and (expected - room <= upper).all()
    return "agrees" if inside else "wrong: outside the bounds"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="run networks whose name holds this word")
    only = parser.parse_args().only
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    wrong = good = count = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, net in networks().items():
            if only not in name:
                continue
            x = torch.rand(1, 2, 8, 8) if name.startswith("image") else 2 * torch.rand(1, 6) - 1
            found = []
            for dynamo in (False, True):
                path = Path(scratch) / "net.onnx"
                try:
                    export(net.eval(), x, path, dynamo)
                except torch.onnx.errors.OnnxExporterError as error:
                    found.append(f"not exported: {str(error).splitlines()[0]}")
                else:
                    found.append(outcome(net, x, path))
                print(
                    f"{name:18} {'dynamo' if dynamo else 'script':7} {found[-1][:200]}", flush=True
                )
            count += 1
            read = [f for f in found if not f.startswith("not exported")]
            good += bool(read) and all(f == "agrees" for f in read)
            wrong += any(f.startswith("wrong") for f in found)
    print(f"{good} of {count} agree, from each exporter that takes them, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
