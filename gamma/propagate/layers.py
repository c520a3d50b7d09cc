"""Bounds of every node, as a mapping that shows itself as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from gamma.decimals import above, below
from gamma.frames import frame
from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.propagate.api import bounds
from gamma.propagate.asked import BoundsOptions
from gamma.tensor.bounded import BoundedTensor
from gamma.tensor.box import Box


class Layer(Frozen, eq=True):
    """What the bounds of one node are like.

    Attributes:
        name, operator, shape: of the node. neurons: bounded, all boxes counted.
        least, greatest: the outermost ends. width: the mean width of the intervals.
        unstable: of a ReLU or its kin, the neurons whose input may have either sign; None for other
            operators.
    """

    name: str
    operator: str
    shape: tuple[int, ...]
    neurons: int
    least: float
    greatest: float
    width: float
    unstable: int | None


@dataclass(frozen=True, eq=False, repr=False)
class LayerBounds(Mapping[str, BoundedTensor]):
    """Node name -> bounds of its values, in the order of evaluation.

    Attributes:
        layers: a summary of each. method: how they were computed.
    """

    found: dict[str, BoundedTensor]
    layers: tuple[Layer, ...]
    method: str

    def __getitem__(self, name: str) -> BoundedTensor:
        return self.found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __repr__(self) -> str:
        """Number of nodes, method, unstable neurons and the last width, in one line."""
        open_ = sum(layer.unstable or 0 for layer in self.layers)
        return (
            f"LayerBounds({len(self)} nodes, {self.method}, {open_:,} unstable neurons, mean width "
            f"{self.layers[-1].width:.4g} at {self.layers[-1].name!r})"
        )

    def table(self) -> str:
        """The summaries as aligned text."""
        rows = [_HEAD, *(_cells(layer) for layer in self.layers)]
        sizes = [max(len(row[k]) for row in rows) for k in range(len(_HEAD))]
        return "\n".join(
            "  ".join(
                cell.ljust(size) if k < 3 else cell.rjust(size)
                for k, (cell, size) in enumerate(zip(row, sizes, strict=True))
            ).rstrip()
            for row in rows
        )

    def _repr_html_(self) -> str:
        from gamma import markup

        return markup.table(_HEAD, map(_cells, self.layers), repr(self), len(self.layers))

    def to_pandas(self) -> Any:
        """A DataFrame of ``layers`` (needs pandas)."""
        names = Layer.__struct_fields__
        return frame({name: [getattr(layer, name) for layer in self.layers] for name in names})


_HEAD = ("node", "operator", "shape", "least", "greatest", "mean width", "unstable")


def _cells(layer: Layer) -> tuple[str, ...]:
    unstable = "" if layer.unstable is None else f"{layer.unstable:,} of {layer.neurons:,}"
    shape = "×".join(map(str, layer.shape))
    ends = below(layer.least), above(layer.greatest)
    return layer.name, layer.operator, shape, *ends, f"{layer.width:.4g}", unstable


def layer_bounds(net: Network, box: Box, **options: Unpack[BoundsOptions]) -> LayerBounds:
    """Certified bounds of every value of the file that is computed; options of `gamma.bounds`.

    Each has the shape of its node, (batch, *shape) for a batch of boxes. Errors as there.
    """
    found = bounds(net, box, intermediate=True, **options)
    layers = []
    for node in net.nodes:
        if node.name not in found:
            continue
        known = found[node.name]
        unstable = None
        if getattr(node.op, "hinge", False):
            before = found.get(net.nodes[node.inputs[0]].name)
            if before is not None:
                unstable = int(((before.lower < 0) & (before.upper > 0)).sum())
        with np.errstate(all="ignore"):
            width = float(np.mean(known.width, dtype=np.float64))
        ends = float(known.lower.min()), float(known.upper.max())
        layers.append(
            Layer(node.name, node.op.name, node.shape, known.size, *ends, width, unstable)
        )
    return LayerBounds(found, tuple(layers), str(options.get("method", "crown")))
