"""Writing a network: a safetensors file whose header spells the graph out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gamma.errors import UnsupportedError, UsageError
from gamma.formats import spelled
from gamma.formats.safetensors import HEADER_LIMIT
from gamma.network.graph import Network
from gamma.runtime.files import path_of

DTYPES = ("float32", "float64", "int64")


def save(net: Network, path: str | Path) -> None:
    """Write ``net`` to ``path`` (a ``.safetensors`` file), atomically; ``load`` gives it back.

    Weights keep their dtype and bits. Raises UsageError for another suffix or a folder that does
    not exist, UnsupportedError for an operator without a record in the table.
    """
    from safetensors.numpy import save as serialise

    path = path_of(path)
    if not isinstance(net, Network):
        raise UsageError(f"net is {type(net).__name__}, expected a Network: gamma.load(path)")
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: networks are saved as .safetensors files")
    tensors, text = spelled.encode(net)
    for name, array in tensors.items():
        if array.dtype.name not in DTYPES:
            raise UnsupportedError(f"{name}: dtype {array.dtype} cannot be saved")
    contents = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    data = serialise(contents, metadata={spelled.KEY: text})
    if int.from_bytes(data[:8], "little") > HEADER_LIMIT:
        raise UnsupportedError(f"{path}: the graph's description exceeds {HEADER_LIMIT} bytes")
    write_atomically(path, data)


def write_atomically(path: Path, data: bytes | Callable[[BinaryIO], None]) -> None:
    """Replace ``path`` by ``data``, or by what it writes, in one step.

    A reader sees the old file or the new one.
    """
    try:
        import tempfile

        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as stream:
            if callable(data):
                data(stream)
            else:
                stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """The process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
