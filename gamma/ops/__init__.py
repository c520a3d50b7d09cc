"""One record per operator. `TABLE` lists them all; an operator that is not in it is refused.

`Composite` is no operator of its own: it joins several. A file that is saved can hold neither it
nor a `StoredGemm` or `StoredMargins`, whose weight stays in another file.
"""

from gamma.ops.affine import Linear
from gamma.ops.base import Input, Operator
from gamma.ops.composite import Composite
from gamma.ops.convolution import Conv, ConvTranspose
from gamma.ops.elementwise import Elementwise
from gamma.ops.exponentials import Elu, Exp, Log, Softplus
from gamma.ops.gates import Gelu, HardSwish, Silu
from gamma.ops.linear import Add, Concat, Gemm, ReduceSum, Scale
from gamma.ops.log_softmax import LogSoftmax
from gamma.ops.margins import StoredMargins
from gamma.ops.movement import Gather, Reshape, Transpose
from gamma.ops.normalization import Normalize
from gamma.ops.periodic import Cos, Sin
from gamma.ops.piecewise import Abs, Clip, HardSigmoid, LeakyRelu, PRelu, Relu, Sign
from gamma.ops.pooling import ReduceMax
from gamma.ops.powers import Pow, Reciprocal, Sqrt
from gamma.ops.products import MatMul, Mul
from gamma.ops.sigmoids import Erf, Sigmoid, Tanh
from gamma.ops.softmax import Softmax
from gamma.ops.steps import Ceil, Floor, Round
from gamma.ops.stored import StoredGemm
from gamma.ops.trigonometric import Acos, Acosh, Asin, Asinh, Atan, Atanh, Cosh, Sinh, Tan

TABLE: dict[str, type[Operator]] = {
    record.__name__: record
    for record in (
        *(Input, Gemm, Conv, ConvTranspose, Scale, Add, Concat, ReduceSum),
        *(Reshape, Transpose, Gather, ReduceMax, Mul, MatMul, Softmax, LogSoftmax, Normalize),
        *(Relu, LeakyRelu, PRelu, Clip, Abs, Sign, HardSigmoid, HardSwish),
        *(Sigmoid, Tanh, Elu, Softplus, Exp, Log, Sqrt, Reciprocal, Pow, Erf, Gelu, Silu),
        *(Sin, Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Asinh, Acosh, Atanh, Floor, Ceil, Round),
    )
}

__all__ = [
    "TABLE",
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Clip",
    "Composite",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Cos",
    "Cosh",
    "Elementwise",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gather",
    "Gelu",
    "Gemm",
    "HardSigmoid",
    "HardSwish",
    "Input",
    "LeakyRelu",
    "Linear",
    "Log",
    "LogSoftmax",
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
    "Round",
    "Scale",
    "Sigmoid",
    "Sign",
    "Silu",
    "Sin",
    "Sinh",
    "Softmax",
    "Softplus",
    "Sqrt",
    "StoredGemm",
    "StoredMargins",
    "Tan",
    "Tanh",
    "Transpose",
]
