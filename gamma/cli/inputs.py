"""From arguments to a network and the set of inputs it is asked about."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.formats.npy import read_npy
from gamma.network.graph import Network
from gamma.network.property import Ball, Property, Region
from gamma.verification.choices import limit_of


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


def time_left(args: argparse.Namespace, start: float) -> float | None:
    """Of the time limit, from ``start`` on: reading the files counts.

    What is left is at least a token, so that a verdict comes back.
    """
    limit = limit_of(args.timeout, args.method)
    return None if limit is None else max(limit - (time.perf_counter() - start), 1e-3)


@dataclass(frozen=True)
class Asked:
    """A network and the set of its inputs, with what is asked of it.

    Attributes:
        prompt: the network was made for a prompt. seconds: that reading the network took.
    """

    network: Network
    property: Property
    prompt: bool
    seconds: float


def network_and_question(args: argparse.Namespace) -> Asked:
    """Read MODEL and the input set; a language model's network belongs to its prompt's length."""
    from gamma.cli import prompts

    start = time.perf_counter()
    model = prompts.opened(args)
    if model is not None:
        net, prop = prompts.question(args, model)
        return Asked(net, prop, True, time.perf_counter() - start)
    net = load_network(args)
    loaded = time.perf_counter() - start
    return Asked(net, read_question(args, net), False, loaded)


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
    label = getattr(args, "label", None)
    if args.box:
        low, high = (read_npy(Path(path), net.input_shape) for path in args.box)
        prop = between(low, high)
    else:
        prop = around(given_input(args, net), args.epsilon, args.norm, args.clip)
    if label is None:
        return prop
    if not label.isdecimal():
        raise UsageError(f"--label {label[:40]!r}: expected a class, a whole number from 0")
    return replace(prop, label=int(label)).resolve(outputs, net.batch_hint)


def given_input(args: argparse.Namespace, net: Network) -> npt.NDArray[Any]:
    """The input of --input."""
    if args.input == "zeros":
        return np.zeros(net.input_shape)
    return read_npy(Path(args.input), net.input_shape)


def _check_inputs(prop: Property, net: Network) -> None:
    if prop.inputs != math.prod(net.input_shape):
        raise UsageError(
            f"{prop.source}: the property declares {prop.inputs} inputs, the network takes "
            f"{math.prod(net.input_shape)}: give the property written for this network"
            f"{net.batch_hint}"
        )


def between(low: npt.NDArray[Any], high: npt.NDArray[Any]) -> Property:
    """All inputs between two arrays."""
    lower, upper = (tuple(Fraction(v) for v in end.ravel().tolist()) for end in (low, high))
    return Property((Region(lower, upper, ()),), low.size, 0)


def around(
    x: npt.NDArray[Any],
    epsilon: Fraction,
    norm: str,
    clip: tuple[Fraction, Fraction] | None,
    moves: npt.NDArray[np.bool_] | None = None,
) -> Property:
    """All inputs within exactly ``epsilon`` of ``x``, cut to ``clip``.

    Where ``moves`` is False an entry stays what it is in ``x``.
    """
    center = tuple(Fraction(v) for v in x.astype(np.float64).ravel().tolist())
    still = [False] * len(center) if moves is None else (~moves).ravel().tolist()
    reach = [Fraction(0) if fixed else epsilon for fixed in still]
    lower = [v - r for v, r in zip(center, reach, strict=True)]
    upper = [v + r for v, r in zip(center, reach, strict=True)]
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
    return Property((region,), len(center), 0, balls=balls)
