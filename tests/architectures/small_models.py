"""Small models with random weights, written as files of the public formats."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter, RopeScalingType
from safetensors.numpy import save_file

from tests.architectures import reference

Array = np.ndarray
Tensors = dict[str, Array]
HIDDEN, INNER, HEADS, LAYERS, VOCABULARY, CONTEXT = 16, 24, 4, 2, 40, 12

BERT = {
    "model_type": "bert",
    "num_hidden_layers": LAYERS,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": HEADS,
    "max_position_embeddings": CONTEXT,
    "vocab_size": VOCABULARY,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-3,
}
LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": LAYERS,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "vocab_size": VOCABULARY,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-3,
    "rope_theta": 100.0,
    "tie_word_embeddings": False,
}
QWEN2 = {**LLAMA, "model_type": "qwen2"}
QWEN3 = {**LLAMA, "model_type": "qwen3", "head_dim": 6, "tie_word_embeddings": True}
GPT2 = {
    "model_type": "gpt2",
    "n_layer": LAYERS,
    "n_embd": HIDDEN,
    "n_head": HEADS,
    "n_inner": None,
    "n_positions": CONTEXT,
    "n_ctx": CONTEXT,
    "vocab_size": VOCABULARY,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-3,
}
WHISPER = {
    "model_type": "whisper",
    "d_model": HIDDEN,
    "encoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "encoder_ffn_dim": INNER,
    "num_mel_bins": 5,
    "max_source_positions": CONTEXT,
    "activation_function": "gelu",
}
CONFIGS = {c["model_type"]: c for c in (BERT, LLAMA, QWEN2, QWEN3, GPT2, WHISPER)}
REFERENCE = {
    "bert": reference.bert,
    "llama": reference.decoder,
    "qwen2": reference.decoder,
    "qwen3": reference.decoder,
    "gpt2": reference.gpt2,
    "whisper": reference.whisper,
}


def shapes(c: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Tensors of a Hugging Face file of this configuration."""
    return {"bert": _bert, "gpt2": _gpt2, "whisper": _whisper}.get(c["model_type"], _decoder)(c)


def _both(name: str, out: int, inner: int = 0) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, inner) if inner else (out,), f"{name}.bias": (out,)}


def _bert(c: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    d, inner = c["hidden_size"], c["intermediate_size"]
    found: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (c["vocab_size"], d),
        "embeddings.position_embeddings.weight": (c["max_position_embeddings"], d),
        "embeddings.token_type_embeddings.weight": (2, d),
        **_both("embeddings.LayerNorm", d),
        **_both("pooler.dense", d, d),
    }
    for i in range(c["num_hidden_layers"]):
        p = f"encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            found |= _both(f"{p}.attention.{part}", d, d)
        found |= _both(f"{p}.attention.output.LayerNorm", d) | _both(f"{p}.output.LayerNorm", d)
        found |= _both(f"{p}.intermediate.dense", inner, d) | _both(f"{p}.output.dense", d, inner)
    return found


def _decoder(c: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    d, inner = c["hidden_size"], c["intermediate_size"]
    size = c.get("head_dim", d // c["num_attention_heads"])
    q, kv = size * c["num_attention_heads"], size * c["num_key_value_heads"]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (c["vocab_size"], d)}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}"
        found |= {
            f"{p}.input_layernorm.weight": (d,),
            f"{p}.self_attn.q_proj.weight": (q, d),
            f"{p}.self_attn.k_proj.weight": (kv, d),
            f"{p}.self_attn.v_proj.weight": (kv, d),
            f"{p}.self_attn.o_proj.weight": (d, q),
            f"{p}.post_attention_layernorm.weight": (d,),
            f"{p}.mlp.gate_proj.weight": (inner, d),
            f"{p}.mlp.up_proj.weight": (inner, d),
            f"{p}.mlp.down_proj.weight": (d, inner),
        }
        if c["model_type"] == "qwen2":
            found |= {f"{p}.self_attn.{s}_proj.bias": (q if s == "q" else kv,) for s in "qkv"}
        if c["model_type"] == "qwen3":
            found |= {f"{p}.self_attn.{s}_norm.weight": (size,) for s in "qk"}
    found["model.norm.weight"] = (d,)
    if not c["tie_word_embeddings"]:
        found["lm_head.weight"] = (c["vocab_size"], d)
    return found


def _gpt2(c: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    d = c["n_embd"]
    found = {"wte.weight": (c["vocab_size"], d), "wpe.weight": (c["n_positions"], d)}
    layers = {"attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d)}
    layers |= {"mlp.c_fc": (d, 4 * d), "mlp.c_proj": (4 * d, d)}
    for i in range(c["n_layer"]):
        found |= _both(f"h.{i}.ln_1", d) | _both(f"h.{i}.ln_2", d)
        for name, shape in layers.items():
            found |= {f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[1:]}
    return found | _both("ln_f", d)


def _whisper(c: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    d, inner, top = c["d_model"], c["encoder_ffn_dim"], "model.encoder"
    found: dict[str, tuple[int, ...]] = {
        f"{top}.conv1.weight": (d, c["num_mel_bins"], 3),
        f"{top}.conv1.bias": (d,),
        f"{top}.conv2.weight": (d, d, 3),
        f"{top}.conv2.bias": (d,),
        f"{top}.embed_positions.weight": (c["max_source_positions"], d),
        **_both(f"{top}.layer_norm", d),
    }
    for i in range(c["encoder_layers"]):
        p = f"{top}.layers.{i}"
        for part in ("q", "v", "out"):
            found |= _both(f"{p}.self_attn.{part}_proj", d, d)
        found[f"{p}.self_attn.k_proj.weight"] = (d, d)
        found |= _both(f"{p}.self_attn_layer_norm", d) | _both(f"{p}.final_layer_norm", d)
        found |= _both(f"{p}.fc1", inner, d) | _both(f"{p}.fc2", d, inner)
    return found


def weights(c: dict[str, Any], seed: int = 0, scale: float = 0.6) -> Tensors:
    """Random float32 tensors; norms have gains near 1."""
    rng, found = np.random.default_rng(seed), {}
    for name, shape in shapes(c).items():
        norm = "norm" in name.lower() or ".ln_" in name or name.startswith("ln_")
        gain = norm and name.endswith("weight")
        size = 0.3 if len(shape) == 1 else scale
        found[name] = (gain + size * rng.standard_normal(shape)).astype(np.float32)
    return found


@dataclass(frozen=True)
class Small:
    """A model written to a folder."""

    path: Path
    config: dict[str, Any]
    tensors: Tensors

    def reference(self, x: Array, change: reference.Change = reference.NONE) -> Array:
        wide = {name: t.astype(np.float64) for name, t in self.tensors.items()}
        return REFERENCE[self.config["model_type"]](wide, self.config, x.astype(np.float64), change)


def folder(path: Path, c: dict[str, Any], seed: int = 0, scale: float = 0.6, **more: Any) -> Small:
    """A Hugging Face folder: config.json and model.safetensors."""
    path.mkdir(parents=True, exist_ok=True)
    c = {**c, **more}
    tensors = weights(c, seed, scale)
    save_file(tensors, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(c))
    return Small(path, c, tensors)


TO_GGUF = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
LAYER = re.compile(r"(?:model\.layers|encoder\.layer|h)\.(\d+)\.(.*)")


def permuted(weight: Array, heads: int) -> Array:
    """llama.cpp's order of the rows of Llama's queries and keys: halves become neighbours."""
    rest = weight.shape[1:]
    split = weight.reshape(heads, 2, len(weight) // heads // 2, *rest)
    return split.swapaxes(1, 2).reshape(weight.shape)


def _gguf_scaling(writer: GGUFWriter, c: dict[str, Any]) -> None:
    """Rotary positions for longer contexts: keys, or for Llama 3.1 a tensor of divisors."""
    plan = c["rope_scaling"]
    if plan["rope_type"] == "llama3":
        plain = reference.rates({**c, "rope_scaling": None}, c["head_dim"], reference.NONE)[0]
        turning = reference.rates(c, c["head_dim"], reference.NONE)[0]
        divisors = np.array(plain) / np.array(turning)
        writer.add_tensor("rope_freqs.weight", divisors.astype(np.float32))
        return
    writer.add_rope_scaling_type(RopeScalingType(plan["rope_type"]))
    writer.add_rope_scaling_factor(plan["factor"])
    if "original_max_position_embeddings" in plan:
        writer.add_rope_scaling_orig_ctx_len(plan["original_max_position_embeddings"])


def gguf(
    path: Path, c: dict[str, Any], seed: int = 0, scale: float = 0.6, pooling: int | None = None
) -> Small:
    """A GGUF file of a decoder or a BERT, as llama.cpp's converter writes it."""
    arch, tensors = c["model_type"], weights(c, seed, scale)
    hidden = c.get("hidden_size", c.get("n_embd"))
    heads = c.get("num_attention_heads", c.get("n_head"))
    writer = GGUFWriter(path, arch)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(c.get("intermediate_size", 4 * hidden))
    writer.add_head_count(heads)
    if "rms_norm_eps" in c:
        writer.add_head_count_kv(c["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
        writer.add_rope_freq_base(c["rope_theta"])
    else:
        writer.add_layer_norm_eps(c.get("layer_norm_eps", c.get("layer_norm_epsilon")))
    if c.get("rope_scaling"):
        _gguf_scaling(writer, c)
    if pooling is not None:
        writer.add_uint32(f"{arch}.pooling_type", pooling)
    if "head_dim" in c:
        writer.add_key_length(c["head_dim"])
        writer.add_value_length(c["head_dim"])
    for name, tensor in tensors.items():
        stem, part = name.rsplit(".", 1)
        layer = LAYER.fullmatch(stem)
        if stem.startswith("pooler"):
            continue
        called = f"blk.{layer[1]}.{TO_GGUF[layer[2]]}" if layer else TO_GGUF[stem]
        if arch == "llama" and called.endswith(("attn_q", "attn_k")):
            key = "num_attention_heads" if called.endswith("q") else "num_key_value_heads"
            tensor = permuted(tensor, c[key])
        if arch == "gpt2" and layer and tensor.ndim == 2:
            tensor = tensor.T
        writer.add_tensor(f"{called}.{part}", np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    # eps and base are float32 numbers in a GGUF file: those are the network's.
    keys = ("rms_norm_eps", "rope_theta", "layer_norm_eps", "layer_norm_epsilon")
    return Small(path, {**c, **{k: float(np.float32(c[k])) for k in keys if k in c}}, tensors)
