"""Files that compute in float16 or bfloat16: read as real networks, never promised as float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import gamma
from gamma.cli.main import main
from gamma.errors import UnsupportedError
from gamma.network.graph import Network
from tests.formats.onnx_models import model

DENSE: list[Any] = [("MatMul", ["x", "w"], ["h"], {}), ("Relu", ["h"], ["y"], {})]
PARTLY: list[Any] = [
    ("MatMul", ["x", "w"], ["h"], {}),
    ("Cast", ["h"], ["y"], {"to": TensorProto.FLOAT}),
]


def half(nodes: list[Any]) -> onnx.ModelProto:
    weight = np.arange(6, dtype=np.float16).reshape(3, 2) / np.float16(7)
    return model(nodes, (1, 3), {"w": weight}, dtype=TensorProto.FLOAT16)


def loaded(proto: onnx.ModelProto, folder: Path) -> Network:
    path = folder / "test.onnx"
    path.write_bytes(proto.SerializeToString())
    return gamma.load(path)


@pytest.mark.parametrize("nodes", [DENSE, PARTLY], ids=["all", "partly"])
def test_float32_is_refused_for_float16(nodes: list[Any], tmp_path: Path) -> None:
    net = loaded(half(nodes), tmp_path)
    assert "float16" in net.element_types
    box = gamma.Box.linf(np.ones(3), 0.1)
    low = gamma.bounds(net, box).lower
    assert np.isfinite(low).all()
    with pytest.raises(UnsupportedError, match=r"test\.onnx.*float16.*real"):
        gamma.bounds(net, box, guarantee="float32")
    with pytest.raises(UnsupportedError, match="float16"):
        gamma.verify(net, gamma.robustness(box, label=0), guarantee="float32")
    result = gamma.verify(net, gamma.robustness(box, label=0), attack=False, method="crown")
    assert any("float16" in note and "not covered" in note for note in result.notes)
    assert result.to_dict()["model"]["element_types"] == list(net.element_types)


def test_float32_files_say_nothing(tmp_path: Path) -> None:
    net = loaded(model(DENSE, (1, 3), {"w": np.ones((3, 2), np.float32)}), tmp_path)
    assert net.element_types == ("float32",)
    box = gamma.Box.linf(np.ones(3), 0.1)
    assert gamma.verify(net, gamma.robustness(box, label=0), guarantee="float32").notes == ()


def test_commands_name_the_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(half(DENSE).SerializeToString())
    values = tmp_path / "x.npy"
    np.save(values, np.ones((1, 3), np.float32))
    asked = ["bounds", str(path), "--input", str(values), "--epsilon", "0.1"]
    assert main([*asked, "--guarantee", "float32"]) == 2
    assert "float16" in capsys.readouterr().err
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"]["element_types"] == ["float16"]
    assert any("float16" in note for note in found["notes"])
    assert main(["inspect", str(path)]) == 0
    assert "float16" in capsys.readouterr().out
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["element_types"] == ["float16"]
