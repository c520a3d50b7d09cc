"""Which files are models, what is refused and how it is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import gamma
from gamma.architectures.registry import GGUF, architectures, find
from gamma.errors import FormatError, GammaError, UnsupportedError, UsageError
from gamma.formats.model import open_model
from tests.architectures import small_models
from tests.architectures.small_models import BERT, CONFIGS, GPT2, LLAMA, QWEN3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    for kind, config in CONFIGS.items():
        small_models.folder(path / kind, config)
    small_models.gguf(path / "qwen3.gguf", QWEN3)
    return path


def changed(made: Path, path: Path, kind: str, **more: Any) -> Path:
    """A copy of a folder with other values in its config.json; None takes a key out."""
    shutil.copytree(made / kind, path / kind)
    config = {**CONFIGS[kind], **more}
    config = {key: value for key, value in config.items() if value is not KeyError}
    (path / kind / "config.json").write_text(json.dumps(config))
    return path / kind


YARN = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 1000}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0}
REFUSED = [
    ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic' is not known"),
    ("llama", {"rope_scaling": {**YARN, "mscale": 0.7}}, "rope_scaling.mscale: is 0.7: gamma does"),
    ("llama", {"rope_scaling": {**YARN, "truncate": False}}, "rope_scaling.truncate: is False"),
    ("llama", {"num_local_experts": 8}, "num_local_experts.*does not know what this changes"),
    ("llama", {"hidden_act": "gelu_fast"}, "hidden_act.*'gelu_fast' is not known"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
    ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
    ("bert", {"position_embedding_type": "relative_key"}, "relative positions"),
    ("bert", {"is_decoder": True}, "is_decoder"),
    ("bert", {"hidden_act": "quick_gelu"}, "quick_gelu"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "layer by layer"),
    ("gpt2", {"add_cross_attention": True}, "cross-attention"),
    ("llama", {"model_type": "mamba"}, "model_type: is 'mamba', gamma builds networks for"),
]
DAMAGED = [
    ("llama", {"num_attention_heads": KeyError}, "num_attention_heads: is missing"),
    ("llama", {"num_attention_heads": "4"}, "num_attention_heads: is '4', expected a whole"),
    ("llama", {"num_attention_heads": 3}, "no multiple of its 3"),
    ("llama", {"rms_norm_eps": KeyError}, "rms_norm_eps: is missing"),
    ("llama", {"rms_norm_eps": -1.0}, "rms_norm_eps: is -1.0"),
    ("llama", {"tie_word_embeddings": 1}, "tie_word_embeddings: is 1, expected true"),
    ("llama", {"num_key_value_heads": 4}, "k_proj.weight: has shape .8, 16.*16, 16"),
    ("llama", {"num_hidden_layers": 3}, "layers.2.*is missing"),
    ("llama", {"num_hidden_layers": 1 << 30}, "is 1073741824, the file has 21 tensors"),
    ("llama", {"rope_theta": 0}, "rope_theta: is 0, expected a number > 0"),
    (
        "llama",
        {"rope_theta": 10**400},
        "rope_theta: is 1000.*expected a number > 0 and below 1e.30",
    ),
    ("llama", {"num_attention_heads": 1 << 40}, "expected a whole number above 0 and below 2147"),
    ("llama", {"num_key_value_heads": 3}, "num_key_value_heads: is 3, expected a divisor of the 4"),
    ("qwen3", {"head_dim": 7}, "head_dim: is 7, expected an even number"),
    ("llama", {"rope_scaling": {"type": "linear"}}, "rope_scaling.factor: is missing"),
    ("llama", {"rope_scaling": LLAMA3}, "rope_scaling.original_max_position_embeddings: is miss"),
    (
        "llama",
        {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 64}},
        "high_freq_factor: is 4.0, expected more than low_freq_factor",
    ),
    ("llama", {"rope_scaling": {**YARN, "beta_slow": 50}}, "beta_slow 50.0 below beta_fast 32.0"),
    ("llama", {"num_hidden_layers": 1}, "layers.1.*nothing in this architecture uses"),
    ("llama", {"tie_word_embeddings": True}, "lm_head.weight: differs from the token embeddings"),
    ("qwen3", {"head_dim": KeyError}, "q_proj.weight: has shape .24, 16.*512, 16"),
    ("bert", {"num_hidden_layers": 0}, "num_hidden_layers: is 0"),
    ("bert", {"layer_norm_eps": "small"}, "layer_norm_eps"),
    ("whisper", {"num_mel_bins": 7}, "conv1.weight: has shape"),
]


@pytest.mark.parametrize(("kind", "more", "words"), REFUSED)
def test_what_is_not_understood_is_refused_by_name(
    made: Path, tmp_path: Path, kind: str, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnsupportedError, match=words):
        open_model(changed(made, tmp_path, kind, **more))


@pytest.mark.parametrize(("kind", "more", "words"), DAMAGED)
def test_what_does_not_fit_is_named(
    made: Path, tmp_path: Path, kind: str, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(FormatError, match=words):
        open_model(changed(made, tmp_path, kind, **more))


@pytest.mark.parametrize(
    "more",
    [{"rope_theta": 1e-300}, {"rope_scaling": {"type": "linear", "factor": 1e-300}},
     {"rope_scaling": {"type": "yarn", "factor": 1e-300}}],
)  # fmt: skip
def test_positions_that_turn_too_fast_are_refused(
    made: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    model = open_model(changed(made, tmp_path, "llama", **more))
    with pytest.raises(UnsupportedError, match="rotary positions: pairs turn by up to 1e"):
        model.network(2)


def test_values_that_change_nothing(made: Path, tmp_path: Path) -> None:
    """What real files hold beside their hyper-parameters; a default may be absent."""
    idle = {"torch_dtype": "bfloat16", "use_cache": True, "attention_dropout": 0.0}
    idle |= {"rope_scaling": None, "sliding_window": None, "pad_token_id": 1, "mlp_bias": False}
    idle |= {
        "rope_theta": KeyError,
        "rope_parameters": {"rope_type": "default", "rope_theta": 99.0},
    }
    model = open_model(changed(made, tmp_path, "llama", **idle))
    assert model.config.rope is not None and model.config.rope.base == 99.0
    assert model.settings.ready["rope base"] == (99.0, "rope_parameters.rope_theta")
    assert model.settings.ready["layers"] == (2, "num_hidden_layers")


TENSORS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda t: t.pop("model.norm.weight"), "model.norm.weight: is missing"),
    (lambda t: t.update(extra=np.zeros(3, np.float32)), "extra: nothing in this architecture"),
    (lambda t: t.update({"model.norm.weight": np.zeros(3, np.float32)}), "has shape .3,., its"),
    (
        lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": np.zeros(16, np.float32)}),
        "q_proj.bias: nothing in this architecture",
    ),
]


@pytest.mark.parametrize(("change", "words"), TENSORS)
def test_every_tensor_counts(
    made: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    path = changed(made, tmp_path, "llama")
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors")
    with pytest.raises(FormatError, match=words):
        open_model(path)


def test_prefixes_buffers_and_other_parts(made: Path, tmp_path: Path) -> None:
    """Names as other exports have them; buffers are no weights, heads of tasks are said."""
    path = changed(made, tmp_path, "bert")
    tensors = {f"bert.{name}": t for name, t in load_file(path / "model.safetensors").items()}
    tensors["bert.embeddings.position_ids"] = np.arange(12)[None]
    tensors["classifier.weight"] = np.zeros((2, 16), np.float32)
    save_file(tensors, path / "model.safetensors")
    model = open_model(path)
    assert set(model.tensors.left_out) == {"bert.embeddings.position_ids", "classifier.weight"}
    assert "no part of this network" in model.network(2).notes[0]


def test_a_tied_layer_may_be_stored_as_well(made: Path, tmp_path: Path) -> None:
    path = changed(made, tmp_path, "llama", tie_word_embeddings=True)
    tensors = load_file(path / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    save_file(tensors, path / "model.safetensors")
    assert open_model(path).network(2).output_shape == (40,)


def test_older_names_of_gains_and_biases(made: Path, tmp_path: Path) -> None:
    path = changed(made, tmp_path, "bert", pooler_type="first_token_transform")
    tensors = load_file(path / "model.safetensors")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"): t
        for name, t in tensors.items()
    }
    save_file(renamed, path / "model.safetensors")
    x = np.ones((2, 16), np.float32)
    known = open_model(made / "bert").network(2).forward(x)
    assert np.array_equal(open_model(path).network(2).forward(x), known)


def test_a_file_and_its_config(made: Path, tmp_path: Path) -> None:
    """The weights alone do not say what they are; a config.json given or beside them does."""
    weights = tmp_path / "weights.safetensors"
    shutil.copy(made / "bert" / "model.safetensors", weights)
    with pytest.raises(GammaError, match=r"config\.json"):
        gamma.load(weights, positions=2)
    config = made / "bert" / "config.json"
    assert gamma.load(weights, positions=2, config=config).output_shape == (2, 16)
    shutil.copy(config, tmp_path)
    assert open_model(weights).architecture.name == "bert"


def test_load_needs_the_length_of_the_prompt(made: Path) -> None:
    with pytest.raises(UsageError, match="positions=N"):
        gamma.load(made / "qwen3.gguf")
    net = gamma.load(made / "qwen3.gguf", positions=3)
    assert net.input_shape == (3, 16) and net.output_shape == (40,)
    assert gamma.load(made / "bert", positions=2, block=1).source.kind == "safetensors"


def test_prompts_that_do_not_fit(made: Path) -> None:
    model = open_model(made / "llama")
    for ids in ([], [40], [-1], list(range(13)), [1.5]):
        with pytest.raises(UsageError):
            model.embed(ids)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no text"):
        open_model(made / "whisper").embed([1])
    with pytest.raises(UsageError, match="13 positions, the model takes 1 to 12"):
        model.network(13)
    with pytest.raises(UsageError, match="block 2, expected 0 to 1"):
        model.network(2, block=2)
    with pytest.raises(UsageError, match="'nowhere' is none of logits"):
        model.network(2, output="nowhere")


def test_a_window_limits_the_prompt(made: Path, tmp_path: Path) -> None:
    path = changed(made, tmp_path, "llama", model_type="mistral", sliding_window=4)
    assert open_model(path).network(4).output_shape == (40,)
    with pytest.raises(UsageError, match="1 to 4"):
        open_model(path).network(5)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3"])
def test_scores_need_the_last_block_at_the_last_position_alone(made: Path, kind: str) -> None:
    """The same scores as from the states of all positions, of which another output has all."""
    model = open_model(made / kind)
    x = model.embed([3, 7, 1])
    scores, states = model.network(3), model.network(3, output="last_hidden_state")
    shapes = {node.name: node.shape for node in scores.nodes}
    assert shapes["blk.1.output"] == (1, 16) and shapes["blk.0.output"] == (3, 16)
    last = scores.nodes[scores.output].op.weight.array()
    y = states.forward(x, np.float64)[-1] @ last.astype(np.float64).T
    assert abs(scores.forward(x, np.float64) - y).max() <= 1e-12 * abs(y).max()
    assert model.network(3, output="blk.1.output").output_shape == (3, 16)


def test_other_forms_of_whisper_are_refused_with_what_to_give(tmp_path: Path) -> None:
    wanted = "give the folder with config.json and model.safetensors"
    with pytest.raises(UnsupportedError, match=f"'whisper', of which .*{wanted}"):
        find(tmp_path / "m.gguf", GGUF, "whisper")
    (tmp_path / "ggml-tiny.bin").write_bytes(b"lmgg" + bytes(60))
    with pytest.raises(FormatError, match=f"a ggml file, as whisper.cpp .*{wanted}"):
        gamma.load(tmp_path / "ggml-tiny.bin")


def test_embeddings_are_rows_of_the_file(made: Path) -> None:
    table = load_file(made / "gpt2" / "model.safetensors")["wte.weight"]
    assert np.array_equal(open_model(made / "gpt2").embed([5, 0, 5]), table[[5, 0, 5]])


def test_names_belong_to_one_architecture() -> None:
    for names in ([a.model_types for a in architectures()], [a.gguf for a in architectures()]):
        flat = [name for group in names for name in group]
        assert len(flat) == len(set(flat))
    assert {BERT["model_type"], GPT2["model_type"], LLAMA["model_type"]} <= {
        name for a in architectures() for name in a.model_types
    }
