"""The one table of ONNX operators gamma reads."""

from __future__ import annotations

from collections.abc import Callable

from gamma.formats.onnx import (
    affine,
    einsum,
    elementwise,
    indexing,
    movement,
    normal,
    quantised,
    rearrange,
    resize,
    shapes,
    softmax,
    windows,
)
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
    "Mean": affine.sum_,
    **dict.fromkeys(
        (
            "ReduceSum",
            "ReduceMean",
            "ReduceMax",
            "ReduceMin",
            "ReduceProd",
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
            "ReduceLogSum",
        ),
        affine.reduce,
    ),
    "CumSum": einsum.cum_sum,
    "Einsum": einsum.einsum,
    "DequantizeLinear": quantised.dequantize,
    "QuantizeLinear": quantised.quantize,
    # windows
    "Conv": windows.conv,
    "ConvTranspose": windows.conv_transpose,
    "AveragePool": windows.average_pool,
    "MaxPool": windows.max_pool,
    "GlobalAveragePool": windows.global_pool,
    "GlobalMaxPool": windows.global_pool,
    "LpPool": windows.lp_pool,
    "GlobalLpPool": windows.global_lp_pool,
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
    "DepthToSpace": rearrange.depth_to_space,
    "SpaceToDepth": rearrange.space_to_depth,
    "Trilu": rearrange.trilu,
    "ReverseSequence": rearrange.reverse_sequence,
    "CenterCropPad": rearrange.center_crop_pad,
    "GatherElements": indexing.gather_elements,
    "GatherND": indexing.gather_nd,
    "Scatter": indexing.scatter_elements,
    "ScatterElements": indexing.scatter_elements,
    "ScatterND": indexing.scatter_nd,
    "Compress": indexing.compress,
    "Col2Im": indexing.col2im,
    # shapes and constants
    "Constant": shapes.constant_node,
    "ConstantOfShape": shapes.constant_of_shape,
    "Shape": shapes.shape,
    "Size": shapes.size,
    "Range": shapes.range_,
    "EyeLike": indexing.eye_like,
    "OneHot": indexing.one_hot,
    "NonZero": indexing.non_zero,
    "Mod": shapes.mod,
    **dict.fromkeys(("Floor", "Ceil", "Round"), shapes.whole),
    "Cast": shapes.cast,
    "CastLike": shapes.cast,
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
    "Celu": elementwise.celu,
    "Mish": elementwise.mish,
    "Softsign": elementwise.softsign,
    "Swish": elementwise.swish,
    "ThresholdedRelu": elementwise.thresholded,
    "Shrink": elementwise.shrink,
    "Clip": elementwise.clip,
    "Pow": elementwise.power,
    "Softmax": softmax.softmax,
    "Max": elementwise.extreme,
    "Min": elementwise.extreme,
}
