"""One record per operator. `TABLE` lists them all; an operator that is not in it is refused.

`Composite` is no operator of its own: it joins several. A file that is saved can hold neither it
nor a `StoredGemm` or `StoredMargins`, whose weight stays in another file.
"""

from gamma.ops.base import Input, Linear, Operator
from gamma.ops.composite import Composite
from gamma.ops.convolution import Conv, ConvTranspose
from gamma.ops.elementwise import (
    Abs,
    Clip,
    Elementwise,
    Elu,
    Erf,
    Exp,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Log,
    Pow,
    PRelu,
    Reciprocal,
    Relu,
    Sigmoid,
    Sign,
    Silu,
    Softplus,
    Sqrt,
    Tanh,
)
from gamma.ops.linear import Add, Concat, Gemm, ReduceSum, Scale
from gamma.ops.margins import StoredMargins
from gamma.ops.movement import Gather, Reshape, Transpose
from gamma.ops.normalization import Normalize
from gamma.ops.periodic import Cos, Sin
from gamma.ops.pooling import ReduceMax
from gamma.ops.products import MatMul, Mul
from gamma.ops.softmax import Softmax
from gamma.ops.stored import StoredGemm

TABLE: dict[str, type[Operator]] = {
    record.__name__: record
    for record in (
        *(Input, Gemm, Conv, ConvTranspose, Scale, Add, Concat, ReduceSum),
        *(Reshape, Transpose, Gather, ReduceMax, Mul, MatMul, Softmax, Normalize),
        *(Relu, LeakyRelu, PRelu, Clip, Abs, Sign, HardSigmoid, HardSwish),
        *(Sigmoid, Tanh, Elu, Softplus, Exp, Log, Sqrt, Reciprocal, Pow, Erf, Gelu, Silu),
        *(Sin, Cos),
    )
}

__all__ = [
    "TABLE",
    "Abs",
    "Add",
    "Clip",
    "Composite",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Cos",
    "Elementwise",
    "Elu",
    "Erf",
    "Exp",
    "Gather",
    "Gelu",
    "Gemm",
    "HardSigmoid",
    "HardSwish",
    "Input",
    "LeakyRelu",
    "Linear",
    "Log",
    "MatMul",
    "Mul",
    "Normalize",
    "Operator",
    "PRelu",
    "Pow",
    "Reciprocal",
    "ReduceMax",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Scale",
    "Sigmoid",
    "Sign",
    "Silu",
    "Sin",
    "Softmax",
    "Softplus",
    "Sqrt",
    "StoredGemm",
    "StoredMargins",
    "Tanh",
    "Transpose",
]
