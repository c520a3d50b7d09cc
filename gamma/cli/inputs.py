"""From arguments to a network and the set of inputs it is asked about."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.cli.output import Progress
from gamma.cli.sets import Units, around, between, united
from gamma.errors import UsageError
from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.network.property import Property
from gamma.verification.choices import limit_of


def load_network(args: argparse.Namespace) -> Network:
    """Read MODEL with the reading options that were given; its notes name options."""
    from gamma.cli.options import in_options
    from gamma.formats.detect import load

    net = load(
        args.model,
        activation=args.activation,
        input_shape=args.input_shape,
        output=args.output_name,
        gzip_ratio=args.gzip_ratio,
        ranking=getattr(args, "label", None) is not None or None,
    )
    return replace(net, notes=tuple(map(in_options, net.notes))) if net.notes else net


def time_left(args: argparse.Namespace, start: float) -> float | None:
    """Of the time limit, from ``start`` on: reading the files counts.

    What is left is at least a token, so that a verdict comes back.
    """
    limit = limit_of(args.timeout, args.method)
    return None if limit is None else max(limit - (time.perf_counter() - start), 1e-3)


class Given(Frozen, eq=True):
    """Inputs from the command line, in the units that --epsilon has.

    Attributes:
        values: (inputs, *input shape) float64. several: whether they are a batch.
        labels: the class of each, None without --label and --labels.
        units: what the network takes of them.
    """

    values: npt.NDArray[np.float64]
    several: bool
    labels: tuple[int, ...] | None
    units: Units

    def question(self, args: argparse.Namespace, k: int) -> Property:
        """The set around input ``k``; with its label what must not happen there."""
        x = self.values[k]
        prop = around(x, args.epsilon, args.norm, args.clip, units=self.units)
        return prop if self.labels is None else replace(prop, label=self.labels[k])

    def centers(self) -> npt.NDArray[np.float64]:
        """The inputs as the network takes them, to float64 accuracy."""
        if not self.units:
            return self.values
        flat = self.values.reshape(len(self.values), -1)
        mean, std = (np.array([float(v) for v in end]) for end in (self.units.mean, self.units.std))
        scaled: npt.NDArray[np.float64] = (flat - mean) / std
        return scaled.reshape(self.values.shape)


class Asked(Frozen, eq=True):
    """A network and the set of its inputs, with what is asked of it.

    Attributes:
        ask: makes the property. prompt: the network was made for a prompt. given: the inputs of
            --input. seconds: that reading the network took.
    """

    network: Network
    ask: Callable[[], Property]
    prompt: bool
    given: Given | None
    seconds: float

    @cached_property
    def property(self) -> Property:
        """The question; of several inputs all their sets."""
        return self.ask()


def network_and_question(args: argparse.Namespace) -> Asked:
    """Read MODEL and the input set; a language model's network belongs to its prompt's length."""
    with Progress(f"reading {args.model}"):
        return _read(args)


def _read(args: argparse.Namespace) -> Asked:
    from gamma.cli import prompts

    start = time.perf_counter()
    model = prompts.opened(args)
    if model is not None:
        net, prop = prompts.question(args, model)
        return Asked(net, lambda: prop, True, None, time.perf_counter() - start)
    net = load_network(args)
    loaded = time.perf_counter() - start
    given = given_inputs(args, net)
    return Asked(net, partial(read_question, args, net, given), False, given, loaded)


def read_question(args: argparse.Namespace, net: Network, given: Given | None) -> Property:
    """The property file, or the sets around --input, in exact numbers.

    Without a label nothing is unsafe in them: they are sets of inputs, for bounds.
    """
    outputs = math.prod(net.output_shape)
    if args.property:
        from gamma.formats.vnnlib import read_vnnlib

        prop = read_vnnlib(args.property, args.gzip_ratio).resolve(outputs, net.batch_hint)
        _check_inputs(prop, net)
        return prop
    if given is not None:
        parts = [given.question(args, k) for k in range(len(given.values))]
        prop = united(parts) if given.several else parts[0]
        return prop if prop.label is None else prop.resolve(outputs, net.batch_hint)
    from gamma.formats.npy import read_npy

    low, high = (read_npy(Path(path), net.input_shape) for path in args.box)
    prop = between(low, high, Units.of(args.mean, args.std, net.input_shape))
    label = one_label(args)
    return prop if label is None else replace(prop, label=label).resolve(outputs, net.batch_hint)


def given_inputs(args: argparse.Namespace, net: Network) -> Given | None:
    """The inputs of --input with their labels; None without --input."""
    if args.input is None:
        return None
    several = False
    if args.input == "zeros":
        values = np.zeros((1, *net.input_shape))
    else:
        from gamma.formats.inputs import read_inputs

        values, several = read_inputs(args.input, net.input_shape)
    labels, label = None, one_label(args)
    if label is not None:
        labels = (label,) * len(values)
    elif getattr(args, "labels", None) is not None:
        from gamma.formats.inputs import read_labels

        labels = tuple(read_labels(args.labels, len(values)).tolist())
        several = True
    units = Units.of(args.mean, args.std, net.input_shape)
    return Given(values, several, labels, units)


def one_label(args: argparse.Namespace) -> int | None:
    """The class of --label."""
    label: str | None = getattr(args, "label", None)
    if label is not None and not label.isdecimal():
        raise UsageError(f"--label {label[:40]!r}: expected a class, a whole number from 0")
    return None if label is None else int(label)


def _check_inputs(prop: Property, net: Network) -> None:
    if prop.inputs != math.prod(net.input_shape):
        raise UsageError(
            f"{prop.source}: the property declares {prop.inputs} inputs, the network takes "
            f"{math.prod(net.input_shape)}: give the property written for this network"
            f"{net.batch_hint}"
        )
