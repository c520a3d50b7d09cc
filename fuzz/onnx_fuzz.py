"""atheris target: arbitrary bytes given to the ONNX reader end in a network or a GammaError.

python fuzz/onnx_fuzz.py -max_total_time=60
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gamma"]):
    from gamma.errors import GammaError
    from gamma.formats import load
    from gamma.formats.onnx import TRANSLATORS

FOLDER = Path(tempfile.mkdtemp(prefix="gamma-fuzz-"))
NAMES = sorted(TRANSLATORS)


def composed(data: atheris.FuzzedDataProvider) -> bytes:
    """A well-formed model of random operators, wired and parametrised by the data."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    values = ["x", "w", "i", ""]
    nodes = []
    for k in range(data.ConsumeIntInRange(1, 6)):
        inputs = [values[data.ConsumeIntInRange(0, len(values) - 1)]
                  for _ in range(data.ConsumeIntInRange(0, 4))]  # fmt: skip
        keys = ("axis", "axes", "pads", "kernel_shape", "strides", "perm", "alpha", "group")
        attributes = {}
        for key in keys:
            kind = data.ConsumeIntInRange(0, 8)
            if kind == 1:
                attributes[key] = data.ConsumeIntInRange(-(2**63), 2**63 - 1)
            elif kind == 2:
                attributes[key] = data.ConsumeIntListInRange(data.ConsumeIntInRange(1, 4), -2, 9)
            elif kind == 3:
                attributes[key] = data.ConsumeFloat()
        op = NAMES[data.ConsumeIntInRange(0, len(NAMES) - 1)]
        nodes.append(helper.make_node(op, inputs, [f"v{k}"], name=f"n{k}", **attributes))
        values.append(f"v{k}")
    dims = data.ConsumeIntListInRange(data.ConsumeIntInRange(1, 4), 1, 5)
    integers = np.array(data.ConsumeIntListInRange(data.ConsumeIntInRange(0, 5), -(2**62), 2**62))
    small = np.array(data.ConsumeIntListInRange(data.ConsumeIntInRange(0, 5), -3, 8))
    weight = np.linspace(-1, 1, int(np.prod(dims))).astype(np.float32).reshape(dims)
    graph = helper.make_graph(
        nodes,
        "fuzz",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info(values[-1], TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(integers if data.ConsumeBool() else small, "i"),
        ],
    )
    opset = helper.make_opsetid("", data.ConsumeIntInRange(7, 21))
    return helper.make_model(graph, opset_imports=[opset]).SerializeToString()


def one_input(data: bytes) -> None:
    """Half of the inputs are whole files, half choose operators for a well-formed model."""
    path = FOLDER / "input.onnx"
    if data[:1] < b"\x80":
        path.write_bytes(data[1:])
    else:
        try:
            path.write_bytes(composed(atheris.FuzzedDataProvider(data[1:])))
        except (ValueError, TypeError, OverflowError):
            return  # the onnx package refused to write it
    try:
        load(path)
    except GammaError as error:
        if not str(error).isprintable():
            raise


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
