"""One door for every network file: told apart by content first, by suffix only to explain."""

from __future__ import annotations

import stat
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from gamma.errors import FormatError, UsageError
from gamma.formats.compressed import existing, expanding
from gamma.formats.limits import bounded
from gamma.network.graph import Network
from gamma.runtime.files import file_mode, open_regular, path_of, refused
from gamma.telemetry import spanned

SNIFFED = 512  # bytes that tell the formats apart
# A safetensors file: the high bytes of its header's length, then JSON. Looked for first, because
# the low bytes of the length may be those of a pickle or of gzip.
HEADER_START = b"\0\0\0\0{"

MODEL_OPTIONS = frozenset({"config", "positions", "block", "output"})
ONNX_OPTIONS = frozenset({"input_shape", "output", "ranking"})
STATE_DICT_OPTIONS = frozenset({"activation", "input_shape", "strides", "pads", "order"})


PerAxis = int | Sequence[int]


class LoadOptions(TypedDict, total=False):
    """The options of `load`, which says what each means."""

    input_shape: Sequence[int] | None
    output: str | None
    ranking: bool | None
    activation: str | Sequence[str] | None
    strides: PerAxis | Mapping[str, PerAxis] | None
    pads: PerAxis | Mapping[str, PerAxis] | None
    order: Sequence[str] | None
    positions: int | None
    block: int | None
    config: str | Path | None


@spanned("load")
def load(
    path: str | Path, *, gzip_ratio: float | None = None, **options: Unpack[LoadOptions]
) -> Network:
    """Read a network: ``.onnx``, ``.onnx.gz``, ``.safetensors``, ``.gguf``, or a model's folder.

    The content decides which reader runs. Options that are None count as not given:
    ``activation``, ``input_shape``, ``strides``, ``pads`` and ``order`` tell what a safetensors
    file without a graph leaves open; ``output`` names one of several outputs of an ONNX file.
    Language and speech models need ``positions``, the length of the prompt, and take ``block``,
    ``output`` and ``config`` (`gamma.open_model` says more of them). ``ranking``: only which output
    is larger matters, so that a softmax at the end is left out.
    ``gzip_ratio`` is how many times its size a gzip file may expand to (100 unless given).

    Raises:
        FormatError: unreadable, damaged, or a format that can run code (pickle).
        UnsupportedError: a known format or an operator that gamma does not read.
        UsageError: an option that this file does not take, or one that is missing.
    """
    path = path_of(path)
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    unknown = set(given) - ONNX_OPTIONS - STATE_DICT_OPTIONS - MODEL_OPTIONS
    if unknown:
        raise UsageError(f"unknown option {', '.join(sorted(unknown))}")
    if is_model(path, given.get("config"), plain="activation" in given):
        given.pop("ranking", None)
        _only(path, given, MODEL_OPTIONS, "a model")
        from gamma.formats.model import open_model

        model = open_model(path, given.pop("config", None))
        if "positions" not in given:
            raise UsageError(
                f"{path}: the network of a language or speech model belongs to the length of its "
                "prompt: give positions=N"
            )
        return model.network(given.pop("positions"), **given)
    of_models = sorted(set(given) & {"positions", "block"})
    if of_models:
        raise UsageError(
            f"{path}: {of_models[0]} is for language and speech models, GGUF files and folders "
            'with config.json; for a .safetensors file of one give config="config.json"'
        )
    kind = sniff(path)
    if kind == "onnx":
        from gamma.formats.onnx import load_onnx

        _only(path, given, ONNX_OPTIONS, "an ONNX file")
        with expanding(gzip_ratio):
            return bounded(load_onnx(path, **given), path)
    from gamma.formats.safetensors import load_safetensors

    given.pop("ranking", None)  # such networks end with their logits

    _only(path, given, STATE_DICT_OPTIONS, "a safetensors file")
    return bounded(load_safetensors(path, **given), path)


def _only(path: Path, given: dict[str, Any], allowed: frozenset[str], what: str) -> None:
    wrong = sorted(set(given) - allowed)
    if wrong:
        raise UsageError(f"{path}: {what} says this itself, {', '.join(wrong)} cannot be given")


def sniff(path: Path) -> str:
    """``"onnx"`` or ``"safetensors"`` by content; every other format is refused by name."""
    head, compressed = _head(path)
    if head[4:9] == HEADER_START:
        if compressed:
            raise FormatError.at(
                path, "", "a compressed safetensors file cannot be mapped; decompress it first"
            )
        return "safetensors"
    refused = _refused(head)
    if refused:
        raise FormatError.at(path, "", refused)
    if head.startswith(b"GGUF"):  # what is not compressed was recognised before
        raise FormatError.at(path, "", "a compressed GGUF file cannot be mapped; decompress it")
    if path.suffix == ".safetensors" and not compressed:
        return "safetensors"  # damaged: its reader says how
    return "onnx"  # protobuf has no signature: the ONNX reader checks everything else


def is_gguf(path: Path) -> bool:
    """Whether the file starts as a GGUF file does; False when it cannot be read."""
    try:
        with open_regular(path) as stream:
            return stream.read(4) == b"GGUF"
    except (FormatError, OSError):
        return False


def is_model(path: str | Path, config: str | Path | None = None, plain: bool = False) -> bool:
    """Whether `model.open_model` is what reads ``path``.

    A .safetensors file is a model when its config.json is given or beside it, unless it spells its
    own graph out, or is ``plain``: its activation was given.
    """
    path = path_of(path)
    if config is not None or is_folder(path) or is_gguf(path):
        return True
    if plain or path.suffix != ".safetensors" or not is_file(path):
        return False
    from gamma.formats.folder import CONFIG, read_config
    from gamma.formats.safetensors import open_tensors
    from gamma.formats.spelled import KEY

    beside = path.parent / CONFIG
    if not is_file(beside):
        return False
    return KEY not in open_tensors(path).metadata and "model_type" in read_config(beside)


def is_folder(path: Path) -> bool:
    """Whether the path is a folder."""
    return stat.S_ISDIR(file_mode(path) or 0)


def is_file(path: Path) -> bool:
    """Whether the path is a regular file."""
    return stat.S_ISREG(file_mode(path) or 0)


def _head(path: Path) -> tuple[bytes, bool]:
    """First bytes of the file, decompressed when it is gzip, and whether it was."""
    path = existing(path)
    if stat.S_ISDIR(file_mode(path) or 0):
        raise FormatError.at(path, "", "is a folder, expected a network file")
    try:
        with open_regular(path) as stream:
            head = stream.read(SNIFFED) or b""
            if head[4:9] == HEADER_START or not head.startswith(b"\x1f\x8b"):
                return head, False
            stream.seek(0)
            import gzip

            with gzip.open(stream) as expanded:
                return expanded.read(SNIFFED), True
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise refused(path, f"cannot be read: {reason}") from None


def _refused(head: bytes) -> str | None:
    """Why a file of this content is refused, or None."""
    if not head:
        return "the file is empty"
    if head[:1] == b"\x80" and head[1:2] in b"\x01\x02\x03\x04\x05":
        return (
            "this is a pickle, which can run code when read; export the network to ONNX (in "
            "Python, gamma.from_torch(module, example_input) does), or save the weights as "
            "safetensors"
        )
    if head.startswith(b"PK\x03\x04"):
        return (
            "this is a zip archive (a PyTorch checkpoint holds a pickle, which can run code); "
            "export the network to ONNX (in Python, gamma.from_torch(module, example_input) does), "
            "or save the weights as safetensors"
        )
    if head[:4] in (b"lmgg", b"fmgg", b"tjgg"):
        return (
            "this is a ggml file, as whisper.cpp writes them, not GGUF; give the folder with "
            "config.json and model.safetensors that it was made of"
        )
    if head.startswith(b"\x93NUMPY"):
        return "this is an array, expected a network; give arrays as inputs"
    if head.lstrip()[:1] == b"{" and b'"' in head:
        return (
            "this is JSON, not weights; of a model.safetensors.index.json or a config.json, give "
            "the folder"
        )
    if head.startswith(b"\x89HDF\r\n"):
        return "HDF5 networks are not read; export the network to ONNX"
    return None
