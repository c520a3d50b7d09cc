"""The door of properties: read where they are files, and made to fit a network."""

from __future__ import annotations

import math
from pathlib import Path

from gamma.errors import PropertyError, UsageError
from gamma.network.graph import Network
from gamma.network.property import Property


def fitting(asked: Property | str | Path, net: Network) -> Property:
    """The property, read where it is a file, for a network of this shape."""
    if isinstance(asked, str | Path):
        from gamma.formats.vnnlib import read_vnnlib

        asked = read_vnnlib(asked)
    if not isinstance(asked, Property):
        raise UsageError(
            f"prop is {type(asked).__name__}, expected a Property (gamma.robustness, "
            "gamma.read_vnnlib), the path of a VNN-LIB file, or a list of them"
        )
    prop = asked.resolve(math.prod(net.output_shape), net.batch_hint)
    if prop.inputs != math.prod(net.input_shape):
        raise PropertyError.at(
            prop.source,
            "",
            f"the property declares {prop.inputs} inputs, the network has "
            f"{math.prod(net.input_shape)}: give the property written for this network"
            f"{net.batch_hint}",
        )
    return prop
