"""Forward passes in float64, written from the published definitions and from nothing of gamma's.

Tensors are arrays under the names of Hugging Face files. Papers: BERT (Devlin et al. 2019), GPT-2
(Radford et al. 2019), Llama (Touvron et al. 2023) with rotary positions (Su et al. 2021), Qwen3
(2025), Whisper (Radford et al. 2022). `Change` spoils one thing: the fidelity gate must notice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
Tensors = dict[str, Array]


@dataclass(frozen=True)
class Change:
    """What a mutant does differently from the definition."""

    no_rope: bool = False
    unscaled: bool = False
    interleaved: bool = False
    swapped_norms: bool = False
    permuted_heads: bool = False
    single_head: bool = False
    epsilon: float | None = None
    other_norm: bool = False
    no_mask: bool = False
    no_head_norm: bool = False
    spread_groups: bool = False
    tanh_gelu: bool = False
    no_positions: bool = False
    no_scale: bool = False
    late: bool = False  # learned positions from 1, or those of queries alone where they turn
    shifted_mask: bool = False
    swapped_gate: bool = False
    no_final_norm: bool = False
    transposed: bool = False  # square dense layers read along the other axis
    other_head: bool = False
    swapped_values: bool = False
    no_residual: bool = False
    no_types: bool = False


NONE = Change()


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def layer_norm(x: Array, gain: Array, bias: Array, eps: float) -> Array:
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps) * gain + bias


def rms_norm(x: Array, gain: Array, eps: float) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * gain


def attention(
    q: Array, k: Array, v: Array, heads: int, groups: int, causal: bool, change: Change
) -> Array:
    """q (N, heads·d), k and v (N, groups·d); head h reads group h // (heads // groups)."""
    n, width = q.shape
    d = width // heads
    k, v = (v, k) if change.swapped_values else (k, v)
    if change.single_head:
        heads, groups, d = 1, 1, width
        k, v = (np.resize(x, (n, width)) for x in (k, v))
    out = np.zeros((n, width))
    for h in range(heads):
        g = h % groups if change.spread_groups else h // (heads // groups)
        if change.permuted_heads:
            g = (g + 1) % groups
        scores = q[:, h * d : (h + 1) * d] @ k[:, g * d : (g + 1) * d].T
        scores = scores if change.no_scale else scores / math.sqrt(d)
        for i in range(n):
            last = min(i + 1 + change.shifted_mask, n) if causal and not change.no_mask else n
            weights = np.exp(scores[i, :last] - scores[i, :last].max())
            out[i, h * d : (h + 1) * d] = weights @ v[:last, g * d : (g + 1) * d] / weights.sum()
    return out


def linear(t: Tensors, name: str, x: Array, change: Change = NONE) -> Array:
    weight = t[f"{name}.weight"]
    y = x @ (weight if change.transposed and len(weight) == len(weight.T) else weight.T)
    return y + t[f"{name}.bias"] if f"{name}.bias" in t else y


def bert(t: Tensors, c: dict[str, Any], words: Array, change: Change = NONE) -> Array:
    """Hidden states (N, d) of word embeddings."""
    eps, n = change.epsilon or c["layer_norm_eps"], len(words)
    act = gelu_tanh if change.tanh_gelu else {"gelu": gelu, "gelu_new": gelu_tanh}[c["hidden_act"]]

    def norm(x: Array, name: str) -> Array:
        if change.other_norm:
            return rms_norm(x, t[f"{name}.weight"], eps) + t[f"{name}.bias"]
        return layer_norm(x, t[f"{name}.weight"], t[f"{name}.bias"], eps)

    x = words + (0 if change.no_types else t["embeddings.token_type_embeddings.weight"][0])
    places = slice(change.late, n + change.late)
    x = x + (0 if change.no_positions else t["embeddings.position_embeddings.weight"][places])
    x = norm(x, "embeddings.LayerNorm")
    for i in range(c["num_hidden_layers"]):
        p = f"encoder.layer.{i}"
        q, k, v = (linear(t, f"{p}.attention.self.{s}", x) for s in ("query", "key", "value"))
        heads = c["num_attention_heads"]
        a = attention(q, k, v, heads, heads, False, change)
        a = linear(t, f"{p}.attention.output.dense", a, change)
        first, second = f"{p}.attention.output.LayerNorm", f"{p}.output.LayerNorm"
        if change.swapped_norms:
            first, second = second, first
        x = norm(a if change.no_residual else x + a, first)
        f = linear(t, f"{p}.output.dense", act(linear(t, f"{p}.intermediate.dense", x)))
        x = norm(x + f, second)
    return x


def rates(c: dict[str, Any], d: int, change: Change) -> tuple[list[float], float]:
    """Rates of the pairs and the factor on what turns, by config.json's ``rope_scaling``."""
    base, plan = c["rope_theta"], c.get("rope_scaling") or {"rope_type": "default"}
    found = [base ** (-2 * i / d) for i in range(d // 2)]
    kind, factor = plan["rope_type"], plan.get("factor", 1.0)
    if change.unscaled or kind == "default":
        return found, 1.0
    if kind == "linear":
        return [rate / factor for rate in found], 1.0
    context = plan["original_max_position_embeddings"]
    if kind == "llama3":  # Llama 3.1 (Dubey et al. 2024), as its model code has it
        low, high = plan["low_freq_factor"], plan["high_freq_factor"]
        made = []
        for rate in found:
            length = 2 * math.pi / rate
            if length < context / high:
                made.append(rate)
            elif length > context / low:
                made.append(rate / factor)
            else:
                smooth = (context / length - low) / (high - low)
                made.append((1 - smooth) * rate / factor + smooth * rate)
        return made, 1.0
    # YaRN (Peng et al. 2023), section 3.2 and its published code

    def dimension(turns: float) -> float:
        return d * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(base))

    first = max(math.floor(dimension(plan.get("beta_fast", 32))), 0)
    last = min(math.ceil(dimension(plan.get("beta_slow", 1))), d - 1)
    made = []
    for i, rate in enumerate(found):
        ramp = min(max((i - first) / max(last - first, 0.001), 0), 1)
        made.append(rate / factor * ramp + rate * (1 - ramp))
    return made, plan.get("attention_factor", 0.1 * math.log(factor) + 1)


def rope(x: Array, heads: int, c: dict[str, Any], change: Change, late: int = 0) -> Array:
    """Rotates pairs (i, i + d/2) of each head of x (N, heads·d) by position times their rate."""
    if change.no_rope:
        return x
    n, width = x.shape
    d = width // heads
    turning, gain = rates(c, d, change)
    x = x * gain
    y = np.empty_like(x)
    for p in range(n):
        for h in range(heads):
            for i in range(d // 2):
                angle = (p + late) * turning[i]
                a, b = (2 * i, 2 * i + 1) if change.interleaved else (i, i + d // 2)
                a, b = a + h * d, b + h * d
                y[p, a] = x[p, a] * math.cos(angle) - x[p, b] * math.sin(angle)
                y[p, b] = x[p, b] * math.cos(angle) + x[p, a] * math.sin(angle)
    return y


def decoder(t: Tensors, c: dict[str, Any], words: Array, change: Change = NONE) -> Array:
    """Logits (N, vocabulary) of token embeddings; Llama, Qwen2 or Qwen3 by their tensors."""
    eps, heads, groups = c["rms_norm_eps"], c["num_attention_heads"], c["num_key_value_heads"]
    eps = change.epsilon or eps

    def norm(x: Array, name: str) -> Array:
        gain = t[f"{name}.weight"]
        return layer_norm(x, gain, 0 * gain, eps) if change.other_norm else rms_norm(x, gain, eps)

    def head_norm(x: Array, count: int, name: str) -> Array:
        if f"{name}.weight" not in t or change.no_head_norm:
            return x
        return norm(x.reshape(len(x), count, -1), name).reshape(x.shape)

    x = words
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}"
        first, second = f"{p}.input_layernorm", f"{p}.post_attention_layernorm"
        if change.swapped_norms:
            first, second = second, first
        y = norm(x, first)
        q, k, v = (linear(t, f"{p}.self_attn.{s}_proj", y) for s in "qkv")
        q, k = (
            head_norm(q, heads, f"{p}.self_attn.q_norm"),
            head_norm(k, groups, f"{p}.self_attn.k_norm"),
        )
        q, k = rope(q, heads, c, change, int(change.late)), rope(k, groups, c, change)
        a = attention(q, k, v, heads, groups, True, change)
        a = linear(t, f"{p}.self_attn.o_proj", a, change)
        x = a if change.no_residual else x + a
        y = norm(x, second)
        gate, up = linear(t, f"{p}.mlp.gate_proj", y), linear(t, f"{p}.mlp.up_proj", y)
        gate, up = (up, gate) if change.swapped_gate else (gate, up)
        x = x + linear(t, f"{p}.mlp.down_proj", silu(gate) * up)
    head = "model.embed_tokens" if c["tie_word_embeddings"] else "lm_head"
    rows = np.roll(t[f"{head}.weight"], change.other_head, axis=0)
    return (x if change.no_final_norm else norm(x, "model.norm")) @ rows.T


def gpt2(t: Tensors, c: dict[str, Any], words: Array, change: Change = NONE) -> Array:
    """Logits (N, vocabulary); dense layers are stored (inputs, outputs)."""
    eps, heads, n = change.epsilon or c["layer_norm_epsilon"], c["n_head"], len(words)

    def norm(x: Array, name: str) -> Array:
        if change.other_norm:
            return rms_norm(x, t[f"{name}.weight"], eps) + t[f"{name}.bias"]
        return layer_norm(x, t[f"{name}.weight"], t[f"{name}.bias"], eps)

    def conv1d(x: Array, name: str) -> Array:
        weight = t[f"{name}.weight"]
        square = len(weight) == len(weight.T)
        return x @ (weight.T if change.transposed and square else weight) + t[f"{name}.bias"]

    x = words if change.no_positions else words + t["wpe.weight"][change.late : n + change.late]
    for i in range(c["n_layer"]):
        first, second = ("ln_2", "ln_1") if change.swapped_norms else ("ln_1", "ln_2")
        q, k, v = np.split(conv1d(norm(x, f"h.{i}.{first}"), f"h.{i}.attn.c_attn"), 3, axis=1)
        a = attention(q, k, v, heads, heads, True, change)
        a = conv1d(a, f"h.{i}.attn.c_proj")
        x = a if change.no_residual else x + a
        act = gelu if change.tanh_gelu else gelu_tanh  # the mutant takes the exact one
        y = act(conv1d(norm(x, f"h.{i}.{second}"), f"h.{i}.mlp.c_fc"))
        x = x + conv1d(y, f"h.{i}.mlp.c_proj")
    rows = np.roll(t["wte.weight"], change.other_head, axis=0)
    return (x if change.no_final_norm else norm(x, "ln_f")) @ rows.T


def conv1d(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    """Cross-correlation of x (channels, length) with a kernel of 3 and one zero at both ends."""
    padded = np.pad(x, ((0, 0), (1, 1)))
    count = (padded.shape[1] - 3) // stride + 1
    columns = [padded[:, s * stride : s * stride + 3] for s in range(count)]
    return np.stack([np.einsum("oik,ik->o", weight, part) + bias for part in columns], axis=1)


def whisper(t: Tensors, c: dict[str, Any], mel: Array, change: Change = NONE) -> Array:
    """Encoder states (frames/2, d) of a log-mel spectrogram (bands, frames)."""
    eps, heads = change.epsilon or 1e-5, c["encoder_attention_heads"]
    top = "model.encoder"
    act = gelu_tanh if change.tanh_gelu else gelu

    def norm(x: Array, name: str) -> Array:
        if change.other_norm:
            return rms_norm(x, t[f"{name}.weight"], eps) + t[f"{name}.bias"]
        return layer_norm(x, t[f"{name}.weight"], t[f"{name}.bias"], eps)

    x = act(conv1d(mel, t[f"{top}.conv1.weight"], t[f"{top}.conv1.bias"], 1))
    x = act(conv1d(x, t[f"{top}.conv2.weight"], t[f"{top}.conv2.bias"], 2)).T
    if not change.no_positions:
        x = x + t[f"{top}.embed_positions.weight"][change.late : len(x) + change.late]
    for i in range(c["encoder_layers"]):
        p = f"{top}.layers.{i}"
        first, second = f"{p}.self_attn_layer_norm", f"{p}.final_layer_norm"
        if change.swapped_norms:
            first, second = second, first
        y = norm(x, first)
        q, k, v = (linear(t, f"{p}.self_attn.{s}_proj", y) for s in "qkv")
        a = attention(q, k, v, heads, heads, False, change)
        a = linear(t, f"{p}.self_attn.out_proj", a, change)
        x = a if change.no_residual else x + a
        x = x + linear(t, f"{p}.fc2", act(linear(t, f"{p}.fc1", norm(x, second))))
    return x if change.no_final_norm else norm(x, f"{top}.layer_norm")
