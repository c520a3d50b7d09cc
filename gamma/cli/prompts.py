"""Questions about a language or speech model: its prompt, and the set of inputs around it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.cli.sets import around, between
from gamma.errors import UsageError
from gamma.formats.detect import is_model
from gamma.network.graph import Network
from gamma.network.property import LinearConstraint, Property, Region

if TYPE_CHECKING:
    from gamma.architectures.model import Model

Float64 = npt.NDArray[np.float64]
ONLY_MODELS = ("ids", "text", "from_word", "to_word", "block", "config")
"""Options that no other network takes."""
MANY = 2048
"""Tokens up to which every one has a margin of its own."""
NOT_MODELS = ("activation", "input_shape", "gzip_ratio")


def asked(args: argparse.Namespace) -> bool:
    """Whether MODEL is a model, whose inputs are prompts."""
    return is_model(args.model, args.config, plain=args.activation is not None)


def opened(args: argparse.Namespace) -> Model | None:
    """The model that MODEL is, None for another network. UsageError for options that do not fit."""
    if not asked(args):
        names = ONLY_MODELS if args.command == "bounds" else (*ONLY_MODELS, "positions")
        given = [n for n in names if getattr(args, n, None) is not None]
        if given:
            raise UsageError(
                f"{args.model}: {_option(given[0])} belongs to language and speech models (GGUF "
                "files, folders with config.json); weights alone need --config CONFIG.json"
            )
        return None
    given = [n for n in NOT_MODELS if getattr(args, n, None) is not None]
    if given:
        raise UsageError(f"{args.model}: the model says this itself, leave {_option(given[0])} out")
    from gamma.formats.model import open_model

    model = open_model(args.model, args.config)
    if model.source is not None and getattr(args, "threads", None) != 1:
        model.source.begin()
    return model


def _option(name: str) -> str:
    plain = {"from_word": "from", "to_word": "to"}.get(name, name)
    return "--" + plain.replace("_", "-")


def question(args: argparse.Namespace, model: Model) -> tuple[Network, Property]:
    """The network for the prompt's positions, and the set of its inputs with what is asked."""
    if args.to_word is not None:
        return _segment(args, model)
    if args.property:
        raise UsageError(
            f"{model.path}: properties are of networks with a fixed input; give a prompt"
        )
    if args.box:
        net, prop = _box(args, model)
    else:
        x = centre(args, model)
        net = _network(args, model, _length(args, model, x))
        if args.positions is not None and spectrograms(args, model):
            raise UsageError("--positions: a spectrogram has frames; perturb all of it")
        prop = around(x, args.epsilon, args.norm, args.clip, moved(args, x))
    return _asked(args, model, net, prop)


def _network(args: argparse.Namespace, model: Model, positions: int) -> Network:
    return model.network(positions, block=args.block, output=args.output_name)


def _length(args: argparse.Namespace, model: Model, x: Float64) -> int:
    """Positions of an input of this shape."""
    return x.shape[1] // 2 if spectrograms(args, model) else len(x)


def spectrograms(args: argparse.Namespace, model: Model) -> bool:
    """Whether the set is one of spectrograms."""
    return not model.architecture.text and args.block is None


def centre(args: argparse.Namespace, model: Model) -> Float64:
    """The prompt's embeddings, or its state before the block that was asked for; or an array."""
    if args.ids is None and args.text is None:
        return _array(args, model, args.input)
    x = model.embed(_ids(args, model))
    if args.block is not None:
        x = model.states(x, args.block)
    return x.astype(np.float64)


def _ids(args: argparse.Namespace, model: Model) -> list[int]:
    if args.ids is not None:
        return list(args.ids)
    from gamma.formats.model import encode

    return encode(model, args.text)


def _array(args: argparse.Namespace, model: Model, path: str) -> Float64:
    """Embeddings, a state or a spectrogram from a file; zeros where that is asked for by name."""
    shape = model.input_shape(1, args.block)
    free = 1 if not model.architecture.text and args.block is None else 0
    if path == "zeros":
        return np.zeros(tuple(2 if a == free and free else n for a, n in enumerate(shape)))
    from gamma.formats.npy import read_any

    x = read_any(Path(path))
    x = x[0] if x.ndim == 3 and len(x) == 1 else x
    fixed = 1 - free
    if x.ndim != 2 or x.shape[fixed] != shape[fixed] or (free and x.shape[1] % 2):
        wanted = f"({shape[0]}, frames), an even number" if free else f"(positions, {shape[1]})"
        raise UsageError(f"{path}: array of shape {x.shape}, the model takes {wanted}")
    return x


def moved(args: argparse.Namespace, x: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    """Which entries of embeddings or a state are perturbed; None for all."""
    if args.positions is None:
        return None
    mask = np.zeros(x.shape, bool)
    for position in args.positions:
        if not -len(x) <= position < len(x):
            raise UsageError(f"--positions {position}: the prompt has positions 0 to {len(x) - 1}")
        mask[position] = True
    return mask


def _box(args: argparse.Namespace, model: Model) -> tuple[Network, Property]:
    low, high = (_array(args, model, path) for path in args.box)
    if low.shape != high.shape:
        raise UsageError(f"--box: arrays of shapes {low.shape} and {high.shape}, expected equal")
    return _network(args, model, _length(args, model, low)), between(low, high)


def _segment(args: argparse.Namespace, model: Model) -> tuple[Network, Property]:
    """The prompt in which one token moves along the line to another."""
    ids = _ids(args, model)
    start = ids if args.from_word is None else _replaced(args, model, ids, args.from_word)
    end = _replaced(args, model, ids, args.to_word)
    net = model.segment(model.embed(start), model.embed(end), output=args.output_name)
    prop = Property((Region((Fraction(0),), (Fraction(1),), ()),), 1, 0)
    return _asked(args, model, net, prop)


def _replaced(args: argparse.Namespace, model: Model, ids: Sequence[int], word: str) -> list[int]:
    """``ids`` with the token ``word`` at the one position that moves."""
    position = _place(args, model, ids)
    return [*ids[:position], token(model, word), *ids[position + 1 :]]


def _place(args: argparse.Namespace, model: Model, ids: Sequence[int]) -> int:
    """The position that moves: as asked, or where the prompt has the word of --from."""
    if args.positions is not None:
        if len(args.positions) != 1 or not -len(ids) <= args.positions[0] < len(ids):
            raise UsageError(f"--positions: --to moves one of the positions 0 to {len(ids) - 1}")
        return int(args.positions[0]) % len(ids)
    found = (
        [p for p, i in enumerate(ids) if i == token(model, args.from_word)]
        if args.from_word
        else []
    )
    if len(found) != 1:
        raise UsageError(
            f"--to: the prompt has the token of --from {len(found)} times; say which position "
            "moves with --positions"
        )
    return found[0]


def token(model: Model, word: str | int) -> int:
    """The id of one token: a number, or text that is exactly one token."""
    if isinstance(word, int) or word.isdecimal():
        number = int(word)
        if number >= max(model.vocabulary, 1):
            raise UsageError(
                f"{model.path}: token id {number}, the vocabulary has {model.vocabulary}"
            )
        return number
    from gamma.formats.model import encode

    ids = encode(model, word, special=False)
    if len(ids) != 1:
        raise UsageError(f"{word[:40]!r} is {len(ids)} tokens ({ids[:8]}), expected one")
    return ids[0]


def _asked(
    args: argparse.Namespace, model: Model, net: Network, prop: Property
) -> tuple[Network, Property]:
    """The network and the property of a label, or the plain set of inputs.

    Of a large vocabulary one number is asked for: the margin of the best other token.
    """
    label: Any = getattr(args, "label", None)
    if label is None:
        return net, prop
    if len(net.output_shape) != 1:
        raise UsageError(
            f"--label: the output has shape {net.output_shape}, expected scores; "
            f"{model.architecture.title} end with {', '.join(model.outputs)}"
        )
    text = isinstance(label, str) and not label.isdecimal()
    number = token(model, label) if text else int(label)
    if net.output_shape[0] <= MANY:
        return net, replace(prop, label=number).resolve(net.output_shape[0], net.batch_hint)
    wins = LinearConstraint(((0, Fraction(-1)),), (), Fraction(0))  # Y_0 >= 0: a tie is unsafe
    regions = tuple(replace(region, unsafe=((wins,),)) for region in prop.regions)
    return model.rivals(net, number), replace(prop, regions=regions, outputs=1, label=number)
