"""atheris target: arbitrary bytes given to the VNN-LIB readers end in a property or a GammaError.

python fuzz/vnnlib_fuzz.py -max_total_time=60
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gamma"]):
    from gamma.errors import GammaError
    from gamma.formats.vnnlib import read_string, read_vnnlib

FOLDER = Path(tempfile.mkdtemp(prefix="gamma-fuzz-"))
HEADS = (
    "",
    "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= 0 X_0 1))",
    "(vnnlib-version <2.0>)",
    "(vnnlib-version <2.0>)(declare-network n (declare-input X Real [1])"
    "(declare-output Y Real [1]))(assert (<= X[0] 1.0))(assert (>= X[0] 0.0))",
)
WORDS = "( ) (assert (and (or (<= (>= (< (= (+ (- (* X_0 Y_0 X[0] Y[0] 1.5 -2 1e3 Real ; \n".split(
    " "
)
WORDS += ["(assert (<= Y_0 1))", "(assert (<= Y[0] 1.0))", "(declare-const X_1 Real)"]


def one_input(data: bytes) -> None:
    """The first byte chooses: a whole file, or text or words behind a valid beginning."""
    try:
        if data[:1] < b"\x40":
            path = FOLDER / "input.vnnlib"
            path.write_bytes(data[1:])
            read_vnnlib(path)
        else:
            head = HEADS[data[0] % len(HEADS)]
            text = data[1:].decode("utf-8", "ignore")
            if data[:1] >= b"\x80":
                text = " ".join(WORDS[byte % len(WORDS)] for byte in data[1:])
            prop = read_string(head + text)
            prop.regions_of([0.5] * prop.inputs)
    except GammaError as error:
        if not str(error).isprintable():
            raise


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
