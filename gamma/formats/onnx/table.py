"""The one table of ONNX operators gamma reads."""

from __future__ import annotations

from collections.abc import Callable

from gamma.formats.onnx import affine, elementwise, movement, normal, resize, shapes, windows
from gamma.formats.onnx.arguments import Inputs
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation
from gamma.formats.onnx.values import Value

Translator = Callable[[Translation, Call, Inputs], Value | tuple[Value, ...]]

TRANSLATORS: dict[str, Translator] = {
    # dense and elementwise affine
    "Gemm": affine.gemm,
    "MatMul": affine.matmul,
    "Add": affine.add,
    "Sub": affine.sub,
    "Mul": affine.mul,
    "Div": affine.div,
    "Neg": affine.neg,
    "Sum": affine.sum_,
    "BatchNormalization": normal.batch_normalization,
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"), affine.reduce),
    # windows
    "Conv": windows.conv,
    "ConvTranspose": windows.conv_transpose,
    "AveragePool": windows.average_pool,
    "MaxPool": windows.max_pool,
    "GlobalAveragePool": windows.global_pool,
    "GlobalMaxPool": windows.global_pool,
    "Resize": resize.resize,
    "Upsample": resize.upsample,
    # movement
    "Reshape": movement.reshape,
    "Flatten": movement.flatten,
    "Squeeze": movement.squeeze,
    "Unsqueeze": movement.unsqueeze,
    "Transpose": movement.transpose,
    "Concat": movement.concat,
    "Split": movement.split,
    "Slice": movement.slice_,
    "Gather": movement.gather,
    "Expand": movement.expand,
    "Tile": movement.tile,
    "Pad": movement.pad,
    # shapes and constants
    "Constant": shapes.constant_node,
    "ConstantOfShape": shapes.constant_of_shape,
    "Shape": shapes.shape,
    "Size": shapes.size,
    "Range": shapes.range_,
    "Cast": shapes.cast,
    "Identity": shapes.identity,
    "Dropout": shapes.dropout,
    "Where": shapes.where,
    "Not": shapes.not_,
    **dict.fromkeys(
        ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or"), shapes.compare
    ),
    # elementwise functions
    **dict.fromkeys(elementwise.PLAIN, elementwise.plain),
    "Gelu": elementwise.gelu,
    "Selu": elementwise.selu,
    "PRelu": elementwise.prelu,
    "Clip": elementwise.clip,
    "Pow": elementwise.power,
    "Max": elementwise.extreme,
    "Min": elementwise.extreme,
}
