"""BERT encoders (Devlin et al. 2019), such as MiniLM: post-norm blocks, learned positions.

The input is the prompt's word embeddings, (positions, hidden): position and type embeddings and
their norm belong to the network. A prompt is one sentence without padding, of type 0.
"""

from __future__ import annotations

import re

from gamma.architectures.layers import ACTIVATIONS, Layers, Pooling
from gamma.architectures.registry import GGUF, SENTENCE, Architecture, Transformer
from gamma.architectures.settings import Settings
from gamma.architectures.tensors import Need
from gamma.errors import UsageError
from gamma.ops import Tanh

# gamma's names are those of llama.cpp.
LAYER = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
TOP = {
    "token_embd.weight": "@embeddings.word_embeddings.weight",
    "position_embd.weight": "@embeddings.position_embeddings.weight",
    "token_types.weight": "@embeddings.token_type_embeddings.weight",
    "token_embd_norm.weight": "@embeddings.LayerNorm.weight",
    "token_embd_norm.bias": "@embeddings.LayerNorm.bias",
}


def read(s: Settings, form: str) -> Transformer:
    """Hyper-parameters from config.json or GGUF metadata."""
    if form == GGUF:
        s.refuse("attention.causal", [False], "BERT with a causal mask")
        pooling = gguf_pooling(s.get("pooling_type"))
        s.constant("activation", "gelu")
        activation, types = ACTIVATIONS["gelu"], 0
        keys = ("block_count", "embedding_length", "feed_forward_length", "attention.head_count")
        context, epsilon = "context_length", "attention.layer_norm_epsilon"
        vocabulary = 0
    else:
        s.refuse("position_embedding_type", ["absolute"], "relative positions")
        for key in ("is_decoder", "add_cross_attention"):
            s.refuse(key, [False], "BERT as a decoder")
        keys = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")
        context, epsilon = "max_position_embeddings", "layer_norm_eps"
        activation = s.choice("activation", ACTIVATIONS, "hidden_act")
        vocabulary = s.whole("vocabulary", "vocab_size")
        types = s.whole("types", "type_vocab_size")
        pooling = Pooling(problem="there is no modules.json beside it; take another output")
    layers, hidden, inner, heads = (
        s.whole(name, key)
        for name, key in zip(("layers", "hidden", "inner", "heads"), keys, strict=True)
    )
    return Transformer(
        layers=layers,
        hidden=hidden,
        inner=inner,
        heads=heads,
        kv_heads=heads,
        head_size=s.split(hidden, heads),
        context=s.whole("context", context),
        epsilon=s.number("epsilon", epsilon),
        form=form,
        vocabulary=vocabulary,
        activation=activation,
        types=types,
        pooling=pooling,
    )


def gguf_pooling(stated: object) -> Pooling:
    """What llama.cpp makes of the states; it may divide by the norm when it runs, the file is
    silent about that."""
    kinds = {1: "mean", 2: "first", 3: "last"}
    if type(stated) is int and stated in kinds:
        return Pooling(kinds[stated])
    return Pooling(problem=f"bert.pooling_type is {str(stated)[:20]}, expected 1, 2 or 3")


def needs(c: Transformer) -> list[Need]:
    """The tensors of a file."""
    shapes = {
        "token_embd.weight": (c.vocabulary, c.hidden),
        "position_embd.weight": (c.context, c.hidden),
        "token_types.weight": (c.types, c.hidden),
        "token_embd_norm.weight": (c.hidden,),
        "token_embd_norm.bias": (c.hidden,),
    }
    found = [Need(n, n if c.gguf else TOP[n], shape) for n, shape in shapes.items()]
    sizes = {"ffn_up": (c.inner, c.hidden), "ffn_down": (c.hidden, c.inner)}
    for i in range(c.layers):
        for name, called in LAYER.items():
            shape = (c.hidden,) if "norm" in name else sizes.get(name, (c.hidden, c.hidden))
            for part in ("weight", "bias"):
                own = f"blk.{i}.{name}.{part}"
                file_name = own if c.gguf else f"@encoder.layer.{i}.{called}.{part}"
                found.append(Need(own, file_name, shape if part == "weight" else shape[:1]))
    if not c.gguf:
        for part, shape in (("weight", (c.hidden, c.hidden)), ("bias", (c.hidden,))):
            found.append(Need(f"pooler.{part}", f"@pooler.dense.{part}", shape, optional=True))
    return found


def embed(net: Layers, c: Transformer, x: int) -> int:
    """Word embeddings plus those of type 0 and of the positions, normalised."""
    positions = net.width(x)[0]
    x = net.shift(x, net.tensors.rows("token_types.weight", [0]), "token_types")
    x = net.shift(x, net.tensors.rows("position_embd.weight", range(positions)), "position_embd")
    return net.norm(x, "token_embd_norm", c.epsilon, centred=True)


def block(net: Layers, c: Transformer, i: int, x: int) -> int:
    """norm(x + attention(x)), then norm(y + feed-forward(y))."""
    name = f"blk.{i}"
    q, k, v = (net.heads(net.dense(x, f"{name}.attn_{part}"), c.heads) for part in ("q", "k", "v"))
    mixed = net.attention(q, k, v, causal=False, name=f"{name}.attn")
    mixed = net.dense(mixed, f"{name}.attn_output")
    y = net.norm(net.sum(mixed, x), f"{name}.attn_output_norm", c.epsilon, centred=True)
    assert c.activation is not None
    inner = net.add(c.activation, net.dense(y, f"{name}.ffn_up"), name=f"{name}.ffn_act")
    inner = net.dense(inner, f"{name}.ffn_down")
    return net.norm(net.sum(inner, y), f"{name}.layer_output_norm", c.epsilon, centred=True)


def hidden(net: Layers, c: Transformer, x: int) -> int:
    """The hidden states, (positions, hidden)."""
    return x


def pooled(net: Layers, c: Transformer, x: int) -> int:
    """tanh of a dense layer on the first position, (hidden,)."""
    if "pooler.weight" not in net.tensors:
        raise UsageError(f"{net.tensors.path}: the file has no pooler, take last_hidden_state")
    return net.add(Tanh(), net.dense(net.at(x, 0), "pooler"), name="pooler_output")


def sentence(net: Layers, c: Transformer, x: int) -> int:
    """The sentence embedding as the model's folder says, (hidden,)."""
    return net.pooled(x, c.pooling)


BERT = Architecture(
    name="bert",
    title="BERT encoders (MiniLM)",
    model_types=("bert",),
    gguf=("bert",),
    read=read,
    needs=needs,
    # A buffer, and the heads of models that were trained for one task.
    left_out=re.compile(r"embeddings\.position_ids|cls\..*|classifier\..*"),
    embed=embed,
    block=block,
    outputs={"last_hidden_state": hidden, "pooler_output": pooled, SENTENCE: sentence},
    prefixes=("", "bert."),
)
