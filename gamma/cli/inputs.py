"""From arguments to a network and the set of inputs it is asked about."""

from __future__ import annotations

import argparse
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.formats.npy import read_npy
from gamma.network.graph import Network
from gamma.network.property import Ball, Property, Region


def load_network(args: argparse.Namespace) -> Network:
    """Read MODEL with the reading options that were given."""
    from gamma.formats import load

    return load(
        args.model,
        activation=args.activation,
        input_shape=args.input_shape,
        output=args.output_name,
        gzip_ratio=args.gzip_ratio,
        ranking=getattr(args, "label", None) is not None or None,
    )


def read_question(args: argparse.Namespace, net: Network) -> Property:
    """The property file, or the ball around --input, in exact numbers.

    Without a label nothing is unsafe in the ball: it is a set of inputs, for bounds.
    """
    outputs = math.prod(net.output_shape)
    if args.property:
        from gamma.formats.vnnlib import read_vnnlib

        prop = read_vnnlib(args.property, args.gzip_ratio).resolve(outputs, net.batch_hint)
        _check_inputs(prop, net)
        return prop
    x = read_npy(Path(args.input), net.input_shape)
    label = getattr(args, "label", None)
    prop = ball(x, args.epsilon, args.norm, args.clip, label)
    return prop if label is None else prop.resolve(outputs, net.batch_hint)


def _check_inputs(prop: Property, net: Network) -> None:
    if prop.inputs != math.prod(net.input_shape):
        raise UsageError(
            f"{prop.source}: the property declares {prop.inputs} inputs, the network takes "
            f"{math.prod(net.input_shape)}: give the property written for this network"
            f"{net.batch_hint}"
        )


def ball(
    x: npt.NDArray[Any],
    epsilon: Fraction,
    norm: str,
    clip: tuple[Fraction, Fraction] | None,
    label: int | None,
) -> Property:
    """All inputs within exactly ``epsilon`` of ``x``, cut to ``clip``; robust for ``label``."""
    center = tuple(Fraction(v) for v in x.astype(np.float64).ravel().tolist())
    lower = [v - epsilon for v in center]
    upper = [v + epsilon for v in center]
    if clip is not None:
        low, high = clip
        if low > high:
            raise UsageError(f"--clip {float(low):g} {float(high):g}: LO is above HI")
        lower = [max(v, low) for v in lower]
        upper = [min(v, high) for v in upper]
        for index, (a, b) in enumerate(zip(lower, upper, strict=True)):
            if a > b:
                raise UsageError(
                    f"--clip leaves nothing: entry {index} of the input is "
                    f"{float(center[index]):g}, more than epsilon outside"
                )
    balls = () if norm == "inf" else (Ball(norm, center, epsilon),)
    region = Region(tuple(lower), tuple(upper), ())
    return Property((region,), len(center), 0, label=label, balls=balls)
