"""The one table of ONNX operators gamma reads.

A module of translators is imported when a file has one of its operators.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gamma.formats.onnx.arguments import Inputs
    from gamma.formats.onnx.read import Call
    from gamma.formats.onnx.translation import Translation
    from gamma.formats.onnx.values import Value

    Translator = Callable[[Translation, Call, Inputs], Value | tuple[Value | None, ...]]

PLAIN = (
    *("Relu", "Abs", "Sigmoid", "Tanh", "Softplus", "Exp", "Log", "Sqrt", "Reciprocal", "Erf"),
    *("HardSwish", "Sign", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh"),
    *("Acosh", "Atanh", "LeakyRelu", "Elu", "HardSigmoid"),
)
"""Functions of one entry that their name and attributes describe."""

_PLACES = {
    # dense and elementwise affine
    "Gemm": "affine.gemm",
    "MatMul": "affine.matmul",
    "Add": "masks.add",
    "Sub": "affine.sub",
    "Mul": "affine.mul",
    "Div": "affine.div",
    "Neg": "affine.neg",
    "Sum": "affine.sum_",
    "BatchNormalization": "normal.batch_normalization",
    **dict.fromkeys(
        ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"),
        "normalize.layer_normalization",
    ),
    **dict.fromkeys(
        (
            "com.microsoft.SkipLayerNormalization",
            "com.microsoft.SkipSimplifiedLayerNormalization",
        ),
        "normalize.skip_layer_normalization",
    ),
    "InstanceNormalization": "normalize.instance_normalization",
    "GroupNormalization": "normalize.group_normalization",
    "MeanVarianceNormalization": "normalize.mean_variance_normalization",
    "LpNormalization": "normalize.lp_normalization",
    "Mean": "affine.sum_",
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
            "ReduceLogSumExp",
        ),
        "affine.reduce",
    ),
    **dict.fromkeys(("RNN", "GRU", "LSTM"), "recurrent.recurrent"),
    "CumSum": "einsum.cum_sum",
    "Einsum": "einsum.einsum",
    "DequantizeLinear": "quantised.dequantize",
    "QuantizeLinear": "quantised.quantize",
    "QLinearMatMul": "quantised.linear_matmul",
    "QLinearConv": "quantised.linear_conv",
    # windows
    "Conv": "windows.conv",
    "ConvTranspose": "windows.conv_transpose",
    "AveragePool": "windows.average_pool",
    "MaxPool": "windows.max_pool",
    "GlobalAveragePool": "windows.global_pool",
    "GlobalMaxPool": "windows.global_pool",
    "LpPool": "windows.lp_pool",
    "GlobalLpPool": "windows.global_lp_pool",
    "Resize": "resize.resize",
    "Upsample": "resize.upsample",
    # movement
    "Reshape": "movement.reshape",
    "Flatten": "movement.flatten",
    "Squeeze": "movement.squeeze",
    "Unsqueeze": "movement.unsqueeze",
    "Transpose": "movement.transpose",
    "Concat": "movement.concat",
    "Split": "movement.split",
    "Slice": "movement.slice_",
    "Gather": "movement.gather",
    "Expand": "movement.expand",
    "Tile": "movement.tile",
    "Pad": "movement.pad",
    "DepthToSpace": "rearrange.depth_to_space",
    "SpaceToDepth": "rearrange.space_to_depth",
    "Trilu": "rearrange.trilu",
    "ReverseSequence": "rearrange.reverse_sequence",
    "CenterCropPad": "rearrange.center_crop_pad",
    "GatherElements": "indexing.gather_elements",
    "GatherND": "indexing.gather_nd",
    "Scatter": "indexing.scatter_elements",
    "ScatterElements": "indexing.scatter_elements",
    "ScatterND": "indexing.scatter_nd",
    "Compress": "indexing.compress",
    "Col2Im": "indexing.col2im",
    # shapes and constants
    "Constant": "shapes.constant_node",
    "ConstantOfShape": "shapes.constant_of_shape",
    "Shape": "shapes.shape",
    "Size": "shapes.size",
    "Range": "shapes.range_",
    "EyeLike": "indexing.eye_like",
    "OneHot": "indexing.one_hot",
    "NonZero": "indexing.non_zero",
    "Mod": "shapes.mod",
    **dict.fromkeys(("Floor", "Ceil", "Round"), "shapes.whole"),
    "Cast": "shapes.cast",
    "CastLike": "shapes.cast",
    "Identity": "shapes.identity",
    "Dropout": "shapes.dropout",
    "Where": "masks.where",
    "Not": "shapes.not_",
    **dict.fromkeys(
        ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or"), "shapes.compare"
    ),
    # graphs inside of a node
    "If": "control.if_",
    "Loop": "control.loop",
    # elementwise functions
    **dict.fromkeys(PLAIN, "elementwise.plain"),
    "Gelu": "elementwise.gelu",
    "Selu": "elementwise.selu",
    "PRelu": "elementwise.prelu",
    "Celu": "elementwise.celu",
    "Mish": "formulas.mish",
    "Softsign": "formulas.softsign",
    "Swish": "formulas.swish",
    "ThresholdedRelu": "formulas.thresholded",
    "Shrink": "formulas.shrink",
    "Clip": "elementwise.clip",
    "Pow": "elementwise.power",
    "LogSoftmax": "softmax.softmax",
    "Softmax": "masks.softmax",
    "Attention": "attention.attention",
    "NegativeLogLikelihoodLoss": "losses.negative_log_likelihood",
    "SoftmaxCrossEntropyLoss": "losses.softmax_cross_entropy",
    "Max": "elementwise.extreme",
    "Min": "elementwise.extreme",
}


class _Translators(Mapping[str, "Translator"]):
    """ONNX operator -> the function that translates it."""

    def __getitem__(self, op: str) -> Translator:
        module, _, function = _PLACES[op].partition(".")
        found: Translator = getattr(
            importlib.import_module(f"gamma.formats.onnx.{module}"), function
        )
        return found

    def __contains__(self, op: object) -> bool:
        return op in _PLACES

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


TRANSLATORS = _Translators()
