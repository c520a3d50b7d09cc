"""Movement of what is known: changes of shape, transposes, selections, axes that say one thing.

An `Image` keeps, for each entry, the row of its matrix and the block of entries that share a
vector. Moving entries moves both; where an axis of length 1 is joined with a longer one, its places
become blocks of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.network.graph import Shape
from gamma.ops import Gather
from gamma.propagate.ranges.sets import Form, Image, Known, Sphere

Array = npt.NDArray[Any]
F = TypeVar("F", bound=Form)
Groups = list[tuple[list[int], list[int]]]


def reshaped(known: Known, target: Shape) -> Known:
    """Under another shape, in row-major order."""
    groups = _groups(known.shape, target)

    def move(array: Array) -> Array:
        return _reshape(array, known.shape, target, groups)

    excess = known.excess if known.shape[-1:] == target[-1:] else None
    form = _reshaped_form(known, target, groups, move)
    return Known(target, move(known.lower), move(known.upper), form, excess)


def transposed(known: Known, perm: Sequence[int]) -> Known:
    """Axes in another order."""
    form = known.form
    if isinstance(form, Sphere):
        form = _each(form, lambda a: a.transpose(perm))
        form = replace(form, axis=list(perm).index(form.axis))
    elif form is not None:
        form = _each(form, lambda a: a.transpose(perm))
    shape = tuple(known.shape[p] for p in perm)
    excess = known.excess if perm[-1] == len(perm) - 1 else None
    return Known(shape, known.lower.transpose(perm), known.upper.transpose(perm), form, excess)


def gathered(op: Gather, known: Known) -> Known | None:
    """What a selection along each axis leaves; None for any other movement."""
    chosen = selection(op, known.shape)
    if chosen is None:
        return None
    form = known.form
    if isinstance(form, Sphere):
        form = _selected_sphere(form, chosen[form.axis], known.shape[form.axis])
    if form is not None:
        form = _each(form, lambda a: _take(a, chosen))
    found = Known(
        tuple(len(c) for c in chosen), _take(known.lower, chosen), _take(known.upper, chosen), form
    )
    return found if found.shape == op.target else reshaped(found, op.target)


def collapsed(known: Known) -> Known:
    """With length 1 along every axis but the last where all places know the same."""
    for axis in range(len(known.shape) - 1):
        ends = known.lower, known.upper
        if max(e.shape[axis] for e in ends) > 1 and all(_same(e, axis) for e in ends):
            low, high = (e.take([0], axis) for e in ends)
            known = replace(known, lower=low, upper=high)
        if isinstance(known.form, Image):
            known = replace(known, form=_collapsed(known.form, known.shape, axis))
    return known


def joined(known: Known) -> Known:
    """Ends that hold at all places along the first axis, and no form."""
    lower, upper = known.lower.min(axis=0, keepdims=True), known.upper.max(axis=0, keepdims=True)
    return Known(known.shape, lower, upper)


def _collapsed(form: Image, shape: Shape, axis: int) -> Image:
    """The same where all places along ``axis`` read alike; the error is the most of any."""
    made = replace(form, block=_labels(form, shape, axis))
    if not all(_same(part, axis) for part in (made.row, made.block, made.scale, made.shift)):
        return form
    error = made.error.max(axis=axis, keepdims=True)
    return replace(_each(made, lambda a: a.take([0], axis)), error=error)


def _same(array: Array, axis: int) -> bool:
    """Whether all places along ``axis`` hold the same."""
    return array.shape[axis] == 1 or bool((array == array.take([0], axis)).all())


def _labels(form: Image, shape: Shape, axis: int) -> Array:
    """Blocks numbered anew at every place along ``axis``: places share no vector."""
    if form.block.shape[axis] == 1:
        return form.block
    slices = np.moveaxis(form.block, axis, 0)
    labels = [np.unique(part, return_inverse=True)[1].reshape(part.shape) for part in slices]
    return np.moveaxis(np.stack(labels), 0, axis)


def lifted(array: Array, rank: int) -> Array:
    """With axes of length 1 in front."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def apart(form: Image, axes: Sequence[int], shape: Shape) -> Image:
    """Places along ``axes`` become blocks of their own."""
    block = form.block
    for axis in axes:
        count = shape[axis]
        place = np.arange(count).reshape(tuple(-1 if a == axis else 1 for a in range(len(shape))))
        block = block * count + place
    return replace(form, block=block)


def _groups(old: Shape, new: Shape) -> Groups:
    """Shortest runs of axes with the same number of entries."""
    found: Groups = []
    i = j = 0
    while i < len(old) or j < len(new):
        a, b = [i] if i < len(old) else [], [j] if j < len(new) else []
        i, j = i + len(a), j + len(b)
        while math.prod(old[k] for k in a) != math.prod(new[k] for k in b):
            if math.prod(old[k] for k in a) < math.prod(new[k] for k in b):
                a.append(i)
                i += 1
            else:
                b.append(j)
                j += 1
        found.append((a, b))
    return found


def _reshape(array: Array, old: Shape, new: Shape, groups: Groups) -> Array:
    lengths: list[int] = []
    target: list[int] = []
    for a, b in groups:
        single = all(array.shape[k] == 1 for k in a)
        lengths += [1 if single else old[k] for k in a]
        target += [1 if single else new[k] for k in b]
    return np.broadcast_to(array, lengths).reshape(target)


def _reshaped_form(
    known: Known, target: Shape, groups: Groups, move: Callable[[Array], Array]
) -> Form | None:
    form = known.form
    if isinstance(form, Sphere):
        for a, b in groups:
            if form.axis in a:
                long = [k for k in b if target[k] > 1] or b[:1]
                if len(long) != 1:  # parts of a vector
                    return None
                joined = math.prod(known.shape[k] for k in a if k != form.axis)
                return replace(_each(form.of(joined), move), axis=long[0])
        return None
    if form is None:
        return None
    for a, _ in groups:
        long = [k for k in a if form.row.shape[k] > 1 or form.block.shape[k] > 1]
        short = [k for k in a if k not in long and known.shape[k] > 1]
        if long and short:
            form = apart(form, short, known.shape)
    return _each(form, move)


def _each(form: F, move: Callable[[Array], Array]) -> F:
    """The form with every array of its own moved."""
    names = ("gain", "bias", "error", "row", "block", "scale", "shift")
    own: dict[str, Any] = {n: move(getattr(form, n)) for n in names if hasattr(form, n)}
    return replace(form, **own)


def _take(array: Array, chosen: Sequence[Array]) -> Array:
    for axis, index in enumerate(chosen):
        if array.shape[axis] > 1:
            array = array.take(index, axis)
    return array


def selection(op: Gather, shape: Shape) -> list[Array] | None:
    """For each axis of the input the places that are taken, where the movement is only that."""
    found: list[Array] | None = op.cached("selection", lambda: _selection(op, shape))
    return found


def _selection(op: Gather, shape: Shape) -> list[Array] | None:
    if len(op.target) > len(shape) or (op.index.size and op.index.min() < 0):
        return None
    target = (1,) * (len(shape) - len(op.target)) + op.target
    index = op.index.reshape(target)
    strides = [math.prod(shape[a + 1 :]) for a in range(len(shape))]
    chosen, made = [], np.zeros((1,) * len(shape), np.int64)
    for axis, (stride, length) in enumerate(zip(strides, shape, strict=True)):
        line = index[tuple(slice(None) if a == axis else 0 for a in range(len(shape)))]
        places = (line // stride) % length
        chosen.append(places)
        made = made + (places * stride).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return chosen if np.array_equal(made, index) else None


def _selected_sphere(form: Sphere, index: Array, size: int) -> Sphere | None:
    """Part of a vector of bounded norm: of bounded norm, and centred when it is all of it."""
    if len(np.unique(index)) < len(index):
        return None
    return replace(form, centred=form.centred and len(index) == size)
