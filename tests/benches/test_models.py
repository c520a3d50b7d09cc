"""Files of public shapes: small ones are written and read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from benches import models
from gamma.formats.folder import open_folder
from gamma.formats.gguf import open_gguf

TINY = {
    "qwen3-0.6b": {"layers": 2, "hidden": 256, "heads": 4, "kv_heads": 2, "head_size": 64},
    "qwen3-32b": {"layers": 3, "hidden": 512, "heads": 4, "kv_heads": 2, "head_size": 128},
    "gpt2": {"layers": 1, "hidden": 256, "heads": 4, "kv_heads": 4},
}


@pytest.mark.parametrize("kind", ["Q6_K", "Q4_K", "Q8_0"])
@pytest.mark.parametrize("name", TINY)
def test_decoders(tmp_path: Path, name: str, kind: str) -> None:
    model = replace(models.DECODERS[name], inner=768, vocabulary=1000, **TINY[name])
    path = tmp_path / "x.gguf"
    models.write_gguf(path, model, kind)
    found = open_gguf(path)
    shapes = (models.gpt2 if name == "gpt2" else models.qwen3)(model)
    assert {key: weight.shape for key, weight in found.items()} == shapes
    assert {tensor.name for tensor in GGUFReader(path).tensors} == set(shapes)
    assert found.whole(f"{model.architecture}.block_count") == model.layers
    for key, weight in found.items():
        values = weight.array()
        if values.ndim > 1:
            assert weight.kind == kind.lower()
            assert abs(values.std() - models.SIGMA) < 0.002 and abs(values.mean()) < 0.002
        else:
            assert abs(values.mean() - ("norm" in key and key.endswith("weight"))) < 0.1
    stored = sum(info.end - info.begin for info in found.tensors.values())
    assert (path.stat().st_size < stored) == model.shared


def test_whisper_and_a_deep_network(tmp_path: Path) -> None:
    path = tmp_path / "new" / "whisper" / "model.safetensors"
    models.main(["whisper-tiny", "--layers", "1", "-o", str(path)])
    found = open_folder(path.parent)
    assert found.model_type == "whisper"
    assert found["model.encoder.conv1.weight"].shape == (384, 80, 3)
    assert found["model.encoder.layers.0.fc1.weight"].kind == "f16"
    assert "model.encoder.layers.0.self_attn.k_proj.bias" not in found
    models.main(["deep-mlp", "--layers", "2", "-o", str(tmp_path / "deep.safetensors")])
    assert np.isfinite((tmp_path / "deep.safetensors").stat().st_size)


@pytest.mark.parametrize(
    "words",
    [("-o", "file/deep.safetensors"), ("-o", "."), ("-o", "x", "--seed", "-1"),
     ("-o", "x", "--layers", "0")],
)  # fmt: skip
def test_what_cannot_be_written_is_one_line(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(SystemExit) as ended:
        models.main(["deep-mlp", *words])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("models.py: ") and said.count("\n") == 1
