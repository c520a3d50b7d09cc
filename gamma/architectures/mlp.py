"""A plain sequential state_dict (``0.weight``, ``fc1.weight``, ``layers.2.bias``) to a network.

Weights alone do not say which activation lies between them, nor a convolution's strides and pads.
Whoever loads the file confirms these; what was understood stands in ``Network.notes``. Nothing is
guessed: a tensor left over, shapes that do not chain and an order that is not the only possible
one are errors.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gamma.architectures.activations import activation_record, parse_activations
from gamma.errors import FormatError, UsageError
from gamma.frozen import Frozen
from gamma.network.graph import Builder, Network, Source
from gamma.ops.base import Input
from gamma.ops.convolution import Conv
from gamma.ops.linear import Gemm
from gamma.ops.movement import Reshape

Array = npt.NDArray[Any]
PerLayer = int | Sequence[int] | Mapping[str, int | Sequence[int]]

NORMALISATION = ("running_mean", "running_var", "num_batches_tracked")


class Layer(Frozen):
    """Weight and bias under one prefix; a 2-axis weight is dense, 3 or 4 axes a convolution."""

    prefix: str
    weight: Array
    bias: Array | None

    @property
    def dense(self) -> bool:
        return self.weight.ndim == 2

    @property
    def outputs(self) -> int:
        return int(self.weight.shape[0])


def build(
    tensors: Mapping[str, Array],
    path: str | Path | None = None,
    *,
    activation: str | Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
    strides: PerLayer | None = None,
    pads: PerLayer | None = None,
    order: Sequence[str] | None = None,
    source: Source | None = None,
) -> Network:
    """The sequential network of these weights.

    Args:
        tensors: ``prefix.weight`` (outputs, inputs) or (outputs, inputs / groups, *kernel), and
            ``prefix.bias`` (outputs,); nothing else.
        activation: applied after every layer but the last (``"relu"``), or one per layer
            (``"relu,tanh"`` or a list; as many as layers: also after the last).
        input_shape: without the batch axis; needed for convolutions.
        strides, pads: of the convolutions: one number, one per axis, or a mapping prefix -> those.
        order: prefixes in the order of application, where the names leave a choice.

    Raises:
        UsageError: an option is missing; the message says what was understood and what to give.
        FormatError: a tensor that has no place, shapes that do not chain.
    """
    layers = _layers(tensors, path)
    ordered = _ordered(layers, order, path)
    shape = _input_shape(ordered, input_shape, path)
    geometry = _geometry(ordered, strides, pads, path)
    understood = [_describe(layer) for layer in ordered]
    if activation is None:
        raise UsageError(
            f"{path or 'state_dict'}: understood {len(ordered)} layers in this order: "
            f"{'; '.join(understood)}. The activation between them is not in the file: give "
            'activation="relu"'
        )
    activations = parse_activations(activation, len(ordered))
    builder, position = _chain(ordered, activations, geometry, shape, path)
    return builder.build(position, source, _notes(builder, shape, input_shape is None))


def _layers(tensors: Mapping[str, Array], path: str | Path | None) -> list[Layer]:
    names = set(tensors)
    layers = []
    for name in sorted(names):
        prefix, _, last = name.rpartition(".")
        if last in NORMALISATION:
            raise FormatError.at(
                path,
                name,
                "batch normalisation: its epsilon and place are not in the file; fold it into the "
                "weights, export to ONNX, or write the graph with gamma.save",
            )
        if last not in ("weight", "bias") or (last == "bias" and f"{prefix}.weight" not in names):
            raise FormatError.at(
                path, name, "no layer uses this tensor, expected only NAME.weight and NAME.bias"
            )
        if last == "weight":
            layers.append(Layer(prefix, tensors[name], _bias(tensors, f"{prefix}.bias")))
            _check_layer(layers[-1], path)
    if not layers:
        raise FormatError.at(path, "", "holds no NAME.weight, so no layer")
    return layers


def _bias(tensors: Mapping[str, Array], name: str) -> Array | None:
    return tensors[name] if name in tensors else None


def _check_layer(layer: Layer, path: str | Path | None) -> None:
    weight, bias = layer.weight, layer.bias
    name = f"{layer.prefix}.weight"
    if weight.dtype.kind != "f":
        raise FormatError.at(path, name, f"holds {weight.dtype}, expected floating-point weights")
    if weight.ndim not in (2, 3, 4):
        raise FormatError.at(
            path,
            name,
            f"shape {list(weight.shape)} is neither a dense layer (2 axes) nor a convolution "
            "(3 or 4); normalisation and PReLU cannot be told from weights: export to ONNX",
        )
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype.kind != "f"):
        raise FormatError.at(
            path,
            f"{layer.prefix}.bias",
            f"shape {list(bias.shape)} of {bias.dtype}, expected {list(weight.shape[:1])} floats",
        )


def _natural(prefix: str) -> list[tuple[int, int, str]]:
    """Sort key that orders ``layer10`` after ``layer9``."""
    parts = re.findall(r"\d+|\D+", prefix)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def _ordered(
    layers: list[Layer], order: Sequence[str] | None, path: str | Path | None
) -> list[Layer]:
    """Layers in the order of application: as asked, or by the numbers in their names."""
    by_prefix = {layer.prefix: layer for layer in layers}
    if order is not None:
        if sorted(order) != sorted(by_prefix):
            raise UsageError(
                f"order names {list(order)}, the file has the layers {sorted(by_prefix)}"
            )
        return [by_prefix[prefix] for prefix in order]
    ordered = sorted(layers, key=lambda layer: _natural(layer.prefix))
    families: dict[str, list[Layer]] = {}
    for layer in ordered:
        families.setdefault(re.sub(r"\d+", "#", layer.prefix), []).append(layer)
    if len(families) == 1:
        return ordered
    # Several families of names (conv1, fc1): their order is in no number. It is taken only when
    # no other order fits the shapes.
    if len(families) > 5:
        raise UsageError(_ask_order(path, "their names have no common numbering", ordered))
    fitting = [chain for chain in _candidates(list(families.values())) if _chains(chain)]
    if len(fitting) != 1:
        reason = "more than one order fits" if fitting else "no order of the names fits"
        raise UsageError(_ask_order(path, reason, ordered))
    return fitting[0]


def _candidates(families: list[list[Layer]]) -> list[list[Layer]]:
    """Each order of the families: one after the other, and interleaved by number (a1, b1, a2)."""
    orders: dict[tuple[str, ...], list[Layer]] = {}
    for permutation in itertools.permutations(families):
        chain = [layer for family in permutation for layer in family]
        by_number = sorted(
            chain, key=lambda layer: [int(n) for n in re.findall(r"\d+", layer.prefix)]
        )
        for candidate in (chain, by_number):
            orders[tuple(layer.prefix for layer in candidate)] = candidate
    return list(orders.values())


def _ask_order(path: str | Path | None, reason: str, layers: list[Layer]) -> str:
    names = ", ".join(_describe(layer) for layer in layers)
    return (
        f"{path or 'state_dict'}: the order of the layers is not clear ({reason}): {names}; "
        f'give order=["{layers[0].prefix}", ...]'
    )


def _chains(layers: list[Layer]) -> bool:
    """Whether each layer can take what the one before gives, as far as weights tell."""
    for before, layer in itertools.pairwise(layers):
        inputs = int(layer.weight.shape[1])
        if layer.dense and before.dense and inputs != before.outputs:
            return False
        if layer.dense and not before.dense and inputs % before.outputs:
            return False
        if not layer.dense and (before.dense or before.outputs % inputs):
            return False
    return True


def _describe(layer: Layer) -> str:
    bias = "" if layer.bias is not None else ", no bias"
    kind = "Gemm" if layer.dense else "Conv"
    *kernel, inputs, outputs = (*layer.weight.shape[2:], layer.weight.shape[1], layer.outputs)
    window = " x ".join(map(str, kernel)) + " " if kernel else ""
    return f"{layer.prefix}: {kind} {window}{inputs} -> {outputs}{bias}"


def _input_shape(
    layers: list[Layer], given: Sequence[int] | None, path: str | Path | None
) -> tuple[int, ...]:
    first = layers[0]
    if given is None:
        if first.dense:
            return (int(first.weight.shape[1]),)
        raise UsageError(
            f"{path or 'state_dict'}: the first layer is {_describe(first)}; the image's size is "
            "not in the file: give input_shape=(channels, height, width)"
        )
    shape = tuple(int(v) for v in given)
    if any(v < 1 for v in shape) or math.prod(shape) > 1 << 28:
        raise UsageError(f"input_shape {shape}: expected positive sizes, without the batch axis")
    return shape


def _geometry(
    layers: list[Layer], strides: PerLayer | None, pads: PerLayer | None, path: str | Path | None
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Strides and pads (begin..., end...) of every convolution by prefix."""
    result = {}
    convolutions = [layer for layer in layers if not layer.dense]
    known = {layer.prefix for layer in convolutions}
    for name, option in (("strides", strides), ("pads", pads)):
        if isinstance(option, Mapping) and set(option) - known:
            raise UsageError(f"{name} names {sorted(set(option) - known)}: not a convolution")
        if option is not None and not convolutions:
            raise UsageError(f"{name} given, but the file has no convolution")
    for layer in convolutions:
        axes = layer.weight.ndim - 2
        stride = _per_axis("strides", strides, layer, axes, 1, path)
        pad = _per_axis("pads", pads, layer, axes, 0, path)
        result[layer.prefix] = (stride[:axes], pad)
    return result


def _per_axis(
    name: str, option: PerLayer | None, layer: Layer, axes: int, least: int, path: object
) -> tuple[int, ...]:
    value = option.get(layer.prefix) if isinstance(option, Mapping) else option
    if value is None:
        raise UsageError(
            f"{path or 'state_dict'}: {_describe(layer)}: {name} are not in the file: give "
            f'{name}={least} for every convolution or {name}={{"{layer.prefix}": {least}, ...}} '
            "(in Python; gamma.save then writes a file that says it itself)"
        )
    values = (int(value),) * axes if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) == axes and name == "pads":
        values = values * 2  # the same before and after
    wanted = 2 * axes if name == "pads" else axes
    if len(values) != wanted or any(v < least for v in values):
        raise UsageError(f"{name} of {layer.prefix} is {value}: expected {axes} numbers >= {least}")
    return values


def _chain(
    layers: list[Layer],
    activations: list[str],
    geometry: dict[str, tuple[tuple[int, ...], tuple[int, ...]]],
    shape: tuple[int, ...],
    path: str | Path | None,
) -> tuple[Builder, int]:
    builder = Builder(Input(), shape)
    position = 0
    for layer, activation in zip(layers, activations, strict=True):
        current = builder.nodes[position].shape
        if layer.dense:
            if len(current) > 1:
                flat = (math.prod(current),)
                position = builder.add(Reshape(flat), position, name=f"flatten_{position + 1}")
            _require(layer, math.prod(current) == layer.weight.shape[1], current, path)
            position = builder.add(Gemm(layer.weight, layer.bias), position, name=layer.prefix)
        else:
            position = _convolve(builder, layer, geometry[layer.prefix], position, path)
        record = activation_record(activation)
        if record is not None:
            position = builder.add(record, position, name=f"{layer.prefix}.{activation}")
    return builder, position


def _convolve(
    builder: Builder,
    layer: Layer,
    geometry: tuple[tuple[int, ...], tuple[int, ...]],
    position: int,
    path: str | Path | None,
) -> int:
    current = builder.nodes[position].shape
    axes, inputs = layer.weight.ndim - 2, int(layer.weight.shape[1])
    fits = len(current) == axes + 1 and current[0] % inputs == 0
    _require(layer, fits, current, path)
    group = current[0] // inputs
    _require(layer, layer.outputs % group == 0, current, path)
    strides, pads = geometry
    op = Conv(layer.weight, layer.bias, strides, pads, (1,) * axes, group)
    try:
        return builder.add(op, position, name=layer.prefix)
    except UsageError as error:
        raise FormatError.at(path, f"{layer.prefix}.weight", str(error)) from None


def _require(layer: Layer, fits: bool, current: tuple[int, ...], path: str | Path | None) -> None:
    if not fits:
        raise FormatError.at(
            path,
            f"{layer.prefix}.weight",
            f"shape {list(layer.weight.shape)} does not take {list(current)}, which the layer "
            "before it gives; check input_shape, strides, pads and the order, or export to ONNX",
        )


def _notes(builder: Builder, shape: tuple[int, ...], derived: bool) -> list[str]:
    origin = "from the first weight" if derived else "as given"
    notes = [f"plain state_dict: input shape {shape} {origin}; layers in this order:"]
    for node in builder.nodes[1:]:
        detail = ""
        if node.op.name == "Conv":
            op: Any = node.op
            detail = f", strides {op.strides}, pads {op.pads}, group {op.group}, no dilation"
        notes.append(f"{node.name}: {node.op.name} -> {node.shape}{detail}")
    if builder.nodes[-1].op.name in ("Gemm", "Conv"):
        notes.append("no activation after the last layer")
    return notes
