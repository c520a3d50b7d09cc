"""One record per operator. `TABLE` lists them all; an operator that is not in it is refused.

`Composite` is no operator of its own: it joins several. A file that is saved can hold neither it
nor a `StoredGemm` or `StoredMargins`, whose weight stays in another file. A record's module is
imported when the record is first used: a small network has few kinds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from gamma import deferred

if TYPE_CHECKING:
    from gamma.ops.affine import Linear as Linear
    from gamma.ops.base import Input as Input
    from gamma.ops.base import Operator as Operator
    from gamma.ops.composite import Composite as Composite
    from gamma.ops.convolution import Conv as Conv
    from gamma.ops.convolution import ConvTranspose as ConvTranspose
    from gamma.ops.elementwise import Elementwise as Elementwise
    from gamma.ops.exponentials import Elu as Elu
    from gamma.ops.exponentials import Exp as Exp
    from gamma.ops.exponentials import Log as Log
    from gamma.ops.exponentials import Softplus as Softplus
    from gamma.ops.gates import Gelu as Gelu
    from gamma.ops.gates import HardSwish as HardSwish
    from gamma.ops.gates import Silu as Silu
    from gamma.ops.linear import Gemm as Gemm
    from gamma.ops.linear import Scale as Scale
    from gamma.ops.log_softmax import LogSoftmax as LogSoftmax
    from gamma.ops.margins import StoredMargins as StoredMargins
    from gamma.ops.movement import Gather as Gather
    from gamma.ops.movement import Reshape as Reshape
    from gamma.ops.movement import Transpose as Transpose
    from gamma.ops.normalization import Normalize as Normalize
    from gamma.ops.periodic import Cos as Cos
    from gamma.ops.periodic import Sin as Sin
    from gamma.ops.piecewise import Abs as Abs
    from gamma.ops.piecewise import Clip as Clip
    from gamma.ops.piecewise import HardSigmoid as HardSigmoid
    from gamma.ops.piecewise import LeakyRelu as LeakyRelu
    from gamma.ops.piecewise import PRelu as PRelu
    from gamma.ops.piecewise import Relu as Relu
    from gamma.ops.piecewise import Sign as Sign
    from gamma.ops.pooling import ReduceMax as ReduceMax
    from gamma.ops.powers import Pow as Pow
    from gamma.ops.powers import Reciprocal as Reciprocal
    from gamma.ops.powers import Sqrt as Sqrt
    from gamma.ops.products import MatMul as MatMul
    from gamma.ops.products import Mul as Mul
    from gamma.ops.sigmoids import Erf as Erf
    from gamma.ops.sigmoids import Sigmoid as Sigmoid
    from gamma.ops.sigmoids import Tanh as Tanh
    from gamma.ops.softmax import Softmax as Softmax
    from gamma.ops.steps import Ceil as Ceil
    from gamma.ops.steps import Floor as Floor
    from gamma.ops.steps import Round as Round
    from gamma.ops.stored import StoredGemm as StoredGemm
    from gamma.ops.sums import Add as Add
    from gamma.ops.sums import Concat as Concat
    from gamma.ops.sums import ReduceSum as ReduceSum
    from gamma.ops.trigonometric import Acos as Acos
    from gamma.ops.trigonometric import Acosh as Acosh
    from gamma.ops.trigonometric import Asin as Asin
    from gamma.ops.trigonometric import Asinh as Asinh
    from gamma.ops.trigonometric import Atan as Atan
    from gamma.ops.trigonometric import Atanh as Atanh
    from gamma.ops.trigonometric import Cosh as Cosh
    from gamma.ops.trigonometric import Sinh as Sinh
    from gamma.ops.trigonometric import Tan as Tan

_RECORDS = {
    "base": "Input",
    "linear": "Gemm Scale",
    "sums": "Add Concat ReduceSum",
    "convolution": "Conv ConvTranspose",
    "movement": "Reshape Transpose Gather",
    "pooling": "ReduceMax",
    "products": "Mul MatMul",
    "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
    "normalization": "Normalize",
    "piecewise": "Relu LeakyRelu PRelu Clip Abs Sign HardSigmoid",
    "gates": "HardSwish Gelu Silu",
    "sigmoids": "Sigmoid Tanh Erf",
    "exponentials": "Elu Softplus Exp Log",
    "powers": "Sqrt Reciprocal Pow",
    "periodic": "Sin Cos",
    "trigonometric": "Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh",
    "steps": "Floor Ceil Round",
}
_OTHERS = {
    "affine": "Linear",
    "base": "Operator",
    "composite": "Composite",
    "elementwise": "Elementwise",
    "margins": "StoredMargins",
    "stored": "StoredGemm",
}


_TABLE, _OTHER = deferred.homes(__name__, _RECORDS), deferred.homes(__name__, _OTHERS)
_get = deferred.names(__name__, {**_TABLE, **_OTHER})


class Table(Mapping[str, "type[Operator]"]):
    """Name of an operator -> its record."""

    def __getitem__(self, name: str) -> type[Operator]:
        if name not in _TABLE:
            raise KeyError(name)
        record: type[Operator] = _get(name)
        return record

    def __contains__(self, name: object) -> bool:
        return name in _TABLE

    def __iter__(self) -> Iterator[str]:
        return iter(_TABLE)

    def __len__(self) -> int:
        return len(_TABLE)


TABLE = Table()

__all__ = ["TABLE", *sorted({**_TABLE, **_OTHER})]


def __getattr__(name: str) -> type[Operator]:
    record: type[Operator] = _get(name)
    return record
