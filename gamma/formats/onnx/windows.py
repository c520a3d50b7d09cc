"""Convolutions, pooling and nearest-neighbour resizing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from gamma.formats.onnx import volumes
from gamma.formats.onnx.affine import applied, maximum, reciprocal, reduced
from gamma.formats.onnx.arguments import Inputs, optional, variable
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Array, Constant, Shape, Value, Variable, estimates, leading
from gamma.frozen import Frozen
from gamma.ops import Abs, Conv, ConvTranspose, Elementwise, Pow, ReduceMax, ReduceSum, Relu, Sqrt

_SPAN_LIMIT = 1 << 30


class Geometry(Frozen, eq=True):
    """Where windows lie, per image axis: ``pads`` are begins then ends, ``counts`` positions."""

    image: Shape
    kernel: Shape
    strides: Shape
    dilations: Shape
    pads: Shape
    counts: Shape

    @property
    def rank(self) -> int:
        return len(self.image)

    def span(self, axis: int) -> int:
        """Entries from the first to the last one of a window."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def positions(self, axis: int) -> Array:
        """Image coordinate of each (position, kernel entry); outside the image in the pads."""
        starts = np.arange(self.counts[axis]) * self.strides[axis] - self.pads[axis]
        return starts[:, None] + np.arange(self.kernel[axis]) * self.dilations[axis]

    def reach(self) -> Shape:
        """Pads under which exactly ``counts`` positions fit (ends may shrink or grow)."""
        ends = tuple(
            (self.counts[a] - 1) * self.strides[a] + self.span(a) - self.image[a] - self.pads[a]
            for a in range(self.rank)
        )
        return (*self.pads[: self.rank], *ends)


def image_of(t: Translation, call: Call, x: Variable, most: int = 3) -> Shape:
    """The image axes, ``most`` of them, of (1, channels, *image). Raises for several images."""
    if not 3 <= len(x.dims) <= most + 2:
        volume = ", depth" if most == 3 else ""
        raise t.fail(
            call, f"takes (batch, channels, length) or (batch, channels{volume}, height, width)"
        )
    if not leading(x.dims):
        count = x.dims[0]
        raise t.fail(
            call,
            f"{count} images inside one input, expected a batch of one: where the file's batch is "
            f"fixed at {count}, give input_shape= with 1 in its place, or export it with a batch "
            "of 1 or an open one",
        )
    return x.dims[2:]


def _listed(t: Translation, call: Call, name: str, default: Shape, least: int) -> Shape:
    values: Shape = attribute(call, name, default)
    if len(values) != len(default) or any(not least <= v <= _SPAN_LIMIT for v in values):
        raise t.malformed(call, f"{name} {list(values)[:8]}, expected {len(default)} numbers")
    return values


def geometry(t: Translation, call: Call, image: Shape, kernel: Shape) -> Geometry:
    """Strides, dilations, pads (or auto_pad) and ceil_mode of a Conv or pooling node."""
    rank = len(image)
    strides = _listed(t, call, "strides", (1,) * rank, 1)
    dilations = _listed(t, call, "dilations", (1,) * rank, 1)
    pads = _listed(t, call, "pads", (0,) * (2 * rank), 0)
    auto = attribute(call, "auto_pad", "NOTSET")
    ceil = attribute(call, "ceil_mode", 0)
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise t.malformed(call, f"auto_pad {auto!r}")
    begins, ends, counts = [], [], []
    for a in range(rank):
        span = (kernel[a] - 1) * dilations[a] + 1
        begin, end = (pads[a], pads[a + rank]) if auto == "NOTSET" else (0, 0)
        if auto.startswith("SAME"):
            count = -(-image[a] // strides[a])
            reach = (count - 1) * strides[a] + span
            if call.op != "Conv" and (
                dilations[a] > 1 or (call.op == "LpPool" and reach < image[a])
            ):
                message = "auto_pad of such windows, where runtimes differ: export with pads"
                raise t.fail(call, message)
            extra = max(reach - image[a], 0)
            begin = extra // 2 if auto == "SAME_UPPER" else extra - extra // 2
            end = extra - begin
        room = image[a] + begin + end - span
        if room < 0:
            raise t.malformed(call, f"the window of {span} does not fit the padded axis")
        count = room // strides[a] + 1
        if ceil and room % strides[a] and count * strides[a] < image[a] + begin:
            count += 1  # the last window must start inside the image or its leading pad
        begins.append(begin)
        ends.append(end)
        counts.append(count)
    return Geometry(image, kernel, strides, dilations, (*begins, *ends), tuple(counts))


def _group(t: Translation, call: Call, channels: int) -> int:
    group: int = attribute(call, "group", 1)
    if group < 1 or channels % group:
        raise t.malformed(call, f"{group} groups of {channels} channels")
    return group


def _bias(t: Translation, call: Call, inputs: Inputs, channels: int) -> Constant | None:
    given = optional(inputs, 2)
    if given is None:
        return None
    bias = t.coefficients(call, given, "bias")
    if bias.dims != (channels,):
        raise t.malformed(call, f"a bias of shape {list(bias.dims)} for {channels} channels")
    return bias


def _kernel(t: Translation, call: Call, inputs: Inputs, rank: int) -> Constant:
    weight = t.coefficients(call, optional(inputs, 1), "kernel")
    if len(weight.dims) != rank + 2 or 0 in weight.dims:
        raise t.malformed(call, f"a kernel of shape {list(weight.dims)}")
    stated = attribute(call, "kernel_shape", weight.dims[2:])
    if tuple(stated) != weight.dims[2:]:
        raise t.malformed(call, f"kernel_shape {list(stated)} contradicts the kernel")
    return weight


def _biased(
    t: Translation, call: Call, op: Conv | ConvTranspose, x: Variable, bias: Constant | None,
    dims: Shape,
) -> Variable:  # fmt: skip
    """The window operator and its bias: stored in it when exact, else added with its error."""
    if bias is None or bias.certain:
        known = op if bias is None else replace(op, bias=bias.array)
        return t.emit(call, known, x, dims=dims)
    column = bias.mapped(lambda v: v.reshape(-1, *(1,) * (len(dims) - 2)))
    return t.scale(call, t.emit(call, op, x, dims=dims), None, column)


def conv(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = variable(t, call, inputs)
    image = image_of(t, call, x)
    weight = _kernel(t, call, inputs, len(image))
    group = _group(t, call, x.dims[1])
    if weight.dims[1] * group != x.dims[1] or weight.dims[0] % group:
        raise t.malformed(call, f"a kernel of shape {list(weight.dims)} with {group} groups")
    g = geometry(t, call, image, weight.dims[2:])
    bias = _bias(t, call, inputs, weight.dims[0])
    if g.rank == 3:
        return volumes.conv(t, call, x, weight, g, group, bias)
    # A Pad with zeros in front becomes pads of the convolution.
    source, extra = t.padded.get(x.node, (x, (0,) * len(g.pads)))
    if len(source.dims) != len(x.dims):
        source, extra = x, (0,) * len(g.pads)
    pads = tuple(a + b for a, b in zip(g.pads, extra, strict=True))
    op = Conv(weight.array, None, g.strides, pads, g.dilations, group, **estimates(weight))  # type: ignore[arg-type]
    return _biased(t, call, op, source, bias, (1, weight.dims[0], *g.counts))


def conv_transpose(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = variable(t, call, inputs)
    image = image_of(t, call, x)
    rank = len(image)
    weight = _kernel(t, call, inputs, rank)
    group = _group(t, call, x.dims[1])
    if weight.dims[0] != x.dims[1]:
        raise t.malformed(call, f"a kernel of shape {list(weight.dims)}")
    strides = _listed(t, call, "strides", (1,) * rank, 1)
    dilations = _listed(t, call, "dilations", (1,) * rank, 1)
    extra = _listed(t, call, "output_padding", (0,) * rank, 0)
    full = tuple(
        (image[a] - 1) * strides[a] + (weight.dims[a + 2] - 1) * dilations[a] + 1 + extra[a]
        for a in range(rank)
    )
    pads = _transpose_pads(t, call, image, strides, full)
    out = tuple(full[a] - pads[a] - pads[a + rank] for a in range(rank))
    channels = weight.dims[1] * group
    bias = _bias(t, call, inputs, channels)
    if rank == 3:
        g = Geometry(image, weight.dims[2:], strides, dilations, pads, out)
        return volumes.conv_transpose(t, call, x, weight, g, group, bias)
    op = ConvTranspose(
        weight.array, None, strides, pads, dilations, group, extra, **estimates(weight)
    )
    return _biased(t, call, op, x, bias, (1, channels, *out))


def _transpose_pads(t: Translation, call: Call, image: Shape, strides: Shape, full: Shape) -> Shape:
    """Pads that a ConvTranspose takes away, from pads, auto_pad or output_shape."""
    rank = len(image)
    auto = attribute(call, "auto_pad", "NOTSET")
    wanted: Sequence[int] | None = call.attributes.get("output_shape")
    if wanted is not None:
        wanted = tuple(attribute(call, "output_shape", ()))[-rank:]
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(n * s for n, s in zip(image, strides, strict=True))
    elif auto == "VALID":
        return (0,) * (2 * rank)
    else:
        return _listed(t, call, "pads", (0,) * (2 * rank), 0)
    surplus = [f - w for f, w in zip(full, wanted, strict=False)]
    if len(wanted) != rank or min(surplus) < 0 or min(wanted) < 1:
        raise t.fail(call, f"output_shape {list(wanted)}, the kernel reaches {list(full)}")
    halves = [n // 2 if auto == "SAME_UPPER" else n - n // 2 for n in surplus]
    return (*halves, *(n - h for n, h in zip(surplus, halves, strict=True)))


def _pool_geometry(t: Translation, call: Call, x: Variable, most: int = 3) -> Geometry:
    image = image_of(t, call, x, most)
    kernel = call.attributes.get("kernel_shape")
    if not isinstance(kernel, tuple) or len(kernel) != len(image) or min(kernel) < 1:
        raise t.malformed(call, f"kernel_shape {kernel}")
    if max(kernel) > _SPAN_LIMIT:
        raise t.malformed(call, f"kernel_shape {kernel}")
    return geometry(t, call, image, kernel)


def average_pool(t: Translation, call: Call, inputs: Inputs) -> Value:
    """A sum per channel (a convolution with ones), then a division by each window's count."""
    x = variable(t, call, inputs)
    g = _pool_geometry(t, call, x)
    channels = x.dims[1]
    t.charge(call, (channels, *g.kernel))
    ones = np.ones((channels, 1, *g.kernel), np.float32)
    pads = g.reach()
    if min(pads) < 0:
        # Trailing entries no window reads: the window operator takes only pads that add.
        pads = (*g.pads[: g.rank], *(max(p, 0) for p in pads[g.rank :]))
    dims = (1, channels, *g.counts)
    counts = _counted(t, call, g)
    first = int(counts.reshape(-1)[0])
    if g.rank < 3 and bool((counts == first).all()) and first & (first - 1) == 0:
        share = ones / np.float32(first)
        op = Conv(share, None, g.strides, pads, g.dilations, channels, float(first))
        return t.emit(call, op, x, dims=dims)
    if g.rank == 3:
        summed = volumes.sums(t, call, x, g)
    else:
        op = Conv(ones, None, g.strides, pads, g.dilations, channels)
        summed = t.emit(call, op, x, dims=dims)
    values = 1.0 / counts
    error = np.where((counts & (counts - 1)) == 0, 0.0, values * 2.0**-53)
    if bool((counts == first).all()):
        values, error = values.reshape(-1)[0], error.reshape(-1)[0]
    return t.scale(call, summed, Constant(np.asarray(values), error if error.any() else 0.0))


def _counted(t: Translation, call: Call, g: Geometry) -> Array:
    """How many entries each window divides by, (*counts)."""
    include = attribute(call, "count_include_pad", 0)
    t.charge(call, g.counts)
    counts: Array = np.ones((), np.int64)
    for a in range(g.rank):
        t.charge(call, (g.counts[a], g.kernel[a]), kept=False)
        places = g.positions(a)
        low, high = (-g.pads[a], g.image[a] + g.pads[a + g.rank]) if include else (0, g.image[a])
        inside = ((places >= low) & (places < high)).sum(axis=1)
        counts = counts[..., None] * inside
    if (counts == 0).any():
        raise t.fail(call, "a window lies in the padding alone")
    return counts


def max_pool(t: Translation, call: Call, inputs: Inputs) -> Value:
    """The entries of each window side by side, then their maximum.

    Entries in the padding (minus infinity) are replaced by another entry of the same window: that
    changes no maximum and keeps every bound finite.
    """
    x = variable(t, call, inputs)
    if len(call.outputs) > 1 and call.outputs[1]:
        raise t.fail(call, "with indices of the maxima, expected values only")
    g = _pool_geometry(t, call, x)
    channels = x.dims[1]
    t.charge(call, (channels, *g.counts, *g.kernel))
    flat = np.zeros((1,) * (2 * g.rank), np.int64)
    for a in range(g.rank):
        places = g.positions(a)
        inside = (places >= 0) & (places < g.image[a])
        if not inside.any(axis=1).all():
            raise t.fail(call, "a window lies in the padding alone")
        first = np.take_along_axis(places, inside.argmax(axis=1)[:, None], axis=1)
        places = np.where(inside, places, first)
        shape = [1] * (2 * g.rank)
        shape[a], shape[a + g.rank] = places.shape
        flat = flat * g.image[a] + places.reshape(shape)
    windows = flat.reshape(*g.counts, math.prod(g.kernel))
    offsets = np.arange(channels) * math.prod(g.image)
    index = offsets.reshape(-1, *(1,) * windows.ndim) + windows
    gathered = t.pick(call, x, index[None])
    return t.emit(call, ReduceMax(g.rank + 1), gathered, dims=(1, channels, *g.counts))


def lp_pool(t: Translation, call: Call, inputs: Inputs) -> Value:
    """The p-norm of each window for p = 1, 2: a function of entries, a sum, a root."""
    x = variable(t, call, inputs)
    g = _pool_geometry(t, call, x)
    before, after = _norm(t, call)
    entries = t.emit(call, before, x, dims=x.dims)
    if g.rank == 3:
        summed = volumes.sums(t, call, entries, g)
    else:
        channels = x.dims[1]
        t.charge(call, (channels, *g.kernel))
        ones = np.ones((channels, 1, *g.kernel), np.float32)
        pads = (*g.pads[: g.rank], *(max(p, 0) for p in g.reach()[g.rank :]))
        op = Conv(ones, None, g.strides, pads, g.dilations, channels)
        summed = t.emit(call, op, entries, dims=(1, channels, *g.counts))
    if after is None:
        return summed
    # The sums are not negative; their bounds may be, by a rounding.
    return applied(t, call, after, applied(t, call, Relu(), summed))


def _norm(t: Translation, call: Call) -> tuple[Elementwise, Elementwise | None]:
    p = attribute(call, "p", 2)
    if p not in (1, 2):
        raise t.fail(call, f"norms with p = {p}, expected 1 or 2")
    return (Abs(), None) if p == 1 else (Pow(2.0), Sqrt())


def global_lp_pool(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = variable(t, call, inputs)
    axes = tuple(range(2, len(x.dims)))
    before, after = _norm(t, call)
    summed = reduced(t, call, "ReduceSum", applied(t, call, before, x), axes, True)
    return summed if after is None else applied(t, call, after, summed)


def global_pool(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = variable(t, call, inputs)
    image_of(t, call, x)
    axes = tuple(range(2, len(x.dims)))
    dims = (*x.dims[:2], *(1,) * len(axes))
    if call.op == "GlobalMaxPool":
        return maximum(t, call, x, axes, dims, False)
    scale, error = reciprocal(math.prod(x.dims[2:]))
    op = ReduceSum(tuple(a - 1 for a in axes), True, scale, error)
    return t.emit(call, op, x, dims=dims)
