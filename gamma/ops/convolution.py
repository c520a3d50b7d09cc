"""Convolution and its transpose, on (channels, height, width) or (channels, length)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma import tuning
from gamma.errors import UsageError
from gamma.ops import image_interval
from gamma.ops.affine import Linear, Weighted, cast_weight
from gamma.ops.affine_interval import finish_bytes
from gamma.ops.base import Array, Float64, Shape
from gamma.ops.bounds import NodeBounds
from gamma.ops.exact import along_axis, exact_sum
from gamma.ops.spread import Taps, last_bytes, last_weight, spread, summed
from gamma.ops.tables import Precision
from gamma.ops.window import Window, channels_first, channels_last, unfold
from gamma.runtime import workers
from gamma.tensor import kernels


def _pair(values: Sequence[int], fill: int) -> tuple[int, int]:
    """A 1-d attribute as a 2-d one: the length axis is the second."""
    return (fill, values[0]) if len(values) == 1 else (values[0], values[1])


def _quad(pads: Sequence[int]) -> tuple[int, int, int, int]:
    return (0, pads[0], 0, pads[1]) if len(pads) == 2 else (pads[0], pads[1], pads[2], pads[3])


def _check_geometry(op: Conv | ConvTranspose, outputs: int) -> None:
    """Raise UsageError when the bias or an attribute does not fit the kernel."""
    rank = op.weight.ndim - 2
    if op.bias is not None and op.bias.shape != (outputs,):
        raise UsageError(f"{op.name}: bias of shape {op.bias.shape}, expected ({outputs},)")
    for what, values, count, least in (
        ("strides", op.strides, rank, 1),
        ("dilations", op.dilations, rank, 1),
        ("pads", op.pads, 2 * rank, 0),
    ):
        if len(values) != count or min(values) < least:
            raise UsageError(f"{op.name}: {what} {values}, expected {count} of at least {least}")


class Conv(Weighted):
    """Cross-correlation; weight (out, in/group, *kernel), pads (begins..., ends...).

    ``peak`` is that of `Linear`: an average adds first and divides then.
    """

    strides: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)
    dilations: tuple[int, ...] = (1, 1)
    group: int = 1
    peak: float = 1.0

    @property
    def correlation(self) -> Conv:
        return self

    @property
    def matrix_terms(self) -> int:
        return self.terms

    def mixes(self, rank: int) -> tuple[int, ...]:
        alone = [
            (kernel, self.strides[a], self.pads[a], self.pads[a + rank - 1]) == (1, 1, 0, 0)
            for a, kernel in enumerate(self.weight.shape[2:])
        ]
        return (0, *(a + 1 for a, own in enumerate(alone) if not own))

    @property
    def terms(self) -> int:
        return math.prod(self.weight.shape[1:])

    @property
    def adjoint_terms(self) -> int:
        # `spread` sums up to `summed` channels in a product, then those parts, then the kernel
        # positions that reach a pixel. Errors of nested sums add (γ_a + γ_b <= γ_(a+b)); one long
        # sum would cost γ_(a·b).
        channels = int(self.weight.shape[0]) // self.group
        part = summed(channels)
        reach = 1
        for size, stride, step in zip(
            self.weight.shape[2:], self.strides, self.dilations, strict=True
        ):
            reach *= -(-int(size) // (stride // math.gcd(stride, step)))
        return min(channels, part) + -(-channels // part) - 1 + reach

    @property
    def adjoint_products(self) -> int:
        return int(self.weight.shape[0]) // self.group * math.prod(self.weight.shape[2:])

    @property
    def skips(self) -> bool:
        """Whether it reads only some lines and columns of an image."""
        return all(k < s for k, s in zip(self.weight.shape[2:], self.strides, strict=True))

    def windowed(self, shape: Shape) -> bool:
        return len(shape) == 3

    def window(self, shape: Shape) -> Window:
        """The 2-d geometry on an input of ``shape`` (channels, *image)."""
        return self.cached(("window", shape), lambda: self._window(shape))  # type: ignore[no-any-return]

    def _window(self, shape: Shape) -> Window:
        kernel = _pair(self.weight.shape[2:], 1)
        image = (1, shape[1]) if len(shape) == 2 else (shape[1], shape[2])
        pads = _quad(self.pads)
        return Window(image, kernel, _pair(self.strides, 1), pads, _pair(self.dilations, 1))

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        rank = self.weight.ndim - 2
        if rank not in (1, 2) or len(shape) != rank + 1:
            raise UsageError(f"Conv: kernel of rank {rank} on {shape}; 1-d and 2-d are supported")
        if (
            self.group < 1
            or shape[0] != self.weight.shape[1] * self.group
            or self.weight.shape[0] % self.group
        ):
            raise UsageError(
                f"Conv: weight {self.weight.shape} with {self.group} groups needs "
                f"{self.weight.shape[1] * self.group} channels, the input has shape {shape}"
            )
        _check_geometry(self, int(self.weight.shape[0]))
        counts = self.window(shape).positions
        if min(counts) < 1:
            raise UsageError(f"Conv: the kernel does not fit into the padded input {shape}")
        return (int(self.weight.shape[0]), *counts[2 - rank :])

    def shifted(self, shift: Array) -> Linear | None:
        extra = along_axis(shift, 1 - self.weight.ndim, int(self.weight.shape[0]))
        bias = None if extra is None else exact_sum(self.bias, extra)
        return None if bias is None else replace(self, bias=bias)

    def offset(self) -> Array | None:
        if self.bias is None:
            return None
        return self.bias.reshape(-1, *(1,) * (self.weight.ndim - 2))

    def linear(self, inputs: Sequence[Array], absolute: bool = False) -> Array:
        (x,) = inputs
        weight = cast_weight(self, self.weight, "weight", x.dtype, absolute)
        window = self.window(x.shape[1:])
        image = x.reshape(x.shape[0], x.shape[1], *window.image)
        result = self._correlate(image, weight, window)
        return result.reshape(x.shape[0], weight.shape[0], *window.positions[4 - weight.ndim :])

    def copies(self, how: Precision, boxes: int = 0, shape: Shape = (0,)) -> dict[Hashable, int]:
        if boxes:
            return image_interval.copies(self, how, boxes, shape)
        kind, found = how.dtype, super().copies(how)
        found[f"last.{kind.char}"] = last_bytes(self.weight, kind)
        if len(shape) > 1:
            window = self.window(shape)
            found[Taps.key(kind)] = Taps.nbytes(self.weight, window, kind, self.group)
        return found

    def fused_interval(
        self, inputs: Sequence[NodeBounds], dtype: npt.DTypeLike
    ) -> NodeBounds | None:
        return image_interval.fused(self, inputs[0])

    def _correlate(self, image: Array, weight: Array, window: Window) -> Array:
        """Images (N, C, H, W) to (N, group, out/group, *positions), the last two flat or not."""
        n, groups = len(image), self.group
        flat = weight.reshape(groups, weight.shape[0] // groups, -1)
        if weight.dtype.char in "fd" and tuning.enabled("fused_forward"):
            spans = (*window.kernel, *window.strides, *window.dilations)
            done = kernels.correlate(
                np.ascontiguousarray(image).reshape(n, groups, -1, *window.image),
                flat,
                kernels.Frame(spans, *window.pads[:2]),
                window.positions,
            )
            if done is not None:
                return done
        columns = unfold(image, window)
        product: Array = np.matmul(flat, columns.reshape(n, groups, -1, columns.shape[2]))
        return product

    def adjoint(self, rows: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        (shape,) = shapes
        window = self.window(shape)
        weight = last_weight(self, self.weight, rows.dtype, False, self.group)
        channels = int(self.weight.shape[1])
        taps = partial(Taps.cached, self, weight, window, channels)
        image = spread(channels_last(rows, window.positions), weight, window, channels, taps)
        return (channels_first(image).reshape(rows.shape[0], *shape),)


class ConvTranspose(Weighted):
    """Adjoint of a convolution; weight (in, out/group, *kernel) as in ONNX."""

    strides: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)
    dilations: tuple[int, ...] = (1, 1)
    group: int = 1
    output_padding: tuple[int, ...] = (0, 0)

    @property
    def terms(self) -> int:
        return int(self.weight.shape[0]) // self.group * math.prod(self.weight.shape[2:])

    @property
    def adjoint_terms(self) -> int:
        return math.prod(self.weight.shape[1:])

    @property
    def matrix_terms(self) -> int:
        # Strides leave a pixel so many of the kernel's places.
        return -(-self.terms // math.prod(self.strides))

    @property
    def _conv(self) -> Conv:
        """The convolution this one transposes; its weight (in, out/group, *kernel) is the same."""
        spans = self.strides, self.pads, self.dilations, self.group
        return self.cached("conv", lambda: Conv(self.weight, None, *spans))  # type: ignore[no-any-return]

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        rank = self.weight.ndim - 2
        if rank not in (1, 2) or len(shape) != rank + 1 or shape[0] != self.weight.shape[0]:
            raise UsageError(f"ConvTranspose: weight {self.weight.shape} does not fit {shape}")
        _check_geometry(self, int(self.weight.shape[1]) * self.group)
        image = []
        for axis in range(rank):
            span = (self.weight.shape[axis + 2] - 1) * self.dilations[axis] + 1
            padding = self.pads[axis] + self.pads[axis + rank] - self.output_padding[axis]
            image.append((shape[axis + 1] - 1) * self.strides[axis] + span - padding)
        if min(image) < 1:
            raise UsageError(f"ConvTranspose: nothing is left of {shape} after the pads")
        return (int(self.weight.shape[1]) * self.group, *image)

    def copies(self, how: Precision, boxes: int = 0, shape: Shape = (0,)) -> dict[Hashable, int]:
        if not boxes:
            return super().copies(how)
        kind = np.dtype(np.float64)
        turned = last_bytes(self.weight, kind)
        found: dict[Hashable, int] = {"last.d": turned, "last.d.abs": turned}
        window = self._full_window(self.shape(shape), shape[1:])
        taps = Taps.nbytes(self.weight, window, kind, self.group)
        found |= {Taps.key(kind): taps, Taps.key(kind, True): taps}
        turned += taps
        return found | finish_bytes(self, how, shape) | self.stray_copies(how, turned)

    def shifted(self, shift: Array) -> Linear | None:
        extra = along_axis(shift, 1 - self.weight.ndim, int(self.weight.shape[1]) * self.group)
        bias = None if extra is None else exact_sum(self.bias, extra)
        return None if bias is None else replace(self, bias=bias)

    def offset(self) -> Array | None:
        if self.bias is None:
            return None
        return self.bias.reshape(-1, *(1,) * (self.weight.ndim - 2))

    def _full_window(self, out: Shape, positions: Shape) -> Window:
        """Geometry whose window positions are the input's pixels, whatever the output padding."""
        window = self._conv.window(out)
        need = []
        for axis, count in enumerate((1, positions[0]) if len(positions) == 1 else positions):
            span = (window.kernel[axis] - 1) * window.dilations[axis] + 1
            begin, size = window.pads[axis], window.image[axis]
            need.append((count - 1) * window.strides[axis] + span - size - begin)
        pads = (*window.pads[:2], max(need[0], 0), max(need[1], 0))
        # A surplus of output pixels (output_padding) gives positions past the input: none is kept.
        return Window(window.image, window.kernel, window.strides, pads, window.dilations)

    def linear(self, inputs: Sequence[Array], absolute: bool = False) -> Array:
        (x,) = inputs
        out = self.shape(x.shape[1:])
        window = self._full_window(out, x.shape[2:])
        weight = last_weight(self, self.weight, x.dtype, absolute, self.group)
        positions = (1, x.shape[2]) if x.ndim == 3 else (x.shape[2], x.shape[3])
        channels = int(self.weight.shape[1])
        taps = partial(Taps.cached, self, weight, window, channels, absolute)
        image = spread(channels_last(x, positions), weight, window, channels, taps)
        return channels_first(image).reshape(x.shape[0], *out)

    def interval_products(
        self, centres: Sequence[Float64], radii: Sequence[Float64], dtype: npt.DTypeLike
    ) -> tuple[Float64, Float64]:
        # The C library takes the few frames of an interval as one piece: a product a thread, with
        # the turn to channels first behind it.
        def product(inputs: Sequence[Float64], absolute: bool) -> Float64:
            return np.ascontiguousarray(self.linear(inputs, absolute))

        tasks = partial(product, centres, False), partial(product, radii, True)
        outputs = len(centres[0]) * math.prod(self.shape(centres[0].shape[1:]))
        centre, spread = workers.run(tasks, operations=4.0 * outputs * self.matrix_terms)
        return centre, spread

    def adjoint(self, rows: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        (shape,) = shapes
        window = self._full_window(rows.shape[1:], shape[1:])
        image = rows.reshape(rows.shape[0], rows.shape[1], *window.image)
        weight = cast_weight(self, self.weight, "weight", rows.dtype, False)
        result = self._conv._correlate(image, weight, window)
        result = result.reshape(rows.shape[0], shape[0], *window.positions)
        height, width = (1, shape[1]) if len(shape) == 2 else (shape[1], shape[2])
        kept = result[:, :, :height, :width]
        return (np.ascontiguousarray(kept).reshape(rows.shape[0], *shape),)
