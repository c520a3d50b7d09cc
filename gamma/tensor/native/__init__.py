"""The compiled kernels through cffi: the same functions as gamma.tensor.fallback.

``memory.pointer`` is the only place that hands memory to C. The calls release the GIL. Importing
this package fails with ImportError where gamma was installed without a compiler.
"""

# ruff: noqa: F401  (what `kernels.backend.current` is asked for)

from __future__ import annotations

from gamma.errors import UsageError
from gamma.tensor._simd import ffi, lib
from gamma.tensor.native.ascent import Ascent
from gamma.tensor.native.course import Course, MetTables
from gamma.tensor.native.elementwise import (
    dot,
    erf,
    erfc,
    f16_down,
    f16_to_f32,
    f16_up,
    image,
    interval_mul,
    lines,
    midpoint,
    narrow,
    parallel_lines,
    pos_neg_split,
    radius_about,
    safe_mul_add,
    step,
    sum,
)
from gamma.tensor.native.images import (
    Convolution,
    abs_dot_windows,
    correlate,
    fold_last,
    gather,
    relax_windows,
    spread,
    turned,
)
from gamma.tensor.native.interval import (
    dense_boxes,
    dense_interval,
    finish,
    interval_affine,
    largest,
    relu,
    sum_interval,
)
from gamma.tensor.native.network import ImageNetwork
from gamma.tensor.native.normal import groups, normal_image, normal_sets, quotients
from gamma.tensor.native.planes import pass_planes, plane_lines
from gamma.tensor.native.rows import (
    Chain,
    DenseNetwork,
    abs_dot_rows,
    ascend,
    dot_rows,
    hinge_tables,
    line_tables,
    own_lines,
    product,
    relax_own_rows,
    relax_rows,
)
from gamma.tensor.native.sets import balls, layer_set, outer, reach, strips_set, swing
from gamma.tensor.native.starts import Starts
from gamma.tensor.native.stored import decode_rows, stored_affine


def available() -> tuple[str, ...]:
    """Instruction sets of this processor, best first."""
    names: list[str] = []
    while (name := lib.gamma_available(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


def select(name: str) -> None:
    """Use the table called ``name``; UsageError when this processor cannot run it."""
    if lib.gamma_select(name.encode()) != 0:
        raise UsageError(f"instruction set {name}: not available on this processor")
