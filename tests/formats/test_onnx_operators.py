"""Every ONNX operator gamma reads, option by option, against onnxruntime."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.errors import UnsupportedError
from gamma.formats.onnx import TRANSLATORS
from tests.formats.onnx_models import assert_same, load, model
from tests.formats.test_onnx_movement import CASES as MOVEMENTS

pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(11)


def f32(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


C = (1, 4, 6, 5)  # one image of 4 channels
VOLUME = (1, 2, 3, 4, 3)
V = (1, 6)
# id: operator, input shape, extra inputs, attributes, opsets (several: run in each), options
Case = tuple[str, tuple[int, ...], list[Any], dict[str, Any], tuple[int, ...]]
LATE = ("Erf", "Sign", "Sinh", "Cosh", "Asinh", "Round")
CASES: dict[str, Case] = {
    **{
        f"{op}": (op, (1, 3, 4), [], {}, (11 if op in LATE else 7, 13, 21))
        for op in (
            "Relu Abs Sigmoid Tanh Softplus Exp Erf Sin Cos Neg Sign Identity "
            "LeakyRelu Elu HardSigmoid Selu "
            "Tan Atan Sinh Cosh Asinh Floor Ceil Round"
        ).split()
    },
    **{op: (op, (1, 3, 4), [], {}, (7, 13)) for op in ("Log", "Sqrt", "Reciprocal")},
    "HardSwish": ("HardSwish", (1, 9), [], {}, (14, 21)),
    "Gelu": ("Gelu", (1, 9), [], {}, (20, 21)),
    "Gelu tanh": ("Gelu", (1, 9), [], {"approximate": "tanh"}, (20, 21)),
    "Softmax": ("Softmax", (1, 3, 4), [], {}, (7, 11, 13, 21)),
    "Softmax over two axes": ("Softmax", (1, 3, 4), [], {"axis": 1}, (7, 11, 13)),
    "Softmax over all axes": ("Softmax", (2, 3), [], {"axis": 0}, (9, 13)),
    "Softmax over the last of three": ("Softmax", (2, 3, 4), [], {"axis": -1}, (11, 13)),
    "Softmax over one": ("Softmax", (1, 3, 4), [], {"axis": 0}, (11, 13)),
    "Softmax of a vector": ("Softmax", (5,), [], {"axis": 0}, (11, 13)),
    "LogSoftmax": ("LogSoftmax", (1, 3, 4), [], {}, (7, 11, 13, 21)),
    "LogSoftmax over two axes": ("LogSoftmax", (1, 3, 4), [], {"axis": 1}, (7, 11, 13)),
    "LogSoftmax over one": ("LogSoftmax", (1, 3, 4), [], {"axis": 0}, (11, 13)),
    "LeakyRelu alpha": ("LeakyRelu", V, [], {"alpha": 0.3}, (7, 16)),
    "Elu alpha": ("Elu", V, [], {"alpha": 0.3}, (7, 13)),
    "HardSigmoid attributes": ("HardSigmoid", V, [], {"alpha": 0.3, "beta": 0.1}, (7, 13)),
    "PRelu": ("PRelu", C, [f32(4, 1, 1)], {}, (7, 9, 16)),
    "PRelu one": ("PRelu", V, [f32(1)], {}, (9,)),
    "Clip attributes": ("Clip", V, [], {"min": -0.5, "max": 1.0}, (7, 10)),
    "Clip inputs": ("Clip", V, [np.float32(-0.5), np.float32(1)], {}, (11, 13)),
    "Clip low": ("Clip", V, [np.float32(0)], {}, (12,)),
    "Clip high": ("Clip", V, ["", np.float32(0.5)], {}, (12,)),
    "Pow 2": ("Pow", V, [np.float32(2)], {}, (7, 12, 13)),
    "Pow 3": ("Pow", V, [np.float32(3)], {}, (13,)),
    "Pow integer": ("Pow", V, [np.int64(2)], {}, (13,)),
    "Add": ("Add", (1, 3, 4), [f32(4)], {}, (7, 13, 14)),
    "Add grows": ("Add", (1, 1, 4), [f32(3, 1)], {}, (13,)),
    "Add batch": ("Add", (1, 4), [f32(3, 4)], {}, (13,)),
    "Sub": ("Sub", (1, 3, 4), [f32(1, 3, 1)], {}, (7, 14)),
    "Mul": ("Mul", (1, 3, 4), [f32(3, 4)], {}, (7, 14)),
    "Div": ("Div", (1, 3, 4), [f32(1)], {}, (7, 14)),
    "Gemm": ("Gemm", V, [f32(6, 3), f32(3)], {}, (7, 9, 11, 13)),
    "Gemm options": (
        "Gemm", V, [f32(3, 6), f32(3)], {"transB": 1, "alpha": 0.3, "beta": 1.7}, (7, 13),
    ),
    "Gemm no bias": ("Gemm", V, [f32(6, 3)], {}, (11, 13)),
    "Gemm transA": ("Gemm", (6, 1), [f32(6, 3), f32(1)], {"transA": 1}, (13,)),
    "Gemm rows": ("Gemm", (5, 6), [f32(6, 3), f32(5, 3)], {}, (13,)),
    "Gemm column": ("Gemm", (5, 6), [f32(6, 3), f32(5, 1)], {"alpha": 0.5}, (13,)),
    "MatMul": ("MatMul", (1, 3, 4), [f32(4, 5)], {}, (7, 13)),
    "MatMul vector": ("MatMul", (1, 3, 4), [f32(4)], {}, (13,)),
    "MatMul rank 1": ("MatMul", (4,), [f32(4, 3)], {}, (13,)),
    "MatMul dot": ("MatMul", (4,), [f32(4)], {}, (13,)),
    "MatMul stack": ("MatMul", (1, 2, 3, 4), [f32(2, 4, 5)], {}, (13,)),
    "MatMul grows": ("MatMul", (1, 3, 4), [f32(2, 1, 4, 5)], {}, (13,)),
    "BatchNormalization": (
        "BatchNormalization", C, [f32(4), f32(4), f32(4), abs(f32(4)) + 0.1], {}, (7, 9, 14, 15),
    ),
    "BatchNormalization vector": (
        "BatchNormalization", V, [f32(6), f32(6), f32(6), abs(f32(6))], {"epsilon": 0.01}, (14,),
    ),
    "LayerNormalization": ("LayerNormalization", (1, 3, 4), [f32(4), f32(4)], {}, (17, 21)),
    "LayerNormalization axes": (
        "LayerNormalization", C, [f32(6, 5)], {"axis": 2, "epsilon": 0.1}, (17,),
    ),
    "LayerNormalization all": ("LayerNormalization", (1, 3, 4), [f32(1, 3, 4)], {"axis": 0}, (17,)),
    "LayerNormalization rows": ("LayerNormalization", (5, 6), [f32(6), f32(6)], {}, (17,)),
    "RMSNormalization": ("RMSNormalization", (1, 3, 4), [f32(4)], {"epsilon": 0.01}, (23,)),
    "SimplifiedLayerNormalization": (
        "SimplifiedLayerNormalization", (1, 3, 4), [f32(4)], {"epsilon": 0.01}, (17,),
    ),
    "SkipLayerNormalization": (
        "com.microsoft.SkipLayerNormalization", (1, 3, 4), [f32(1, 3, 4), f32(4), f32(4), f32(4)],
        {"epsilon": 0.01}, (17,),
    ),
    "SkipLayerNormalization plain": (
        "com.microsoft.SkipLayerNormalization", (1, 3, 4), [f32(1, 3, 4), f32(4)], {}, (17,),
    ),
    "SkipSimplifiedLayerNormalization": (
        "com.microsoft.SkipSimplifiedLayerNormalization", (1, 3, 4),
        [f32(1, 3, 4), f32(4), f32(4)], {"epsilon": 0.01}, (17,),
    ),
    "InstanceNormalization": ("InstanceNormalization", C, [f32(4), f32(4)], {}, (7, 22)),
    "InstanceNormalization 1d": (
        "InstanceNormalization", (2, 4, 7), [f32(4), f32(4)], {"epsilon": 0.01}, (13,),
    ),
    "GroupNormalization": (
        "GroupNormalization", C, [f32(4), f32(4)], {"num_groups": 2, "epsilon": 0.01}, (21,),
    ),
    "GroupNormalization 18": (
        "GroupNormalization", C, [f32(2), f32(2)], {"num_groups": 2}, (18,),
    ),
    "MeanVarianceNormalization": ("MeanVarianceNormalization", C, [], {}, (9, 13)),
    "MeanVarianceNormalization axes": (
        "MeanVarianceNormalization", C, [], {"axes": [1, 2, 3]}, (13,),
    ),
    "LpNormalization": ("LpNormalization", (1, 3, 4), [], {}, (7, 22)),
    "LpNormalization 1": ("LpNormalization", (1, 3, 4), [], {"axis": 1, "p": 1}, (13,)),
    "LpNormalization axis": ("LpNormalization", C, [], {"axis": 1}, (13,)),
    "Flatten": ("Flatten", (1, 3, 4), [], {}, (7, 9, 13)),
    "Flatten 0": ("Flatten", (1, 3, 4), [], {"axis": 0}, (13,)),
    "Flatten -1": ("Flatten", (1, 3, 4), [], {"axis": -1}, (13,)),
    "Reshape": ("Reshape", (1, 3, 4), [i64(0, -1)], {}, (7, 13, 14)),
    "Reshape drops": ("Reshape", (1, 3, 4), [i64(2, 6)], {}, (13,)),
    "Transpose": ("Transpose", (1, 3, 4), [], {"perm": [0, 2, 1]}, (7, 13)),
    "Transpose reversed": ("Transpose", (1, 3, 4), [], {}, (13,)),
    "Transpose batch": ("Transpose", (1, 3, 4), [], {"perm": [2, 0, 1]}, (13,)),
    "Transpose rows": ("Transpose", (2, 3, 4), [], {"perm": [2, 0, 1]}, (13,)),
    "Squeeze": ("Squeeze", (1, 1, 4), [], {"axes": [1]}, (7, 11)),
    "Squeeze 13": ("Squeeze", (1, 1, 4), [i64(0)], {}, (13,)),
    "Squeeze all": ("Squeeze", (1, 1, 4), [], {}, (7, 13)),
    "Unsqueeze": ("Unsqueeze", (1, 4), [], {"axes": [0, 3]}, (7, 11)),
    "Unsqueeze 13": ("Unsqueeze", (1, 4), [i64(-1)], {}, (13,)),
    "Slice 7": ("Slice", C, [], {"starts": [1, 0], "ends": [9, -1], "axes": [2, 3]}, (7,)),
    "Slice": ("Slice", C, [i64(1, 4), i64(3, 0), i64(1, 3), i64(1, -2)], {}, (10, 13)),
    "Slice back": ("Slice", C, [i64(-1), i64(-99), i64(2), i64(-1)], {}, (13,)),
    "Slice back from before": ("Slice", C, [i64(-9), i64(-9), i64(2), i64(-2)], {}, (13,)),
    "Slice no axes": ("Slice", C, [i64(0, 1), i64(1, 3)], {}, (13,)),
    "Gather": ("Gather", C, [i64(2, -1, 0)], {"axis": 2}, (7, 11, 13)),
    "Gather one": ("Gather", C, [np.int64(1)], {"axis": 1}, (13,)),
    "Gather table": ("Gather", (1, 5), [np.array([[0, 1], [3, 3]])], {"axis": 1}, (13,)),
    "Pad 7": ("Pad", C, [], {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 0.5}, (7,)),
    "Pad": ("Pad", C, [i64(0, 0, 1, 2, 0, 1, 0, 1), np.float32(0.5)], {}, (11, 13)),
    "Pad reflect": ("Pad", C, [i64(0, 0, 1, 2, 0, 0, 2, 1)], {"mode": "reflect"}, (13,)),
    "Pad edge": ("Pad", C, [i64(0, 0, 1, 2, 0, 0, 2, 1)], {"mode": "edge"}, (13,)),
    "Pad wrap": ("Pad", C, [i64(0, 0, 1, 2, 0, 0, 2, 1)], {"mode": "wrap"}, (19,)),
    "Pad axes": ("Pad", C, [i64(1, 2), "", i64(3)], {}, (18,)),
    "Pad cuts": ("Pad", C, [i64(0, 0, -1, 2, 0, 0, -2, 1)], {}, (13,)),
    "Expand": ("Expand", (1, 1, 4), [i64(1, 3, 1)], {}, (8, 13)),
    "Expand batch": ("Expand", (1, 4), [i64(2, 3, 4)], {}, (13,)),
    "Tile": ("Tile", (1, 3, 2), [i64(1, 2, 3)], {}, (7, 13)),
    "Dropout": ("Dropout", V, [], {}, (7, 10, 13)),
    "Dropout ratio": ("Dropout", V, [np.float32(0.3), np.array(False)], {}, (12, 13)),
    "Cast": ("Cast", V, [], {"to": 1}, (9, 13)),
    "ReduceSum": ("ReduceSum", C, [], {"axes": [1, 3], "keepdims": 0}, (7, 11)),
    "ReduceSum 13": ("ReduceSum", C, [i64(-1)], {}, (13, 18)),
    "ReduceSum all": ("ReduceSum", C, [], {"keepdims": 0}, (13,)),
    "ReduceSum none": ("ReduceSum", V, [], {"noop_with_empty_axes": 1}, (13,)),
    "ReduceMean": ("ReduceMean", C, [], {"axes": [2, 3]}, (7, 13)),
    "ReduceMean 18": ("ReduceMean", C, [i64(0, 1)], {"keepdims": 0}, (18,)),
    "ReduceMax": ("ReduceMax", C, [], {"axes": [1, 3], "keepdims": 0}, (7, 13)),
    "ReduceMax 18": ("ReduceMax", C, [i64(2)], {}, (18, 20)),
    "Conv of volumes": (
        "Conv",
        VOLUME,
        [f32(4, 1, 2, 1, 2), f32(4)],
        {"group": 2, "pads": [1, 0, 1, 0, 1, 0], "strides": [2, 1, 1], "dilations": [1, 1, 2]},
        (11, 22),
    ),
    "MaxPool of volumes": (
        "MaxPool",
        VOLUME,
        [],
        {"kernel_shape": [2, 2, 3], "pads": [0, 1, 1, 1, 0, 1], "strides": [1, 2, 1]},
        (11, 12),
    ),
    "AveragePool of volumes": (
        "AveragePool",
        VOLUME,
        [],
        {"kernel_shape": [2, 2, 3], "pads": [0, 1, 1, 1, 0, 1], "strides": [1, 2, 1]},
        (11, 19),
    ),
    "GlobalAveragePool of volumes": ("GlobalAveragePool", VOLUME, [], {}, (11, 13)),
    "GlobalMaxPool of volumes": ("GlobalMaxPool", VOLUME, [], {}, (11, 13)),
    "ReduceProd": ("ReduceProd", C, [], {"axes": [1, 2], "keepdims": 0}, (11, 13)),
    "ReduceProd along one axis": ("ReduceProd", C, [], {"axes": [-1]}, (11, 13)),
    "ReduceMin": ("ReduceMin", C, [], {"axes": [1]}, (11, 13)),
    "Max": ("Max", (1, 3, 4), [f32(4)], {}, (8, 13)),
    "Max number": ("Max", (1, 3, 4), [np.float32(0.2)], {}, (8, 13)),
    "Min": ("Min", (1, 3, 4), [f32(3, 1), f32(4)], {}, (8, 13)),
    "Sum": ("Sum", V, [f32(6), f32(1)], {}, (8, 13)),
    "GlobalAveragePool": ("GlobalAveragePool", C, [], {}, (7, 13)),
    "GlobalMaxPool": ("GlobalMaxPool", C, [], {}, (7, 13)),
    "Where": ("Identity", V, [], {}, (9,)),
    **{
        f"Conv {name}": ("Conv", shape, [weight, f32(weight.shape[0])], options, (7, 11))
        for name, shape, weight, options in (
            ("plain", C, f32(3, 4, 3, 2), {}),
            ("pads", C, f32(3, 4, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
            ("dilations", C, f32(3, 4, 2, 2), {"dilations": [2, 3]}),
            ("groups", C, f32(6, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
            ("depthwise", C, f32(4, 1, 3, 3), {"group": 4}),
            ("upper", C, f32(3, 4, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
            ("lower", C, f32(3, 4, 4, 2), {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
            ("valid", C, f32(3, 4, 3, 3), {"auto_pad": "VALID"}),
            ("1d", (1, 4, 9), f32(6, 2, 3), {"group": 2, "strides": [2], "pads": [2, 1]}),
        )
    },
    "Conv no bias": ("Conv", C, [f32(3, 4, 3, 2)], {"kernel_shape": [3, 2]}, (11,)),
    **{
        f"ConvTranspose {name}": ("ConvTranspose", shape, [weight, f32(bias)], options, (7, 11))
        for name, shape, weight, bias, options in (
            ("plain", C, f32(4, 3, 3, 2), 3, {}),
            ("stride", C, f32(4, 3, 3, 2), 3, {"strides": [2, 3], "output_padding": [1, 2]}),
            ("pads", C, f32(4, 3, 3, 3), 3, {"strides": [2, 2], "pads": [1, 0, 0, 1]}),
            ("groups", C, f32(4, 3, 3, 2), 6, {"group": 2, "dilations": [2, 1]}),
            ("shape", C, f32(4, 3, 3, 3), 3, {"strides": [2, 2], "output_shape": [12, 10]}),
            (
                "shape upper", C, f32(4, 3, 3, 3), 3,
                {"strides": [2, 2], "output_shape": [12, 10], "auto_pad": "SAME_UPPER"},
            ),
            ("upper", C, f32(4, 3, 3, 3), 3, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
            ("lower", C, f32(4, 3, 3, 3), 3, {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
            ("1d", (1, 4, 6), f32(4, 2, 3), 2, {"strides": [2], "pads": [1, 1]}),
        )
    },
    **{
        f"{op} {name}": (op, shape, [], {"kernel_shape": kernel, **options}, opsets)
        for op in ("AveragePool", "MaxPool")
        for name, shape, kernel, options, opsets in (
            ("plain", C, [2, 2], {}, (7, 11)),
            ("three", C, [3, 2], {"strides": [2, 1]}, (7, 19)),
            ("pads", C, [3, 2], {"pads": [1, 0, 2, 1], "strides": [2, 2]}, (7, 11)),
            ("upper", C, [3, 3], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (7, 11)),
            ("lower", C, [2, 2], {"auto_pad": "SAME_LOWER", "strides": [1, 2]}, (11,)),
            ("ceil", C, [2, 2], {"ceil_mode": 1, "strides": [3, 2]}, (10, 19)),
            ("ceil pads", C, [3, 3], {"ceil_mode": 1, "strides": [2, 2], "pads": [1] * 4}, (19,)),
            ("1d", (1, 4, 9), [3], {"strides": [2], "pads": [1, 0]}, (11,)),
        )
    },
    "AveragePool include": (
        "AveragePool", C, [],
        {"kernel_shape": [3, 2], "pads": [1, 1, 1, 0], "count_include_pad": 1}, (7, 11),
    ),
    "AveragePool include ceil": (
        "AveragePool", C, [],
        {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1, "ceil_mode": 1,
         "strides": [2, 2]}, (19,),
    ),
    "AveragePool dilations": (
        "AveragePool", C, [], {"kernel_shape": [2, 2], "dilations": [2, 3]}, (19,),
    ),
    "MaxPool dilations": ("MaxPool", C, [], {"kernel_shape": [2, 2], "dilations": [2, 3]}, (10,)),
    "Upsample 7": ("Upsample", C, [], {"scales": [1.0, 1.0, 2.0, 3.0]}, (7,)),
    "Upsample 9": ("Upsample", C, [np.array([1, 1, 2, 1.5], np.float32)], {}, (9,)),
    "Resize 10": ("Resize", C, [np.array([1, 1, 2, 0.6], np.float32)], {}, (10,)),
    **{
        f"Resize {mode} {rounding}": (
            "Resize", C, ["", np.array([1, 1, 2, 0.7], np.float32)],
            {"coordinate_transformation_mode": mode, "nearest_mode": rounding}, (13,),
        )
        for mode, rounding in itertools.product(
            ("half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners"),
            ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
        )
    },
    "Resize sizes": ("Resize", C, ["", "", i64(1, 4, 9, 7)], {}, (13, 18)),
    "Resize axes": ("Resize", C, ["", "", i64(9, 7)], {"axes": [2, 3]}, (18, 19)),
}  # fmt: skip
POSITIVE = ("Log", "Sqrt", "Reciprocal")
# Under the guarantee float32: neither a cast to float64, nor what runtimes compute in orders of
# their own.
IN_FLOAT32 = [name for name, case in CASES.items() if case[0] not in ("Cast", "ReduceProd")]


@pytest.mark.parametrize(
    ("case", "opset"), [(name, o) for name, case in CASES.items() for o in case[4]]
)
def test_operator_equals_onnxruntime(case: str, opset: int) -> None:
    op, shape, extra, attributes, _ = CASES[case]
    constants = {f"c{i}": v for i, v in enumerate(extra) if not isinstance(v, str)}
    names = ["x", *("" if isinstance(v, str) else f"c{i}" for i, v in enumerate(extra))]
    nodes = [(op, names, ["y"], attributes)]
    assert_same(model(nodes, shape, constants, opset), shape, op in POSITIVE)


BOUNDED = ("Asin", "Acos", "Atanh", "Acosh")


@pytest.mark.parametrize("op", BOUNDED)
def test_functions_of_an_interval(op: str) -> None:
    """Their domain is met by a tangent hyperbolic, or by its reciprocal's size."""
    nodes = graph(("Tanh", "x", "t"), (op, "t", "y"))
    if op == "Acosh":
        nodes = graph(("Cosh", "x", "t"), (op, "t", "y"))
    assert_same(model(nodes, (1, 3, 4), {}, 13), (1, 3, 4))


def test_exponents_entry_by_entry() -> None:
    exponents = np.array([0.0, 1.0, 2.0, -1.0], np.float32)
    nodes = graph(("Pow", "x p", "y"))
    assert_same(model(nodes, (1, 3, 4), {"p": exponents}, 13), (1, 3, 4), True)


def test_remainders_of_constants_have_the_divisor_s_sign() -> None:
    divisor = np.array([2.0, -3.0, 0.5, 7.0], np.float32)
    net = load(model(graph(("Mod", "x c", "y")), (1, 4), {"c": divisor}, 13))
    x = np.array([5.5, 5.5, -1.25, -0.5])
    assert net.forward(x, np.float64).tolist() == np.mod(x, divisor).tolist()
    out = gamma.bounds(net, gamma.Box(x - 0.25, x + 0.25))
    for shift in (-0.25, 0.0, 0.25):
        assert (out.lower <= np.mod(x + shift, divisor)).all()
        assert (np.mod(x + shift, divisor) <= out.upper).all()


def graph(*nodes: tuple[str, str, str, dict[str, Any]] | tuple[str, str, str]) -> list[Any]:
    """Nodes written as (operator, "inputs", "outputs", attributes)."""
    return [(n[0], n[1].split(), n[2].split(), n[3] if len(n) > 3 else {}) for n in nodes]


W = {"k": np.float32(0.70710677), "half": np.float32(0.5), "one": np.float32(1),
     "r": np.float32(1.4142135), "v": f32(6), "m": f32(1, 2), "w": f32(6, 6)}  # fmt: skip
GRAPHS: dict[str, tuple[list[Any], tuple[int, ...]]] = {
    "sub from constant": (graph(("Sub", "v x", "y")), V),
    "constant over variable": (
        graph(("Abs", "x", "a"), ("Add", "a one", "b"), ("Div", "v b", "y")), V),
    "matmul constant left": (graph(("MatMul", "w x", "y")), (6, 3)),
    "matmul constant left, batch": (graph(("MatMul", "w x", "y")), (1, 6, 3)),
    "gemm constant left": (graph(("Gemm", "w x v", "y", {"alpha": 0.5})), (6, 6)),
    "gemm variable bias": (graph(("Gemm", "x w x", "y", {"beta": 0.5})), V),
    "silu": (graph(("Sigmoid", "x", "s"), ("Mul", "x s", "y")), V),
    "silu scaled": (
        graph(("Mul", "x k", "z"), ("Sigmoid", "z", "s"), ("Mul", "s x", "y")), V),
    "gelu by erf": (graph(
        ("Div", "x r", "z"), ("Erf", "z", "e"), ("Add", "e one", "g"), ("Mul", "x g", "p"),
        ("Mul", "p half", "y")), V),
    "gelu, half first": (graph(
        ("Mul", "x k", "z"), ("Erf", "z", "e"), ("Add", "one e", "g"), ("Mul", "x half", "h"),
        ("Mul", "g h", "y")), V),
    "gelu, half on the gate": (graph(
        ("Mul", "x k", "z"), ("Erf", "z", "e"), ("Add", "one e", "g"), ("Mul", "half g", "h"),
        ("Mul", "x h", "y")), V),
    "square": (graph(("Mul", "x x", "y")), V),
    "residual": (graph(("MatMul", "x w", "a"), ("Relu", "a", "b"), ("Add", "b x", "c"),
                       ("Sub", "c a", "y")), V),
    "broadcast sum": (graph(
        ("ReduceMean", "x", "a", {"axes": [2]}), ("Sub", "x a", "y")), (1, 3, 4)),
    "max of variables": (graph(("Neg", "x", "a"), ("Max", "x a", "b"), ("Min", "b x one", "y")), V),
    "concat": (graph(("Neg", "x", "a"), ("Concat", "x a x", "y", {"axis": 1})), (1, 3, 4)),
    "concat last": (graph(("Neg", "x", "a"), ("Concat", "x a", "y", {"axis": -1})), (1, 3, 4)),
    "concat batch": (graph(("Neg", "x", "a"), ("Concat", "x a", "y", {"axis": 0})), (1, 3, 4)),
    "concat constant": (
        graph(("Neg", "x", "a"), ("Concat", "m x m a", "y", {"axis": 1})), (1, 3)),
    "split 7": (graph(("Split", "x", "a b c", {"axis": 1}), ("Sub", "c a", "y")), V),
    "split sizes": (
        graph(("Split", "x", "a b", {"axis": 1, "split": [4, 2]}), ("Neg", "a", "y")), V),
    "shared": (graph(("Relu", "x", "a"), ("Reshape", "a target", "b"), ("Neg", "b", "c"),
                     ("Flatten", "c", "d"), ("Add", "a d", "y")), V),
    "batch moved and back": (graph(
        ("Transpose", "x", "a", {"perm": [1, 0]}), ("Relu", "a", "b"),
        ("Transpose", "b", "c", {"perm": [1, 0]}), ("MatMul", "c w", "y")), V),
    "dead branch": (graph(("Exp", "x", "unused"), ("Relu", "x", "y")), V),
}  # fmt: skip
CONSTANTS = {**W, "target": i64(1, 2, 3)}


@pytest.mark.parametrize("case", GRAPHS)
def test_graph_equals_onnxruntime(case: str) -> None:
    nodes, shape = GRAPHS[case]
    used = {n for node in nodes for n in node[1]}
    constants = {k: v for k, v in CONSTANTS.items() if k in used}
    assert_same(model(nodes, shape, constants, 12), shape)


def test_a_pad_with_zeros_becomes_pads_of_the_convolution() -> None:
    nodes = graph(
        ("Pad", "x p", "a"), ("Conv", "a w", "y", {"pads": [0, 1, 1, 0], "strides": [2, 2]})
    )
    constants = {"p": i64(0, 0, 1, 2, 0, 0, 0, 1), "w": f32(3, 4, 3, 2)}
    network = assert_same(model(nodes, C, constants, 13), C)
    assert [n.op.name for n in network.nodes] == ["Input", "Conv"]
    kept = {**constants, "p": i64(0, 1, 1, 2, 0, -1, 0, 1)}
    assert len(assert_same(model(nodes, C, kept, 13), C).nodes) == 3
    nodes = graph(("Pad", "x p v", "a"), ("Conv", "a w", "y"))
    kept = {**constants, "v": np.float32(0.5)}
    assert len(assert_same(model(nodes, C, kept, 13), C).nodes) == 3


def test_split_of_later_opsets() -> None:
    nodes = graph(("Split", "x s", "a b", {"axis": 1}), ("Sub", "a b", "y"))
    assert_same(model(nodes, V, {"s": i64(3, 3)}, 13), V)
    nodes = graph(("Split", "x", "a b c", {"axis": 1, "num_outputs": 3}), ("Neg", "c", "y"))
    assert_same(model(nodes, (1, 8), {}, 18), (1, 8))


def test_shape_chains_are_folded() -> None:
    nodes = graph(
        ("Shape", "x", "d"), ("Gather", "d zero", "n", {"axis": 0}),
        ("Unsqueeze", "n", "n1", {"axes": [0]}), ("Slice", "d two three", "tail"),
        ("Mul", "tail halves", "part"), ("Concat", "n1 minus part", "target", {"axis": 0}),
        ("Reshape", "x target", "r"), ("ConstantOfShape", "target2", "ones", {"value": ONE}),
        ("Mul", "ones v", "shift"), ("Add", "r shift", "y"),
    )  # fmt: skip
    constants = {
        "zero": np.array(0), "two": i64(2), "three": i64(3), "halves": i64(2), "minus": i64(-1),
        "target2": i64(1, 1), "v": f32(1),
    }  # fmt: skip
    network = assert_same(model(nodes, (1, 4, 3), constants, 11), (1, 4, 3))
    assert [n.op.name for n in network.nodes] == ["Input", "Reshape", "Scale"]


def test_expand_to_a_computed_shape() -> None:
    nodes = graph(
        ("Shape", "x", "d"), ("Equal", "d minus", "e"), ("Where", "e d d", "t"),
        ("Expand", "one", "big"), ("Add", "x big", "y"),
    )  # fmt: skip
    nodes[3] = ("Expand", ["one", "t"], ["big"], {})
    assert_same(model(nodes, (1, 3), {"minus": i64(-1), "one": np.float32(1)}, 13), (1, 3))


def test_where_with_a_constant_condition() -> None:
    nodes = graph(("Neg", "x", "a"), ("Where", "c x a", "b"), ("Where", "c v b", "y"))
    choice = np.array([True, False, True, True, False, False])
    assert_same(model(nodes, V, {"c": choice, "v": f32(6)}, 13), V)


def make_one() -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array([1.0], np.float32))


ONE = make_one()


def test_every_translator_is_tested() -> None:
    covered = {case[0] for case in CASES.values()} | {n[0] for g in GRAPHS.values() for n in g[0]}
    covered |= {"Split", "Shape", "ConstantOfShape", "Where", "Equal", "Constant", "Size", "Range"}
    covered |= {case[0] for case in MOVEMENTS.values()} | {"EyeLike", "OneHot", "NonZero", "Mod"}
    covered |= {
        "ReduceLogSum",
        "ReduceLogSumExp",
        "Floor",
        "Ceil",
        "Round",
        "Scatter",
    }
    covered |= {"DequantizeLinear", "QuantizeLinear", "QLinearMatMul", "QLinearConv"}
    covered |= {"Celu", "Mish", "Softsign", "Swish", "ThresholdedRelu", "Shrink", "CastLike"}
    covered |= {"Not", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or"}
    covered |= set(BOUNDED)
    covered |= {"Attention", "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"}
    covered |= {"RNN", "GRU", "LSTM", "If", "Loop"}
    assert set(TRANSLATORS) <= covered


@pytest.mark.parametrize("op", ["Hardmax", "LRN", "Scan"])
def test_unknown_operators_are_named(op: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        load(model([(op, ["x"], ["y"], {})], (1, 3, 5), opset=17))
    text = str(caught.value)
    assert "\n" not in text
    assert "node n0" in text and op in text and "[1, 3, 5]" in text and "Gemm" in text
