"""From arguments to a network and the set of inputs it is asked about."""

from __future__ import annotations

import argparse
import math
import warnings
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from gamma.errors import FormatError, UsageError
from gamma.network.graph import Network
from gamma.network.property import Ball, Property, Region
from gamma.tensor.box import Box

HEADER_LIMIT = 10_000
INPUT_LIMIT = 1 << 30


@dataclass(frozen=True, eq=False)
class Question:
    """A property, or a set of inputs about which nothing has to be proved.

    ``proves`` is False without a property file and without a label.
    """

    prop: Property
    proves: bool

    def box(self) -> Box:
        """The set of inputs, rounded outward."""
        return self.prop.box()


def load_network(args: argparse.Namespace) -> Network:
    """Read MODEL with the reading options that were given."""
    from gamma.formats import load

    return load(
        args.model,
        activation=args.activation,
        input_shape=args.input_shape,
        output=args.output_name,
    )


def read_question(args: argparse.Namespace, net: Network) -> Question:
    """The property file, or the ball around --input, in exact numbers."""
    outputs = math.prod(net.output_shape)
    if args.property:
        from gamma.formats.vnnlib import read_vnnlib

        prop = read_vnnlib(args.property).resolve(outputs)
        _check_inputs(prop, net)
        return Question(prop, True)
    x = read_npy(Path(args.input))
    size = math.prod(net.input_shape)
    if x.size != size:
        raise UsageError(
            f"{args.input}: array of shape {x.shape} ({x.size} entries), the network takes "
            f"{net.input_shape} ({size} entries): give one input"
        )
    label = getattr(args, "label", None)
    prop = ball(x, args.epsilon, args.norm, args.clip, label)
    if label is None:
        return Question(prop, False)
    return Question(prop.resolve(outputs), True)


def _check_inputs(prop: Property, net: Network) -> None:
    if prop.inputs != math.prod(net.input_shape):
        raise UsageError(
            f"{prop.source}: the property declares {prop.inputs} inputs, the network takes "
            f"{math.prod(net.input_shape)}: give the property written for this network"
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


def read_npy(path: Path) -> npt.NDArray[Any]:
    """A numeric array from a .npy file: no pickles, sizes checked before memory is taken."""
    try:
        with path.open("rb") as stream:
            shape, fortran, dtype = _header(stream, path)
            expected = math.prod(shape) * dtype.itemsize
            if expected > INPUT_LIMIT:
                raise FormatError.at(path, "", f"shape {shape} is larger than {INPUT_LIMIT} bytes")
            data = stream.read(expected + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; give an array saved with numpy.save") from None
    except OSError as error:
        raise FormatError.at(path, "", f"cannot be read: {error.strerror or error}") from None
    if len(data) != expected:
        found = "more" if len(data) > expected else f"only {len(data)}"
        raise FormatError.at(path, "", f"shape {shape} needs {expected} bytes, it holds {found}")
    flat = np.frombuffer(data, dtype=dtype)
    x = flat.reshape(shape, order="F" if fortran else "C")
    return _finite(x, path)


def _header(stream: BinaryIO, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype from the head of a .npy file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers written by Python 2
            version = np.lib.format.read_magic(stream)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, fortran, dtype = read(stream, max_header_size=HEADER_LIMIT)
    except OSError:
        raise
    except Exception as error:  # NumPy lets through whatever its header parser meets
        line = " ".join(str(error).split())[:100]
        message = f"is not a .npy file ({type(error).__name__}: {line}); use numpy.save"
        raise FormatError.at(path, "", message) from None
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise FormatError.at(path, "", f"dtype {dtype}: expected real numbers up to 64 bit")
    if any(n < 0 for n in shape):
        raise FormatError.at(path, "", f"shape {shape} has a negative size")
    return shape, fortran, dtype


def _finite(x: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if x.dtype.kind in "iu" and x.size and int(abs(x.astype(object)).max()) > 2**53:
        raise FormatError.at(path, "", "integers beyond 2^53 have no exact float64")
    values = np.ascontiguousarray(x, dtype=np.float64)
    if not np.isfinite(values).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise FormatError.at(path, "", f"entry {where} is NaN or infinite, expected numbers")
    return values
