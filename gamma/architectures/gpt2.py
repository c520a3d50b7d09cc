"""GPT-2 decoders (Radford et al. 2019): pre-norm blocks with layer norms, learned positions.

The input is the prompt's token embeddings, (positions, hidden); those of the positions belong to
the network. Hugging Face files store dense layers as (inputs, outputs).
"""

from __future__ import annotations

import re

from gamma.architectures.layers import ACTIVATIONS, Layers
from gamma.architectures.registry import GGUF, Architecture, Transformer
from gamma.architectures.settings import Settings
from gamma.architectures.tensors import Need

LAYER = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}


def read(s: Settings, form: str) -> Transformer:
    """Hyper-parameters from config.json or GGUF metadata."""
    vocabulary, tied = 0, False
    if form == GGUF:
        s.constant("activation", "gelu_new")
        activation = ACTIVATIONS["gelu_new"]
        keys = ("block_count", "embedding_length", "attention.head_count", "context_length")
        epsilon, inner_key = "attention.layer_norm_epsilon", "feed_forward_length"
    else:
        s.refuse("scale_attn_weights", [True], "attention without the factor 1/√size")
        s.refuse("scale_attn_by_inverse_layer_idx", [False], "attention scaled layer by layer")
        s.refuse("reorder_and_upcast_attn", [True, False], "")  # the same in real arithmetic
        s.refuse("add_cross_attention", [False], "cross-attention")
        keys = ("n_layer", "n_embd", "n_head", "n_positions")
        s.refuse("n_ctx", [s.get("n_positions")], "two sizes of the context")
        epsilon, inner_key = "layer_norm_epsilon", "n_inner"
        activation = s.choice("activation", ACTIVATIONS, "activation_function")
        vocabulary = s.whole("vocabulary", "vocab_size")
        tied = s.flag("tied head", "tie_word_embeddings", default=True)
    layers, hidden, heads, context = (
        s.whole(name, key)
        for name, key in zip(("layers", "hidden", "heads", "context"), keys, strict=True)
    )
    return Transformer(
        layers=layers,
        hidden=hidden,
        inner=s.whole("inner", inner_key, default=4 * hidden),
        heads=heads,
        kv_heads=heads,
        head_size=s.split(hidden, heads),
        context=context,
        epsilon=s.number("epsilon", epsilon),
        form=form,
        vocabulary=vocabulary,
        activation=activation,
        tied=tied,
    )


def needs(c: Transformer) -> list[Need]:
    """The tensors of a file."""
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm": (c.hidden,),
        "attn_qkv": (3 * c.hidden, c.hidden),
        "attn_output": (c.hidden, c.hidden),
        "ffn_norm": (c.hidden,),
        "ffn_up": (c.inner, c.hidden),
        "ffn_down": (c.hidden, c.inner),
    }

    def need(name: str, called: str, shape: tuple[int, ...], optional: bool = False) -> Need:
        return Need(name, name if c.gguf else called, shape, optional)

    table = (c.vocabulary, c.hidden)
    found = [
        need("token_embd.weight", "@wte.weight", table),
        need("position_embd.weight", "@wpe.weight", (c.context, c.hidden)),
    ]
    for i in range(c.layers):
        for name, shape in shapes.items():
            own, called = f"blk.{i}.{name}", f"@h.{i}.{LAYER[name]}"
            stored = shape if c.gguf else shape[::-1]
            found.append(need(f"{own}.weight", f"{called}.weight", stored))
            found.append(need(f"{own}.bias", f"{called}.bias", shape[:1]))
    for part in ("weight", "bias"):
        found.append(need(f"output_norm.{part}", f"@ln_f.{part}", (c.hidden,)))
    found.append(need("output.weight", "lm_head.weight", table, c.gguf or c.tied))
    return found


def embed(net: Layers, c: Transformer, x: int) -> int:
    """Token embeddings plus those of the positions."""
    rows = net.tensors.rows("position_embd.weight", range(net.width(x)[0]))
    return net.shift(x, rows, "position_embd")


def block(net: Layers, c: Transformer, i: int, x: int, last: bool = False) -> int:
    """x + attention(norm(x)), then y + feed-forward(norm(y)); of the ``last`` position alone."""
    name, turned = f"blk.{i}", not c.gguf
    assert c.activation is not None
    y = net.norm(x, f"{name}.attn_norm", c.epsilon, centred=True)
    qkv = net.heads(net.dense(y, f"{name}.attn_qkv", turned), 3 * c.heads)
    q, k, v = net.parts(qkv, 3)
    if last:
        q, x = net.last(q), net.last(x)
    mixed = net.attention(q, k, v, causal=True, name=f"{name}.attn")
    x = net.sum(net.dense(mixed, f"{name}.attn_output", turned), x, f"{name}.attn_sum")
    y = net.norm(x, f"{name}.ffn_norm", c.epsilon, centred=True)
    y = net.add(c.activation, net.dense(y, f"{name}.ffn_up", turned), name=f"{name}.ffn_act")
    return net.sum(net.dense(y, f"{name}.ffn_down", turned), x, f"{name}.output")


def logits(net: Layers, c: Transformer, x: int) -> int:
    """Scores of the token that follows the last position, (vocabulary,)."""
    y = net.norm(net.at(x, net.width(x)[0] - 1), "output_norm", c.epsilon, centred=True)
    tied = "output.weight" not in net.tensors
    weight = "token_embd.weight" if tied else ""
    return net.dense(y, "output", weight=weight, node="logits")


def hidden(net: Layers, c: Transformer, x: int) -> int:
    """The states behind the last norm, (positions, hidden)."""
    return net.norm(x, "output_norm", c.epsilon, centred=True, node="last_hidden_state")


GPT2 = Architecture(
    name="gpt2",
    title="GPT-2 decoders",
    model_types=("gpt2",),
    gguf=("gpt2",),
    read=read,
    needs=needs,
    left_out=re.compile(r"h\.\d+\.attn\.(bias|masked_bias)"),  # buffers: the causal mask
    embed=embed,
    block=block,
    outputs={"logits": logits, "last_hidden_state": hidden},
    of_last=frozenset({"logits"}),
    prefixes=("", "transformer."),
)
