"""The encoder of Whisper (Radford et al. 2022): two convolutions, then pre-norm blocks.

The input is a log-mel spectrogram, (bands, frames), frames twice the positions: the second
convolution has stride 2. A spectrogram shorter than the model's 30 seconds meets the first rows of
its table of positions. Files hold the decoder as well; it is left out.
"""

from __future__ import annotations

import re

from gamma.architectures.layers import ACTIVATIONS, Layers
from gamma.architectures.registry import Architecture, Transformer
from gamma.architectures.settings import Settings
from gamma.architectures.tensors import Need
from gamma.ops import Conv, Gelu, Transpose

LAYER = {
    "attn_norm": "self_attn_layer_norm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.out_proj",
    "ffn_norm": "final_layer_norm",
    "ffn_up": "fc1",
    "ffn_down": "fc2",
}
EPSILON = 1e-5


def read(s: Settings, form: str) -> Transformer:
    """Hyper-parameters from config.json."""
    s.refuse("scale_embedding", [False, True], "")  # of the decoder
    for key in (
        "vocab_size",
        "num_hidden_layers",
        "decoder_layers",
        "decoder_attention_heads",
        "decoder_ffn_dim",
        "decoder_layerdrop",
        "encoder_layerdrop",
        "max_target_positions",
        "tie_word_embeddings",
    ):
        s.get(key)  # of the decoder and of training
    hidden = s.whole("hidden", "d_model")
    heads = s.whole("heads", "encoder_attention_heads")
    return Transformer(
        layers=s.whole("layers", "encoder_layers"),
        hidden=hidden,
        inner=s.whole("inner", "encoder_ffn_dim"),
        heads=heads,
        kv_heads=heads,
        head_size=s.split(hidden, heads),
        context=s.whole("context", "max_source_positions"),
        epsilon=s.constant("epsilon", EPSILON),
        form=form,
        activation=s.choice("activation", ACTIVATIONS, "activation_function"),
        bands=s.whole("mel bands", "num_mel_bins"),
    )


def needs(c: Transformer) -> list[Need]:
    """The tensors of a file."""
    top: dict[str, tuple[int, ...]] = {
        "conv1.weight": (c.hidden, c.bands, 3),
        "conv1.bias": (c.hidden,),
        "conv2.weight": (c.hidden, c.hidden, 3),
        "conv2.bias": (c.hidden,),
        "embed_positions.weight": (c.context, c.hidden),
        "layer_norm.weight": (c.hidden,),
        "layer_norm.bias": (c.hidden,),
    }
    found = [Need(name, f"@{name}", shape) for name, shape in top.items()]
    sizes = {"ffn_up": (c.inner, c.hidden), "ffn_down": (c.hidden, c.inner)}
    for i in range(c.layers):
        for name, called in LAYER.items():
            shape = (c.hidden,) if "norm" in name else sizes.get(name, (c.hidden, c.hidden))
            own, file_name = f"blk.{i}.{name}", f"@layers.{i}.{called}"
            found.append(Need(f"{own}.weight", f"{file_name}.weight", shape))
            if name != "attn_k":
                found.append(Need(f"{own}.bias", f"{file_name}.bias", shape[:1]))
    return found


def embed(net: Layers, c: Transformer, x: int) -> int:
    """Two convolutions over time with GELU, plus the positions."""
    for number, stride in ((1, 1), (2, 2)):
        weight = net.tensors.vector(f"conv{number}.weight")
        bias = net.tensors.vector(f"conv{number}.bias")
        conv = Conv(weight, bias, strides=(stride,), pads=(1, 1), dilations=(1,))
        x = net.add(Gelu(), net.add(conv, x, name=f"conv{number}"), name=f"conv{number}_gelu")
    x = net.add(Transpose((1, 0)), x)
    rows = net.tensors.rows("embed_positions.weight", range(net.width(x)[0]))
    return net.shift(x, rows, "embed_positions")


def block(net: Layers, c: Transformer, i: int, x: int) -> int:
    """x + attention(norm(x)), then y + feed-forward(norm(y))."""
    name = f"blk.{i}"
    assert c.activation is not None
    y = net.norm(x, f"{name}.attn_norm", c.epsilon, centred=True)
    q, k, v = (net.heads(net.dense(y, f"{name}.attn_{part}"), c.heads) for part in ("q", "k", "v"))
    mixed = net.attention(q, k, v, causal=False, name=f"{name}.attn")
    x = net.sum(net.dense(mixed, f"{name}.attn_output"), x, f"{name}.attn_sum")
    y = net.norm(x, f"{name}.ffn_norm", c.epsilon, centred=True)
    y = net.add(c.activation, net.dense(y, f"{name}.ffn_up"), name=f"{name}.ffn_act")
    return net.sum(net.dense(y, f"{name}.ffn_down"), x, f"{name}.output")


def hidden(net: Layers, c: Transformer, x: int) -> int:
    """The encoder's states, (positions, hidden)."""
    return net.norm(x, "layer_norm", c.epsilon, centred=True, node="last_hidden_state")


WHISPER = Architecture(
    name="whisper",
    title="Whisper encoders",
    model_types=("whisper",),
    gguf=(),
    read=read,
    needs=needs,
    left_out=re.compile(r"(model\.)?decoder\..*|proj_out\..*"),
    embed=embed,
    block=block,
    outputs={"last_hidden_state": hidden},
    prefixes=("model.encoder.", "encoder.", ""),
    text=False,
)
