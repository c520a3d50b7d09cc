"""Inputs of a network from a file: one or a batch, as a .npy or .npz array or a PNG image."""

from __future__ import annotations

import math
import os
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gamma.errors import FormatError, UsageError
from gamma.formats.npy import INPUT_LIMIT, read_any, read_stream
from gamma.runtime.files import file_mode, open_regular, refused

Float64 = npt.NDArray[np.float64]

ZIP, PNG = b"PK\x03\x04", b"\x89PNG\r\n\x1a\n"
IMAGES = {b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"RIFF": "WebP"}
DIRECTORY_LIMIT = 1 << 20
"""Bytes of an archive's table of contents, which is read as a whole."""
NAMES_SHOWN = 8


def read_inputs(name: str, wanted: tuple[int, ...]) -> tuple[Float64, bool]:
    """Inputs (inputs, *wanted) from a file, and whether the file has an axis of several.

    ``name``: a .npy file, a .npz file (``FILE.npz:ARRAY`` where it has several arrays), or a PNG
    image, whose values are divided by the largest (255) in float32.

    Raises:
        FormatError: unreadable, or not such a file. UsageError: of another shape than the network
            takes; or Pillow is not installed.
    """
    path, _ = _split(name)
    if _head(path).startswith(PNG):
        return _image(path, wanted)[None], False
    x = read_array(name)
    size = math.prod(wanted)
    if x.size == size:
        return x.reshape(1, *wanted), False
    if x.ndim and len(x) and x.size == len(x) * size:
        return x.reshape(len(x), *wanted), True
    many = ", ".join(map(str, ("inputs", *wanted)))
    raise UsageError(
        f"{name}: array of shape {x.shape} ({x.size} entries), the network takes {wanted} ({size} "
        f"entries): give one input, or several of shape ({many})"
    )


def read_labels(name: str, inputs: int) -> npt.NDArray[np.int64]:
    """The class of each of ``inputs`` inputs, whole numbers from 0 on (inputs,)."""
    x = read_array(name)
    if x.size != inputs or max(x.shape, default=1) != x.size:
        raise UsageError(f"{name}: array of shape {x.shape}, expected a class for each of {inputs}")
    labels = x.ravel()
    if (labels != np.floor(labels)).any() or (labels < 0).any():
        raise UsageError(f"{name}: expected classes, whole numbers from 0")
    return labels.astype(np.int64)


def read_array(name: str) -> Float64:
    """The array of a .npy file, or one of a .npz file: ``FILE.npz`` or ``FILE.npz:ARRAY``."""
    path, member = _split(name)
    head = _head(path)
    if head.startswith(ZIP):
        return _member(path, member)
    for magic, kind in IMAGES.items():
        if head.startswith(magic):
            raise refused(path, f"is a {kind} image, expected .npy, .npz or .png")
    if member:
        raise refused(path, f"is no .npz file, it has no array {member[:40]!r}")
    return read_any(Path(path))


def _split(name: str) -> tuple[str, str]:
    """The file, and the array that is named behind a colon."""
    path, colon, member = name.rpartition(":")
    named = bool(colon) and path.endswith(".npz") and file_mode(name) is None
    return (path, member) if named else (name, "")


def _head(path: str) -> bytes:
    try:
        with open_regular(path, "give an array saved with numpy.save") as stream:
            return stream.read(8)
    except OSError as error:
        raise refused(path, f"cannot be read: {error.strerror or error}") from None


# --- archives -------------------------------------------------------------------------------------


def _member(path: str, member: str) -> Float64:
    import zipfile

    try:
        with open_regular(path) as stream:
            _check_directory(stream, path)
            with zipfile.ZipFile(stream) as archive:
                infos = {i.filename: i for i in archive.infolist() if i.filename.endswith(".npy")}
                info = infos[_chosen(path, member, [name[:-4] for name in infos]) + ".npy"]
                with archive.open(info) as content:
                    return read_stream(content, info.file_size, f"{path}:{info.filename[:-4]}")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        line = " ".join(str(error).split())[:100]
        raise refused(path, f"is not a .npz file ({line}); use numpy.savez") from None
    except OSError as error:
        raise refused(path, f"cannot be read: {error.strerror or error}") from None


def _check_directory(stream: IO[bytes], path: str) -> None:
    """Refuse a table of contents that would fill the memory: its size is at the file's end."""
    size = os.fstat(stream.fileno()).st_size
    stream.seek(max(size - (1 << 16) - 22, 0))
    tail = stream.read()
    end = tail.rfind(b"PK\x05\x06")
    length = int.from_bytes(tail[end + 12 : end + 16], "little")
    if end < 0 or length > DIRECTORY_LIMIT or b"PK\x06\x07" in tail or size > INPUT_LIMIT:
        raise refused(path, "is not a .npz file of a few arrays; use numpy.savez")
    stream.seek(0)


def _chosen(path: str, member: str, names: list[str]) -> str:
    """The array that is asked for, or the only one."""
    if member in names:
        return member
    if not member and len(names) == 1:
        return names[0]
    shown = ", ".join(name[:40] for name in names[:NAMES_SHOWN]) or "none"
    what = f"no array {member[:40]!r}" if member else "several arrays"
    raise UsageError(f"{path}: has {what if names else 'no arrays'}; give {path}:NAME, of {shown}")


# --- images ---------------------------------------------------------------------------------------


def _image(path: str, wanted: tuple[int, ...]) -> Float64:
    """The pixels in the network's order: channels first or last, or flat with channels first."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise UsageError(
            f"{path}: images need Pillow: pip install 'gamma-verify[image]', or give a .npy file"
        ) from None
    try:
        with open_regular(path) as stream, Image.open(stream, formats=("PNG",)) as image:
            wide, high = image.size
            if wide * high > math.prod(wanted):
                raise UsageError(_fits_not(path, (high, wide), wanted))
            pixels = _pixels(image, path)
    except UnidentifiedImageError:
        raise refused(path, "is a damaged PNG image") from None
    except (OSError, ValueError, SyntaxError, EOFError, zlib.error) as error:
        if isinstance(error, FormatError | UsageError):
            raise
        line = " ".join(str(error).split())[:100]
        raise refused(path, f"is a damaged PNG image ({line})") from None
    high, wide, channels = pixels.shape
    flat = (high * wide * channels,)
    first = [(channels, high, wide), flat] + ([(high, wide)] if channels == 1 else [])
    if wanted in first:
        return pixels.transpose(2, 0, 1).reshape(wanted)
    if wanted == (high, wide, channels):
        return pixels
    raise UsageError(_fits_not(path, pixels.shape, wanted))


def _pixels(image: Any, path: str) -> Float64:
    """Values in [0, 1] (height, width, channels) of a grey or RGB image without transparency."""
    if getattr(image, "n_frames", 1) != 1:
        raise refused(path, "has several frames, expected one image")
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode == "1":
        image = image.convert("L")
    values = np.asarray(image)
    if image.mode in ("LA", "RGBA"):
        if (values[..., -1] != 255).any():
            raise UsageError(f"{path}: has transparent pixels, which no network sees: remove them")
        values = values[..., :-1]
    most = 65535 if image.mode.startswith("I") else 255
    if image.mode not in ("L", "RGB", "LA", "RGBA", "I;16", "I"):
        raise refused(path, f"has pixels of mode {image.mode}, expected grey or RGB")
    scaled = values.astype(np.float32) / np.float32(most)
    return scaled.reshape(*values.shape[:2], -1).astype(np.float64)


def _fits_not(path: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    return (
        f"{path}: image of shape {'×'.join(map(str, shape))} (height, width, channels), the "
        f"network takes {wanted}: resize or convert it as the network's training did"
    )
