"""Movement and linear operators of ONNX against onnxruntime, and their bounds against the truth."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import gamma
from gamma.errors import FormatError, GammaError, UnsupportedError
from tests.formats.onnx_models import Node, assert_same, load, model, runtime

pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(5)
METHODS = ("ibp", "crown-ibp", "crown")


def f32(*shape: int) -> np.ndarray:
    """Small integers: sums and products of them are exact."""
    return RNG.integers(-4, 5, shape).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


Case = tuple[str, tuple[int, ...], list[Any], dict[str, Any], tuple[int, ...]]
IMAGE = (1, 8, 2, 3)
M = (3, 4)
# id: operator, input shape, extra inputs, attributes, operator sets. All are linear, with
# coefficients 0 and ±1 or the small integers above, so that the truth is exact.
LINEAR: dict[str, Case] = {
    "DepthToSpace": ("DepthToSpace", IMAGE, [], {"blocksize": 2}, (11, 13)),
    "DepthToSpace CRD": ("DepthToSpace", IMAGE, [], {"blocksize": 2, "mode": "CRD"}, (11, 13)),
    "SpaceToDepth": ("SpaceToDepth", (1, 2, 4, 6), [], {"blocksize": 2}, (9, 13)),
    "GatherElements": (
        "GatherElements", M, [np.array([[0, -1], [2, 1], [3, 3]])], {"axis": 1}, (11, 13)),
    "GatherND": ("GatherND", (2, 3, 4), [np.array([[0, 1], [-1, 2]])], {}, (11, 13)),
    "GatherND batch": ("GatherND", (2, 3, 4), [np.array([[1], [-1]])], {"batch_dims": 1}, (13,)),
    "ScatterElements": ("ScatterElements", M, [np.array([[1, 0]]), f32(1, 2)], {}, (11, 16)),
    "ScatterElements axis": (
        "ScatterElements", M, [np.array([[1, -1], [0, 2]]), f32(2, 2)], {"axis": 1}, (13,)),
    "ScatterElements add": (
        "ScatterElements", M, [np.array([[1, 1], [1, 0]]), f32(2, 2)], {"reduction": "add"}, (18,)),
    "ScatterElements mul": (
        "ScatterElements", M, [np.array([[1, 1], [1, 0]]), f32(2, 2)], {"reduction": "mul"}, (18,)),
    "ScatterND": ("ScatterND", M, [np.array([[2], [0]]), f32(2, 4)], {}, (11, 16)),
    "ScatterND points": ("ScatterND", M, [np.array([[2, 1], [0, -1]]), f32(2)], {}, (13,)),
    "ScatterND add": (
        "ScatterND", M, [np.array([[2], [2], [0]]), f32(3, 4)], {"reduction": "add"}, (18,)),
    "CumSum": ("CumSum", M, [np.array(1)], {}, (11, 14)),
    "CumSum exclusive": ("CumSum", M, [np.array(0)], {"exclusive": 1}, (14,)),
    "CumSum reverse": ("CumSum", M, [np.array(-1)], {"reverse": 1}, (14,)),
    "CumSum both": ("CumSum", (1, 3, 4), [np.array(1)], {"reverse": 1, "exclusive": 1}, (14,)),
    "CumSum line": ("CumSum", (5,), [np.array(0)], {}, (14,)),
    "Trilu": ("Trilu", M, [], {}, (14,)),
    "Trilu lower": ("Trilu", (2, 3, 4), [np.array(1)], {"upper": 0}, (14,)),
    "ReverseSequence": ("ReverseSequence", M, [i64(2, 3, 1, 0)], {}, (10,)),
    "ReverseSequence batch": (
        "ReverseSequence", (3, 4, 2), [i64(2, 4, 1)], {"batch_axis": 0, "time_axis": 1}, (10,)),
    "Compress": ("Compress", M, [np.array([True, False, True])], {"axis": 0}, (9, 11)),
    "Compress flat": ("Compress", M, [np.array([False, True, True])], {}, (11,)),
    "CenterCropPad": ("CenterCropPad", (5, 4), [i64(3, 7)], {}, (18,)),
    "CenterCropPad axes": ("CenterCropPad", (1, 4, 5), [i64(6, 2)], {"axes": [1, 2]}, (18,)),
    "Col2Im": (
        "Col2Im", (1, 8, 6), [i64(3, 4), i64(2, 2)], {}, (18,)),
    "Col2Im options": (
        "Col2Im", (1, 4, 6), [i64(5, 5), i64(2, 2)],
        {"strides": [2, 2], "pads": [0, 1, 0, 0], "dilations": [2, 1]}, (18,)),
    "Mean": ("Mean", M, [f32(3, 4), f32(4), f32(1)], {}, (8, 13)),
    "Sum": ("Sum", M, [f32(3, 4), f32(4), f32(1)], {}, (8, 13)),
    **{
        f"Einsum {name}": ("Einsum", shape, weights, {"equation": equation}, (12,))
        for name, shape, weights, equation in (
            ("matrix", M, [f32(4, 5)], "ij,jk->ik"),
            ("turned", M, [f32(5, 3)], "ij,ki->jk"),
            ("batch", (2, 3, 4), [f32(2, 4, 5)], "bij,bjk->bik"),
            ("heads", (1, 3, 8), [f32(8, 2, 4)], "btd,dhe->bhte"),
            ("dots", (2, 3, 4), [f32(4, 5)], "...j,jk->...k"),
            ("implied", M, [f32(4, 3)], "ij,jk"),
            ("elementwise", M, [f32(3, 4)], "ij,ij->ij"),
            ("outer", (3,), [f32(4)], "i,j->ij"),
            ("sum", M, [], "ij->j"),
            ("transpose", M, [], "ij->ji"),
            ("diagonal", (3, 3), [], "ii->i"),
            ("trace", (3, 3), [f32(3)], "ii,i->"),
            ("three", M, [f32(4, 2), f32(2, 5)], "ij,jk,kl->il"),
            ("summed apart", M, [f32(5, 4)], "ij,kj->i"),
            ("diagonal of the weight", M, [f32(4, 4)], "ij,jj->i"),
        )
    },
}  # fmt: skip
CURVED: dict[str, Case] = {
    "ScatterElements max": (
        "ScatterElements", M, [np.array([[1, 1], [1, 0]]), f32(2, 2)], {"reduction": "max"}, (18,)),
    "ScatterND min": (
        "ScatterND", M, [np.array([[2], [2], [0]]), f32(3, 4)], {"reduction": "min"}, (18,)),
    "ReduceL1": ("ReduceL1", M, [], {"axes": [1]}, (13,)),
    "ReduceL1 18": ("ReduceL1", M, [i64(0)], {"keepdims": 0}, (18,)),
    "ReduceL2": ("ReduceL2", M, [], {"axes": [1]}, (13,)),
    "ReduceSumSquare": ("ReduceSumSquare", M, [], {}, (13,)),
    "LpPool": ("LpPool", IMAGE, [], {"kernel_shape": [2, 2], "pads": [0, 1, 0, 0]}, (11, 18)),
    "LpPool 1": ("LpPool", IMAGE, [], {"kernel_shape": [2, 2], "p": 1, "strides": [1, 2]}, (11,)),
    "GlobalLpPool": ("GlobalLpPool", IMAGE, [], {}, (11,)),
}  # fmt: skip
RESIZED: dict[str, Case] = {
    f"Resize {mode} {place} {length}": (
        "Resize", (1, 1, 5, 6), ["", "", i64(1, 1, *length)],
        {"mode": mode, "coordinate_transformation_mode": place, **more}, (19,),
    )
    for mode, place, length, more in (
        *((m, p, n, {}) for m, p, n in itertools.product(
            ("linear", "cubic"), ("half_pixel", "asymmetric", "align_corners"),
            ((10, 12), (3, 9)))),
        ("linear", "pytorch_half_pixel", (1, 7), {}),
        ("linear", "half_pixel_symmetric", (7, 4), {}),
        ("linear", "half_pixel", (2, 4), {"antialias": 1}),
        ("cubic", "half_pixel", (2, 13), {"antialias": 1, "exclude_outside": 1}),
        ("cubic", "half_pixel", (8, 4), {"exclude_outside": 1, "cubic_coeff_a": -0.5}),
    )
}  # fmt: skip
RESIZED["Upsample"] = ("Upsample", (1, 2, 3, 4), [np.array([1, 1, 2, 3], np.float32)],
                       {"mode": "linear"}, (9,))  # fmt: skip
CASES = {**LINEAR, **CURVED, **RESIZED}


def proto_of(case: Case, opset: int) -> onnx.ModelProto:
    op, shape, extra, attributes, _ = case
    constants = {f"c{i}": v for i, v in enumerate(extra) if not isinstance(v, str)}
    names = ["x", *("" if isinstance(v, str) else f"c{i}" for i, v in enumerate(extra))]
    return model([(op, names, ["y"], attributes)], shape, constants, opset)


@pytest.mark.parametrize(("name", "opset"), [(n, o) for n, c in CASES.items() for o in c[4]])
def test_equals_onnxruntime(name: str, opset: int) -> None:
    assert_same(proto_of(CASES[name], opset), CASES[name][1])


def bounds_of(
    network: Any, low: np.ndarray, high: np.ndarray, guarantees: Any = ("real", "float32")
) -> Any:
    box = gamma.Box(low.reshape(network.input_shape), high.reshape(network.input_shape))
    for method, guarantee in itertools.product(METHODS, guarantees):
        found: Any = gamma.bounds(network, box, method=method, guarantee=guarantee)
        yield method, guarantee, found.lower.reshape(-1), found.upper.reshape(-1)


@pytest.mark.parametrize("name", LINEAR)
def test_linear_bounds_enclose_exact_values(name: str) -> None:
    """At integer points float64 executions of the file make no rounding: they are the truth."""
    case = LINEAR[name]
    proto = proto_of(case, case[4][-1])
    low, wide = f32(*case[1]).astype(np.float64), RNG.integers(0, 3, case[1])
    for part in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(part)
        if array.dtype == np.float32:
            part.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float64), part.name))
    reference = ReferenceEvaluator(proto)
    points = [low + wide * RNG.integers(0, 2, case[1]) for _ in range(4)]
    truths = [np.asarray(reference.run(None, {"x": p})[0]).reshape(-1) for p in points]
    if case[0] == "Mean":  # the one division: by a power of two
        assert all((t * 4 == np.rint(t * 4)).all() for t in truths)
    for method, guarantee, lower, upper in bounds_of(
        load(proto_of(case, case[4][-1])), low, low + wide
    ):
        for truth in truths:
            assert (lower <= truth).all() and (truth <= upper).all(), (method, guarantee)


@pytest.mark.parametrize("name", CASES)
def test_bounds_enclose_executions(name: str) -> None:
    case = CASES[name]
    proto = proto_of(case, case[4][-1])
    network = load(proto)
    for radius in (0.0, 0.3):
        points = (RNG.normal(0, 2, case[1]) + RNG.uniform(-radius, radius, (3, *case[1]))).astype(
            np.float32
        )
        found = [runtime(proto, p).reshape(-1).astype(np.float64) for p in points]
        low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
        for method, _, lower, upper in bounds_of(network, low, high, ("float32",)):
            for y in found:
                assert (lower <= y).all() and (y <= upper).all(), (method, radius)


@pytest.mark.parametrize("opset", [13, 18])
def test_log_sum_exp_encloses_its_value(opset: int) -> None:
    """Runtimes may take the greatest entry out first: real values alone are promised."""
    axes: Any = ([], {"axes": [-1]}) if opset == 13 else ([i64(-1)], {})
    proto = proto_of(("ReduceLogSumExp", (1, 2, 3), *axes, (opset,)), opset)
    assert_same(proto, (1, 2, 3))
    network, centre = load(proto), RNG.normal(0, 5, (1, 2, 3))
    assert network.real_only == ("ReduceLogSumExp",)
    for method, _, lower, upper in bounds_of(network, centre - 0.5, centre + 0.5, ("real",)):
        for _ in range(5):
            point = centre + RNG.uniform(-0.5, 0.5, centre.shape)
            for k, entries in enumerate(point[0]):
                truth = sum((flint.arb(v).exp() for v in entries.tolist()), flint.arb(0)).log()
                assert flint.arb(lower[k]) <= truth <= flint.arb(upper[k]), method


def line(n: int, length: int, i: int) -> list[Fraction]:
    """Weights of a linear half-pixel Resize, from its definition."""
    place = (i + Fraction(1, 2)) * Fraction(n, length) - Fraction(1, 2)
    place = min(max(place, Fraction(0)), Fraction(n - 1))
    return [max(Fraction(0), 1 - abs(place - j)) for j in range(n)]


@pytest.mark.parametrize("lengths", [(3, 7), (10, 12), (2, 4)])
def test_resize_bounds_enclose_the_rational_map(lengths: tuple[int, int]) -> None:
    shape = (1, 1, 5, 6)
    case: Case = ("Resize", shape, ["", "", i64(1, 1, *lengths)], {"mode": "linear"}, (19,))
    x = [[Fraction(int(v)) / 7 for v in row] for row in RNG.integers(-9, 9, shape[2:])]
    stored = np.array([[float(v) for v in row] for row in x])
    exact = [[Fraction(float(v)) for v in row] for row in stored]
    rows, columns = (
        [line(n, m, i) for i in range(m)] for n, m in zip(shape[2:], lengths, strict=True)
    )
    truth = [
        sum(r[a] * c[b] * exact[a][b] for a in range(5) for b in range(6))
        for r in rows for c in columns
    ]  # fmt: skip
    for method, guarantee, lower, upper in bounds_of(load(proto_of(case, 19)), stored, stored):
        assert all(
            Fraction(a) <= v <= Fraction(b) for a, v, b in zip(lower, truth, upper, strict=True)
        ), (method, guarantee)
        assert (upper - lower < (1e-12 if guarantee == "real" else 1e-3)).all()


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        (("GatherElements", M, [np.array([[0, 4]])], {"axis": 1}, (13,)), FormatError),
        (("GatherND", M, [np.array([[3, 0]])], {}, (13,)), FormatError),
        (("ScatterND", M, [np.array([[2], [0]]), f32(2, 3)], {}, (13,)), FormatError),
        (("DepthToSpace", IMAGE, [], {"blocksize": 3}, (13,)), FormatError),
        (("Einsum", M, [f32(5, 5)], {"equation": "ij,jk->ik"}, (12,)), FormatError),
        (("Einsum", M, [f32(4, 5)], {"equation": "ij,jk->iz"}, (12,)), FormatError),
        (("Einsum", M, [f32(4, 5)], {"equation": "i1,jk->ik"}, (12,)), FormatError),
        (("Einsum", M, [], {"equation": ""}, (12,)), FormatError),
        (("CumSum", (1 << 16,), [np.array(0)], {}, (14,)), UnsupportedError),
        (("ReverseSequence", M, [i64(2, 9, 1, 0)], {}, (10,)), FormatError),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_error(case: Case, kind: type[GammaError]) -> None:
    with pytest.raises(kind, match=f"n0: {case[0]}"):
        load(proto_of(case, case[4][0]))


def test_constants_of_indices_and_shapes() -> None:
    nodes: list[Node] = [
        ("EyeLike", ["x"], ["eye"], {"k": 1}),
        ("OneHot", ["places", "depth", "values"], ["hot"], {"axis": 0}),
        ("NonZero", ["hot"], ["found"], {}),
        ("ReduceProd", ["found"], ["none"], {"axes": [1], "keepdims": 0}),
        ("Shape", ["x"], ["dims"], {}),
        ("Mod", ["dims", "three"], ["rest"], {}),
        ("Concat", ["rest", "none"], ["more"], {"axis": 0}),
        ("ReduceSum", ["more", "zero"], ["total"], {"keepdims": 1}),
        ("Cast", ["total"], ["number"], {"to": 1}),
        ("Floor", ["number"], ["whole"], {}),
        ("MatMul", ["x", "eye_t"], ["z"], {}),
        ("Mul", ["z", "whole"], ["y"], {}),
    ]
    nodes.insert(1, ("Transpose", ["eye"], ["eye_t"], {}))
    constants = {
        "places": i64(2, 0, -1), "depth": i64(3), "values": f32(2), "three": i64(3), "zero": i64(0),
    }  # fmt: skip
    constants["values"] = np.array([0, 1], np.float32)
    assert_same(model(nodes, M, constants, 13), M)


def test_one_entry_read_many_times_costs_linear_time() -> None:
    """The adjoint sums the uses of an entry run by run: equal to a dense product, exactly."""
    index = np.concatenate((np.zeros(40, np.int64), [3, -1, 3, 1], np.full(20, 2)))
    gather = gamma.ops.Gather(index, (index.size,))
    rows = RNG.integers(-9, 9, (5, index.size)).astype(np.float64)
    dense = np.zeros((index.size, 5))
    dense[np.arange(index.size)[index >= 0], index[index >= 0]] = 1
    assert np.array_equal(gather.adjoint(rows, [(5,)])[0], rows @ dense)
    many = gamma.ops.Gather(np.zeros(1 << 20, np.int64), (1 << 20,))
    assert many.adjoint(np.ones((1, 1 << 20)), [(1,)])[0].tolist() == [[2.0**20]]


def test_a_split_into_many_parts_keeps_one_index() -> None:
    n = 3000
    nodes: list[Node] = [
        ("Split", ["x"], [f"o{i}" for i in range(n)], {"axis": 1}), ("Neg", ["o7"], ["y"], {}),
    ]  # fmt: skip
    network = load(model(nodes, (1, n), {}, 13))
    assert network.forward(np.arange(n, dtype=np.float64)).tolist() == [-7.0]
