"""One row of a file whose batch is fixed: every row is computed alone, or the file is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import gamma
from gamma.__main__ import main
from gamma.errors import PropertyError, UnsupportedError
from tests.formats.onnx_models import Node, load, model, runtime

RANDOM = np.random.default_rng(7)
N = 4


def weights(*shape: int) -> np.ndarray:
    return RANDOM.integers(-4, 5, shape).astype(np.float32)


DENSE: Node = ("Gemm", ["x", "w", "b"], ["y"], {"transB": 1})
FROM_SHAPE: list[Node] = [
    ("Shape", ["x"], ["s"], {}),
    ("Gather", ["s", "zero"], ["n"], {"axis": 0}),
    ("Unsqueeze", ["n"], ["n1"], {"axes": [0]}),
    ("Concat", ["n1", "rest"], ["target"], {"axis": 0}),
]
FLAT = np.array([-1], np.int64)

ALONE: dict[str, tuple[list[Node], tuple[int, ...], dict[str, Any], int]] = {
    "dense": ([DENSE], (N, 3), {"w": weights(2, 3), "b": weights(2)}, 13),
    "bias of equal rows": (
        [DENSE],
        (N, 3),
        {"w": weights(2, 3), "b": np.tile(weights(1, 2), (N, 1))},
        13,
    ),
    "convolution and dense": (
        [
            ("Conv", ["x", "k"], ["c"], {"pads": [1, 1, 1, 1]}),
            ("Relu", ["c"], ["r"], {}),
            ("MaxPool", ["r"], ["p"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
            ("Reshape", ["p", "target"], ["f"], {}),
            ("MatMul", ["f", "w"], ["y"], {}),
        ],
        (N, 1, 4, 4),
        {"k": weights(2, 1, 3, 3), "target": np.array([N, 8]), "w": weights(8, 3)},
        13,
    ),
    "the rest inferred": (
        [("Reshape", ["x", "target"], ["y"], {})],
        (N, 2, 3),
        {"target": np.array([N, -1])},
        13,
    ),
    "the batch inferred": (
        [("Reshape", ["x", "target"], ["y"], {})],
        (N, 2, 3),
        {"target": np.array([-1, 6])},
        13,
    ),
    "the batch from a shape": (
        [*FROM_SHAPE, ("Reshape", ["x", "target"], ["y"], {})],
        (N, 2, 3),
        {"zero": np.array(0), "rest": FLAT},
        11,
    ),
    "all of the batch sliced": (
        [("Slice", ["x", "starts", "ends", "axes"], ["y"], {})],
        (N, 3),
        {"starts": np.array([0, 1]), "ends": np.array([N, 3]), "axes": np.array([0, 1])},
        13,
    ),
    "joined with constant rows": (
        [("Concat", ["c", "x"], ["y"], {"axis": -1})],
        (N, 2),
        {"c": np.tile(weights(1, 2), (N, 1))},
        13,
    ),
    "expanded": (
        [("Expand", ["x", "target"], ["y"], {})],
        (N, 1, 2),
        {"target": np.array([N, 3, 2])},
        13,
    ),
    "attention's product": (
        [("Transpose", ["x"], ["t"], {"perm": [0, 2, 1]}), ("MatMul", ["x", "t"], ["y"], {})],
        (N, 3, 2),
        {},
        13,
    ),
    "chosen by a comparison": (
        [("Greater", ["x", "zero"], ["c"], {}), ("Where", ["c", "x", "k"], ["y"], {})],
        (N, 3),
        {"zero": np.zeros(3, np.float32), "k": np.tile(np.zeros((1, 3), np.float32), (N, 1))},
        13,
    ),
    "sums along a row": ([("CumSum", ["x", "one"], ["y"], {})], (N, 3), {"one": np.array(1)}, 13),
    "repeated along a row": (
        [("Tile", ["x", "times"], ["y"], {})],
        (N, 3),
        {"times": np.array([1, 2])},
        13,
    ),
    "images made larger": (
        [("Resize", ["x", "", "", "sizes"], ["y"], {"mode": "nearest"})],
        (N, 1, 2, 2),
        {"sizes": np.array([N, 1, 4, 4])},
        13,
    ),
    "images scaled": (
        [("Upsample", ["x", "scales"], ["y"], {"mode": "nearest"})],
        (N, 1, 2, 2),
        {"scales": np.array([1, 1, 2, 2], np.float32)},
        9,
    ),
    "letters": (
        [("Einsum", ["x", "w"], ["y"], {"equation": "nij,jk->nik"})],
        (N, 2, 3),
        {"w": weights(3, 2)},
        13,
    ),
    "the same places of every row": (
        [
            ("GatherElements", ["x", "places"], ["g"], {"axis": 1}),
            ("ScatterElements", ["g", "one", "new"], ["y"], {"axis": 1}),
        ],
        (N, 3),
        {
            "places": np.tile([[2, 0]], (N, 1)),
            "one": np.tile([[1, 0]], (N, 1)),
            "new": np.tile(weights(1, 2), (N, 1)),
        },
        13,
    ),
    "triangles": ([("Trilu", ["x"], ["y"], {"upper": 0})], (N, 3, 3), {}, 14),
    "rounded": ([("Floor", ["x"], ["f"], {}), ("Neg", ["f"], ["y"], {})], (N, 3), {}, 13),
    "a mean over positions": (
        [("ReduceMean", ["x"], ["y"], {"axes": [-1], "keepdims": 0})],
        (N, 2, 4),
        {},
        13,
    ),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_row_of_a_fixed_batch_is_what_the_file_computes(name: str) -> None:
    nodes, shape, constants, opset = ALONE[name]
    proto = model(nodes, shape, constants, opset)
    for given in ((1, *shape[1:]), shape[1:]):
        net = load(proto, input_shape=given)
    assert net.input_shape == shape[1:] and "fixed at 4" in net.notes[0]
    for _ in range(3):  # whole numbers: every sum is exact in float32
        x = RANDOM.integers(-8, 9, shape).astype(np.float32)
        wanted = runtime(proto, x)
        for k in range(N):
            assert net.forward(x[k]).ravel().tolist() == wanted[k].ravel().tolist()


MIXED: dict[str, tuple[list[Node], tuple[int, ...], dict[str, Any], int]] = {
    "another bias for each row": (
        [("Add", ["x", "b"], ["y"], {})],
        (N, 3),
        {"b": np.arange(3.0 * N, dtype=np.float32).reshape(N, 3)},
        13,
    ),
    "a sum over the batch": ([("ReduceSum", ["x"], ["y"], {"keepdims": 1})], (N, 3), {}, 13),
    "a mean over the batch": ([("ReduceMean", ["x"], ["y"], {"axes": [-2]})], (N, 3), {}, 13),
    "rows turned to columns": ([("Transpose", ["x"], ["y"], {"perm": [1, 0]})], (N, 3), {}, 13),
    "another number of rows": (
        [("Reshape", ["x", "target"], ["y"], {})],
        (N, 3),
        {"target": np.array([2, 6])},
        13,
    ),
    "a batch of one long row": (
        [("Reshape", ["x", "target"], ["y"], {})],
        (N, 3),
        {"target": np.array([1, -1])},
        13,
    ),
    "rows of a square mixed": (
        [("MatMul", ["m", "x"], ["y"], {})],
        (N, 3),
        {"m": np.ones((N, N), np.float32)},
        13,
    ),
    "the batch beside a later axis": (
        [
            ("Reshape", ["x", "target"], ["z"], {}),
            ("ReduceSum", ["x", "one"], ["s"], {"keepdims": 0}),
            ("Add", ["z", "s"], ["y"], {}),
        ],
        (N, N),
        {"target": np.array([N, N]), "one": np.array([1])},
        13,
    ),
    "the batch's length as a factor": (
        [
            ("Shape", ["x"], ["s"], {}),
            ("Gather", ["s", "zero"], ["n"], {"axis": 0}),
            ("Cast", ["n"], ["f"], {"to": 1}),
            ("Mul", ["x", "f"], ["y"], {}),
        ],
        (N, 3),
        {"zero": np.array(0)},
        13,
    ),
    "one row gathered": (
        [("Gather", ["x", "zero"], ["y"], {"axis": 0})],
        (N, 3),
        {"zero": np.array([0])},
        13,
    ),
    "some rows sliced": (
        [("Slice", ["x", "zero", "one"], ["y"], {})],
        (N, 3),
        {"zero": np.array([0]), "one": np.array([1])},
        13,
    ),
    "joined along the batch": ([("Concat", ["x", "x"], ["y"], {"axis": -2})], (N, 3), {}, 13),
    "padded along the batch": (
        [("Pad", ["x", "pads"], ["y"], {})],
        (N, 3),
        {"pads": np.array([0, 0, 1, 0])},
        13,
    ),
    "sums along the batch": (
        [("CumSum", ["x", "zero"], ["y"], {})],
        (N, 3),
        {"zero": np.array(0)},
        13,
    ),
    "repeated as rows": (
        [("Tile", ["x", "times"], ["y"], {})],
        (N, 3),
        {"times": np.array([2, 1])},
        13,
    ),
    "fewer images": (
        [("Resize", ["x", "", "", "sizes"], ["y"], {"mode": "nearest"})],
        (N, 1, 2, 2),
        {"sizes": np.array([2, 1, 4, 4])},
        13,
    ),
    "a letter summed": (
        [("Einsum", ["x", "w"], ["y"], {"equation": "nij,jk->ik"})],
        (N, 2, 3),
        {"w": weights(3, 2)},
        13,
    ),
    "letters turned": ([("Einsum", ["x"], ["y"], {"equation": "nij->inj"})], (N, N, 3), {}, 13),
    "other places in each row": (
        [("GatherElements", ["x", "places"], ["y"], {"axis": 1})],
        (N, 3),
        {"places": np.arange(N)[:, None] % 3},
        13,
    ),
    "rows named by places": (
        [("GatherND", ["x", "places"], ["y"], {})],
        (N, 3),
        {"places": np.arange(N)[:, None]},
        13,
    ),
    "triangles across the batch": ([("Trilu", ["x"], ["y"], {})], (N, 3), {}, 14),
}


@pytest.mark.parametrize("name", MIXED)
def test_rows_that_are_not_computed_alone_are_refused(name: str) -> None:
    nodes, shape, constants, opset = MIXED[name]
    proto = model(nodes, shape, constants, opset)
    with pytest.raises(UnsupportedError, match=r"every row of the batch of 4 alone"):
        load(proto, input_shape=(1, *shape[1:]))


def test_a_property_for_one_row_names_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes, shape, constants, opset = ALONE["dense"]
    path, prop = tmp_path / "net.onnx", tmp_path / "p.vnnlib"
    onnx.save(model(nodes, shape, constants, opset), path)
    declared = [f"(declare-const {v} Real)" for v in ("X_0", "X_1", "X_2", "Y_0", "Y_1")]
    limits = [f"(assert (>= X_{i} 0))\n(assert (<= X_{i} 1))" for i in range(3)]
    prop.write_text("\n".join([*declared, *limits, "(assert (>= Y_0 100))"]))
    assert main(["verify", str(path), "--property", str(prop)]) == 2
    shown = capsys.readouterr().err
    assert "the network has 8" in shown and "--input-shape 1,3 for one row" in shown
    assert main(["verify", str(path), "--property", str(prop), "--input-shape", "3"]) == 0
    with pytest.raises(PropertyError, match=r"input_shape=\(1, 3\) for one row"):
        gamma.verify(gamma.load(path), gamma.read_vnnlib(prop))
    assert "fixed_batch" in gamma.load(path).metadata
