"""Files with the shapes and tensor names of public models, and random weights.

python benches/models.py qwen3-0.6b --type Q6_K -o qwen3-0.6b.Q6_K.gguf

Language models are GGUF files; whisper-tiny and deep-mlp are safetensors files (with config.json
beside it for Whisper). Decoded weights look like N(0, 0.02): blocks are drawn from a pool of
quantised normal numbers. All tensors of qwen3-32b lie in one run of blocks of the size of the
largest, at different offsets: 0.7 GB on the disk and every byte of 26 GB read in a pass.
Matrices whose rows are no whole blocks of the type asked for are Q8_0, as llama.cpp does it;
vectors are float32.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import quantize

Array = npt.NDArray[Any]
Shapes = dict[str, tuple[int, ...]]

SIGMA = 0.02
POOL = 4096  # distinct blocks of a file
ALIGNMENT = 32


@dataclass(frozen=True)
class Decoder:
    """Sizes of a Qwen3 or GPT-2 model."""

    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    vocabulary: int
    context: int
    tied: bool
    shared: bool = False


DECODERS = {
    "qwen3-0.6b": Decoder("qwen3", 28, 1024, 16, 8, 128, 3072, 151936, 40960, True),
    "qwen3-32b": Decoder("qwen3", 64, 5120, 64, 8, 128, 25600, 151936, 40960, False, True),
    "gpt2": Decoder("gpt2", 12, 768, 12, 12, 64, 3072, 50257, 1024, False),
}
NAMES = (*DECODERS, "whisper-tiny", "deep-mlp")
TYPES = ("Q6_K", "Q4_K", "Q8_0", "F16", "BF16", "F32")


def qwen3(m: Decoder) -> Shapes:
    """Tensor names of llama.cpp; shapes with the fastest axis last."""
    q, kv = m.heads * m.head_size, m.kv_heads * m.head_size
    shapes: Shapes = {"token_embd.weight": (m.vocabulary, m.hidden)}
    for i in range(m.layers):
        layer: Shapes = {
            "attn_norm": (m.hidden,),
            "attn_q": (q, m.hidden),
            "attn_k": (kv, m.hidden),
            "attn_v": (kv, m.hidden),
            "attn_q_norm": (m.head_size,),
            "attn_k_norm": (m.head_size,),
            "attn_output": (m.hidden, q),
            "ffn_norm": (m.hidden,),
            "ffn_gate": (m.inner, m.hidden),
            "ffn_up": (m.inner, m.hidden),
            "ffn_down": (m.hidden, m.inner),
        }
        shapes.update({f"blk.{i}.{name}.weight": shape for name, shape in layer.items()})
    shapes["output_norm.weight"] = (m.hidden,)
    if not m.tied:
        shapes["output.weight"] = (m.vocabulary, m.hidden)
    return shapes


def gpt2(m: Decoder) -> Shapes:
    """Tensor names of llama.cpp; every linear layer and norm has a bias."""
    shapes: Shapes = {
        "token_embd.weight": (m.vocabulary, m.hidden),
        "position_embd.weight": (m.context, m.hidden),
    }
    for i in range(m.layers):
        layer: Shapes = {
            "attn_norm": (m.hidden,),
            "attn_qkv": (3 * m.hidden, m.hidden),
            "attn_output": (m.hidden, m.hidden),
            "ffn_norm": (m.hidden,),
            "ffn_up": (m.inner, m.hidden),
            "ffn_down": (m.hidden, m.inner),
        }
        for name, shape in layer.items():
            shapes[f"blk.{i}.{name}.weight"] = shape
            shapes[f"blk.{i}.{name}.bias"] = shape[:1]
    shapes["output_norm.weight"] = shapes["output_norm.bias"] = (m.hidden,)
    if not m.tied:
        shapes["output.weight"] = (m.vocabulary, m.hidden)
    return shapes


def metadata(m: Decoder) -> dict[str, str | int | float]:
    """What llama.cpp's converter writes for these models, without a tokenizer."""
    a = m.architecture
    keys: dict[str, str | int | float] = {
        "general.architecture": a,
        "general.alignment": ALIGNMENT,
        f"{a}.block_count": m.layers,
        f"{a}.context_length": m.context,
        f"{a}.embedding_length": m.hidden,
        f"{a}.feed_forward_length": m.inner,
        f"{a}.attention.head_count": m.heads,
    }
    if a == "gpt2":
        return {**keys, f"{a}.attention.layer_norm_epsilon": 1e-5}
    return {
        **keys,
        f"{a}.attention.head_count_kv": m.kv_heads,
        f"{a}.attention.key_length": m.head_size,
        f"{a}.attention.value_length": m.head_size,
        f"{a}.attention.layer_norm_rms_epsilon": 1e-6,
        f"{a}.rope.freq_base": 1e6,
    }


def q6_k(w: Array) -> Array:
    """Blocks (n, 210) of normal numbers (n, 256)."""
    groups = w.reshape(-1, 16, 16)
    largest = np.abs(groups).max(axis=2)
    d = (largest.max(axis=1) / (31 * 127)).astype(np.float16)
    scale = np.rint(largest / 31 / d[:, None].astype(np.float32)).clip(1, 127).astype(np.int8)
    step = d[:, None].astype(np.float32) * scale
    q = (np.rint(groups / step[:, :, None]).clip(-32, 31) + 32).astype(np.uint8)
    q = q.reshape(-1, 2, 4, 32)
    low = (q[:, :, :2] & 15) | (q[:, :, 2:] << 4)
    high = (q >> 4 << np.array([0, 2, 4, 6], np.uint8)[:, None]).sum(axis=2, dtype=np.uint8)
    parts = (low, high, scale.view(np.uint8), d[:, None].view(np.uint8))
    return np.concatenate([part.reshape(len(w), -1) for part in parts], axis=1)


def q4_k(w: Array) -> Array:
    """Blocks (n, 144) of normal numbers (n, 256)."""
    groups = w.reshape(-1, 8, 32)
    least = -groups.min(axis=2).clip(None, 0)
    reach = (groups.max(axis=2) + least) / 15
    d, dmin = (x.max(axis=1) / 63 for x in (reach, least))
    d, dmin = d.astype(np.float16), dmin.astype(np.float16)
    scale, minimum = (
        np.rint(x / unit[:, None].astype(np.float32)).clip(0, 63).astype(np.uint8)
        for x, unit in ((reach, d), (least, dmin))
    )
    step = d[:, None].astype(np.float32) * scale.clip(1)
    zero = dmin[:, None].astype(np.float32) * minimum
    q = np.rint((groups + zero[:, :, None]) / step[:, :, None]).clip(0, 15).astype(np.uint8)
    q = q.reshape(-1, 4, 2, 32)
    packed = [
        (scale[:, :4] & 63) | (scale[:, 4:] >> 4 << 6),
        (minimum[:, :4] & 63) | (minimum[:, 4:] >> 4 << 6),
        (scale[:, 4:] & 15) | (minimum[:, 4:] << 4),
    ]
    parts = (d[:, None].view(np.uint8), dmin[:, None].view(np.uint8), *packed)
    nibbles = (q[:, :, 0] | (q[:, :, 1] << 4)).reshape(len(w), -1)
    return np.concatenate([*parts, nibbles], axis=1)


PACK: dict[str, Callable[[Array], Array]] = {"Q6_K": q6_k, "Q4_K": q4_k}


def layout(kind: str) -> tuple[int, int]:
    """Weights and bytes of a block."""
    weights, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return weights, size


class Pool:
    """Random blocks of each type, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.blocks: dict[str, Array] = {}

    def draw(self, kind: str, count: int) -> Array:
        """``count`` blocks, uint8 (count, bytes)."""
        if kind not in self.blocks:
            weights, _ = layout(kind)
            size = POOL if weights > 1 else 256 * POOL
            values = (self.rng.standard_normal((size, weights)) * SIGMA).astype(np.float32)
            pack = PACK.get(kind)
            self.blocks[kind] = pack(values) if pack else self._packed(kind, values)
        pool = self.blocks[kind]
        return pool[self.rng.integers(0, len(pool), count)]

    @staticmethod
    def _packed(kind: str, values: Array) -> Array:
        raw = quantize(values, GGMLQuantizationType[kind])
        return raw.view(np.uint8).reshape(len(values), -1)


def kind_of(shape: tuple[int, ...], kind: str) -> str:
    """The type of a tensor in a file of ``kind``."""
    if len(shape) == 1:
        return "F32"
    return kind if shape[-1] % layout(kind)[0] == 0 else "Q8_0"


def stored_bytes(shape: tuple[int, ...], kind: str) -> int:
    weights, size = layout(kind)
    return math.prod(shape) // weights * size


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def _key(name: str, value: str | int | float) -> bytes:
    if isinstance(value, str):
        return _text(name) + struct.pack("<I", 8) + _text(value)
    code, kind = ("<If", 6) if isinstance(value, float) else ("<II", 4)
    return _text(name) + struct.pack(code, kind, value)


def offsets(shapes: Shapes, kind: str, shared: bool) -> tuple[dict[str, int], int]:
    """Where each tensor starts, and the bytes of all: matrices overlap when ``shared``."""
    found, end = {}, 0
    sizes = {name: stored_bytes(shape, kind_of(shape, kind)) for name, shape in shapes.items()}
    if shared:
        step = math.lcm(ALIGNMENT, layout(kind)[1])
        end = max(sizes.values())
        for index, (name, shape) in enumerate(shapes.items()):
            if len(shape) > 1:
                room = (end - sizes[name]) // step + 1
                found[name] = index * 7919 % room * step
    for name, size in sizes.items():
        if name not in found:
            found[name] = -(-end // ALIGNMENT) * ALIGNMENT
            end = found[name] + size
    return found, end


def write_gguf(path: Path, m: Decoder, kind: str, seed: int = 0) -> None:
    """Write the model ``m`` with matrices of type ``kind``."""
    shapes = (gpt2 if m.architecture == "gpt2" else qwen3)(m)
    if m.shared and any(kind_of(s, kind) not in (kind, "F32") for s in shapes.values()):
        raise SystemExit(f"{path}: rows of this model are no blocks of {kind}")
    keys, (starts, _) = metadata(m), offsets(shapes, kind, m.shared)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(keys))
    head += b"".join(_key(name, value) for name, value in keys.items())
    for name, shape in shapes.items():
        number = int(GGMLQuantizationType[kind_of(shape, kind)])
        head += _text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        head += struct.pack("<IQ", number, starts[name])
    start, pool = -(-len(head) // ALIGNMENT) * ALIGNMENT, Pool(seed)
    with path.open("wb") as stream:
        stream.write(head)
        if m.shared:
            widest = max(stored_bytes(shape, kind_of(shape, kind)) for shape in shapes.values())
            stream.seek(start)
            _write(stream, pool, kind, widest // layout(kind)[1])
        for name, shape in shapes.items():
            stream.seek(start + starts[name])
            if len(shape) == 1:
                stream.write(vector(pool.rng, name, shape[0]).tobytes())
            elif not m.shared:
                own = kind_of(shape, kind)
                _write(stream, pool, own, math.prod(shape) // layout(own)[0])


def _write(stream: BinaryIO, pool: Pool, kind: str, count: int) -> None:
    step = (16 << 20) // layout(kind)[1]
    for start in range(0, count, step):
        stream.write(pool.draw(kind, min(step, count - start)).tobytes())


def vector(rng: np.random.Generator, name: str, size: int) -> npt.NDArray[np.float32]:
    """Gains near 1 and small biases."""
    gain = "norm" in name and name.endswith("weight")
    return (float(gain) + 0.1 * rng.standard_normal(size)).astype(np.float32)


WHISPER = {
    "model_type": "whisper",
    "architectures": ["WhisperForConditionalGeneration"],
    "d_model": 384,
    "encoder_layers": 4,
    "encoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "num_mel_bins": 80,
    "max_source_positions": 1500,
    "activation_function": "gelu",
}


def whisper_encoder(config: dict[str, Any]) -> Shapes:
    """The encoder's tensors as transformers names them; k_proj has no bias."""
    d, inner = config["d_model"], config["encoder_ffn_dim"]
    top = "model.encoder."
    shapes: Shapes = {
        f"{top}conv1.weight": (d, config["num_mel_bins"], 3),
        f"{top}conv1.bias": (d,),
        f"{top}conv2.weight": (d, d, 3),
        f"{top}conv2.bias": (d,),
        f"{top}embed_positions.weight": (config["max_source_positions"], d),
    }
    for i in range(config["encoder_layers"]):
        layer: Shapes = {f"self_attn.{n}_proj": (d, d) for n in ("k", "v", "q", "out")}
        layer |= {"self_attn_layer_norm": (d,), "fc1": (inner, d), "fc2": (d, inner)}
        layer["final_layer_norm"] = (d,)
        for name, shape in layer.items():
            shapes[f"{top}layers.{i}.{name}.weight"] = shape
            if name != "self_attn.k_proj":
                shapes[f"{top}layers.{i}.{name}.bias"] = shape[:1]
    shapes[f"{top}layer_norm.weight"] = shapes[f"{top}layer_norm.bias"] = (d,)
    return shapes


def deep_mlp(layers: int = 48, width: int = 1024) -> Shapes:
    """A state_dict of ``layers`` linear layers with activations between them."""
    pairs = (
        ((f"{2 * i}.weight", (width, width)), (f"{2 * i}.bias", (width,))) for i in range(layers)
    )
    return dict(item for pair in pairs for item in pair)


def _arrays(shapes: Shapes, dtype: Any, seed: int) -> Iterator[tuple[str, Array]]:
    rng = np.random.default_rng(seed)
    for name, shape in shapes.items():
        if len(shape) == 1:
            yield name, vector(rng, name, shape[0]).astype(dtype)
        else:
            scale = min(SIGMA, 1 / math.sqrt(math.prod(shape[1:])))
            yield name, (rng.standard_normal(shape, np.float32) * scale).astype(dtype)


def write_safetensors(path: Path, shapes: Shapes, kind: str, seed: int = 0) -> None:
    """Write the tensors as F32, F16 or BF16."""
    import ml_dtypes
    from safetensors.numpy import save_file

    dtypes = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    if kind not in dtypes:
        raise SystemExit(f"{path}: safetensors files hold F32, F16 or BF16, not {kind}")
    save_file(dict(_arrays(shapes, dtypes[kind], seed)), path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", choices=NAMES)
    parser.add_argument("--type", choices=TYPES, help="default: Q6_K; F16 in safetensors files")
    parser.add_argument("--layers", type=int, help="fewer than the public model has")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    args = parser.parse_args(argv)
    if args.seed < 0 or (args.layers is not None and args.layers < 1):
        parser.exit(2, "models.py: --seed 0 or more, --layers 1 or more\n")
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.open("ab").close()
    except OSError as error:
        parser.exit(2, f"models.py: -o {args.output}: cannot be written ({error.strerror})\n")
    if args.model in DECODERS:
        model = DECODERS[args.model]
        model = replace(model, layers=args.layers or model.layers)
        write_gguf(args.output, model, args.type or "Q6_K", args.seed)
    elif args.model == "whisper-tiny":
        config = {**WHISPER, "encoder_layers": args.layers or WHISPER["encoder_layers"]}
        write_safetensors(args.output, whisper_encoder(config), args.type or "F16", args.seed)
        args.output.with_name("config.json").write_text(json.dumps(config, indent=2) + "\n")
    else:
        write_safetensors(args.output, deep_mlp(args.layers or 48), args.type or "F16", args.seed)
    print(f"{args.output}: {args.output.stat().st_size:,} bytes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
