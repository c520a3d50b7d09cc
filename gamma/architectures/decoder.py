"""Llama-style decoders: Llama, Mistral, Qwen2 and Qwen3, from GGUF files and Hugging Face folders.

Pre-norm blocks with root mean square norms, rotary positions, gated feed-forward layers and shared
keys and values (Touvron et al. 2023); Qwen3 normalises queries and keys head by head. The input is
the prompt's token embeddings, (positions, hidden).
"""

from __future__ import annotations

import re
from typing import Any

from gamma.architectures import rope
from gamma.architectures.layers import DIVISORS, Layers
from gamma.architectures.registry import GGUF, Architecture, Transformer
from gamma.architectures.settings import MISSING, Settings
from gamma.architectures.tensors import Need
from gamma.errors import UnsupportedError

# gamma's names are those of llama.cpp.
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
QKV = frozenset({"attn_q", "attn_k", "attn_v"})
FFN = frozenset({"ffn_gate", "ffn_up", "ffn_down"})
SILU = {"silu": True, "swish": True}


def _from_gguf(s: Settings, halves: bool, normed: bool) -> Transformer:
    for key in ("expert_count", "expert_used_count"):
        s.refuse(key, [0], "mixtures of experts")
    s.refuse("attention.causal", [True], "decoders without a causal mask")
    s.refuse("use_parallel_residual", [False], "parallel attention")
    hidden = s.whole("hidden", "embedding_length")
    heads = s.whole("heads", "attention.head_count")
    stated = s.has("attention.key_length")
    shared = MISSING if stated else s.split(hidden, heads)
    size = s.whole("head size", "attention.key_length", default=shared)
    for key in ("attention.value_length", "rope.dimension_count"):
        s.refuse(key, [size], f"heads of which one part is not {size}")
    key = "attention.sliding_window"
    made = Transformer(
        layers=s.whole("layers", "block_count"),
        hidden=hidden,
        inner=s.whole("inner", "feed_forward_length"),
        heads=heads,
        kv_heads=s.whole("key and value heads", "attention.head_count_kv", default=heads),
        head_size=size,
        context=s.whole("context", "context_length"),
        epsilon=s.number("epsilon", "attention.layer_norm_rms_epsilon"),
        form=GGUF,
        rope=rope.from_gguf(s, halves),
        normed=normed,
        window=s.whole("window", key) if s.has(key) else 0,
    )
    return _paired(s, made)


def _from_config(s: Settings, normed: bool, biases: frozenset[str] | None) -> Transformer:
    hidden = s.whole("hidden", "hidden_size")
    heads = s.whole("heads", "num_attention_heads")
    s.choice("activation", SILU, "hidden_act")
    with_bias = biases or frozenset()
    if biases is None:
        more = s.flag("attention bias", "attention_bias", default=False)
        with_bias = QKV | {"attn_output"} if more else with_bias
    if s.flag("feed-forward bias", "mlp_bias", default=False):
        with_bias = with_bias | FFN
    s.refuse("partial_rotary_factor", [1.0, 1], "heads that turn in part")
    layers = s.whole("layers", "num_hidden_layers")
    shared = 128 if normed or s.has("head_dim") else s.split(hidden, heads)
    size = s.whole("head size", "head_dim", default=shared)
    made = Transformer(
        layers=layers,
        hidden=hidden,
        inner=s.whole("inner", "intermediate_size"),
        heads=heads,
        kv_heads=s.whole("key and value heads", "num_key_value_heads", default=heads),
        head_size=size,
        context=s.whole("context", "max_position_embeddings"),
        epsilon=s.number("epsilon", "rms_norm_eps"),
        form="config.json",
        vocabulary=s.whole("vocabulary", "vocab_size"),
        tied=s.flag("tied head", "tie_word_embeddings", default=False),
        rope=rope.from_config(s),
        normed=normed,
        window=_window(s, layers),
        biases=with_bias,
    )
    return _paired(s, made)


def _paired(s: Settings, made: Transformer) -> Transformer:
    """Itself. FormatError where heads share no keys evenly, or hold no pairs that turn."""
    if made.heads % made.kv_heads:
        raise s.misfit("key and value heads", f"a divisor of the {made.heads} heads")
    if made.head_size % 2:
        raise s.misfit("head size", "an even number: rotary positions turn pairs of entries")
    return made


def _window(s: Settings, layers: int) -> int:
    """Positions that one attends to, 0 for all: those of a window that every layer uses."""
    kinds: Any = s.get("layer_types")
    if kinds is not None and kinds != ["full_attention"] * layers:
        raise UnsupportedError.at(
            s.path, "layer_types", "gamma reads layers of full_attention alone"
        )
    if s.get("use_sliding_window") is False or kinds is not None:
        s.get("sliding_window")
        return 0
    return s.whole("window", "sliding_window") if s.has("sliding_window") else 0


def needs(c: Transformer) -> list[Need]:
    """The tensors of a file."""
    q, kv = c.heads * c.head_size, c.kv_heads * c.head_size
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm": (c.hidden,),
        "attn_q": (q, c.hidden),
        "attn_k": (kv, c.hidden),
        "attn_v": (kv, c.hidden),
        "attn_output": (c.hidden, q),
        "ffn_norm": (c.hidden,),
        "ffn_gate": (c.inner, c.hidden),
        "ffn_up": (c.inner, c.hidden),
        "ffn_down": (c.hidden, c.inner),
    }
    if c.normed:
        shapes |= {"attn_q_norm": (c.head_size,), "attn_k_norm": (c.head_size,)}

    def need(name: str, called: str, shape: tuple[int, ...], optional: bool = False) -> Need:
        return Need(name, name if c.gguf else called, shape, optional)

    table = (c.vocabulary, c.hidden)
    found = [need("token_embd.weight", "@embed_tokens.weight", table)]
    for i in range(c.layers):
        for name, shape in shapes.items():
            own, called = f"blk.{i}.{name}", f"@layers.{i}.{LAYER[name]}"
            found.append(need(f"{own}.weight", f"{called}.weight", shape))
            if name in c.biases or (c.gguf and "norm" not in name):
                found.append(need(f"{own}.bias", f"{called}.bias", shape[:1], c.gguf))
    if c.gguf:  # Llama 3.1's scaling of rotary positions
        found.append(need(DIVISORS, DIVISORS, (c.head_size // 2,), True))
    found.append(need("output_norm.weight", "@norm.weight", (c.hidden,)))
    found.append(need("output.weight", "lm_head.weight", table, c.gguf or c.tied))
    return found


def embed(net: Layers, c: Transformer, x: int) -> int:
    """The embeddings as they are."""
    return x


def block(net: Layers, c: Transformer, i: int, x: int, last: bool = False) -> int:
    """x + attention(norm(x)), then y + feed-forward(norm(y)); of the ``last`` position alone."""
    name = f"blk.{i}"
    assert c.rope is not None
    y = net.norm(x, f"{name}.attn_norm", c.epsilon, centred=False)
    first = net.width(x)[0] - 1 if last else 0
    q = net.heads(net.dense(net.last(y) if last else y, f"{name}.attn_q"), c.heads)
    k = net.heads(net.dense(y, f"{name}.attn_k"), c.kv_heads)
    v = net.heads(net.dense(y, f"{name}.attn_v"), c.kv_heads)
    if c.normed:
        q = net.norm(q, f"{name}.attn_q_norm", c.epsilon, centred=False)
        k = net.norm(k, f"{name}.attn_k_norm", c.epsilon, centred=False)
    q = net.rotated(q, c.rope, f"{name}.q_rope", first)
    k = net.rotated(k, c.rope, f"{name}.k_rope")
    mixed = net.dense(net.attention(q, k, v, True, f"{name}.attn"), f"{name}.attn_output")
    x = net.sum(mixed, net.last(x) if last else x, f"{name}.attn_sum")
    y = net.norm(x, f"{name}.ffn_norm", c.epsilon, centred=False)
    return net.sum(net.gated(y, f"{name}.ffn"), x, f"{name}.output")


def logits(net: Layers, c: Transformer, x: int) -> int:
    """Scores of the token that follows the last position, (vocabulary,)."""
    y = net.norm(net.at(x, net.width(x)[0] - 1), "output_norm", c.epsilon, centred=False)
    tied = "output.weight" not in net.tensors
    weight = "token_embd.weight" if tied else ""
    return net.dense(y, "output", weight=weight, node="logits")


def hidden(net: Layers, c: Transformer, x: int) -> int:
    """The states behind the last norm, (positions, hidden)."""
    return net.norm(x, "output_norm", c.epsilon, centred=False, node="last_hidden_state")


def _decoder(
    name: str,
    title: str,
    model_types: tuple[str, ...],
    gguf: tuple[str, ...],
    halves: bool,
    normed: bool = False,
    biases: frozenset[str] | None = None,
) -> Architecture:
    def read(s: Settings, form: str) -> Transformer:
        if form == GGUF:
            return _from_gguf(s, halves, normed)
        return _from_config(s, normed, biases)

    return Architecture(
        name=name,
        title=title,
        model_types=model_types,
        gguf=gguf,
        read=read,
        needs=needs,
        left_out=re.compile(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq"),  # a buffer
        embed=embed,
        block=block,
        outputs={"logits": logits, "last_hidden_state": hidden},
        of_last=frozenset({"logits"}),
        prefixes=("model.", ""),
    )


DECODERS = (
    # llama.cpp permutes the rows of Llama's queries and keys, so that pairs are neighbours.
    _decoder("llama", "Llama and Mistral decoders", ("llama", "mistral"), ("llama",), False),
    _decoder("qwen2", "Qwen2 decoders", ("qwen2",), ("qwen2",), True, biases=QKV),
    _decoder("qwen3", "Qwen3 decoders", ("qwen3",), ("qwen3",), True, normed=True),
)
