"""atheris target: arbitrary bytes given to the safetensors reader end in a network or a GammaError.

python fuzz/safetensors_fuzz.py -max_total_time=60
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gamma"]):
    from gamma.errors import GammaError
    from gamma.formats import load
    from gamma.formats.spelled import KEY

FOLDER = Path(tempfile.mkdtemp(prefix="gamma-fuzz-"))


def one_input(data: bytes) -> None:
    """Half of the inputs are whole files, half are a graph's JSON text behind a valid header."""
    import numpy as np
    from safetensors.numpy import save

    path = FOLDER / "input.safetensors"
    if data[:1] < b"\x80":
        path.write_bytes(data[1:])
    else:
        text = data[1:].decode("utf-8", "ignore")
        path.write_bytes(save({"w": np.ones((2, 2), np.float32)}, metadata={KEY: text}))
    try:
        load(path, activation="relu" if data[:1] < b"\x40" else None)
    except GammaError as error:
        if not str(error).isprintable():
            raise


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
