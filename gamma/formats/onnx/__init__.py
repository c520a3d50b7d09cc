"""ONNX networks, operator sets from 7 on, as gamma networks with static shapes and no batch axis.

``read`` and ``tensors`` turn bytes into checked records; ``table`` maps each operator to its
translator; constants are folded on the way. The ``onnx`` package only decodes the protobuf.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from gamma.errors import FormatError, GammaError, UnsupportedError, UsageError
from gamma.formats.limits import check_nodes
from gamma.formats.onnx.batch import Rows
from gamma.formats.onnx.outputs import (
    computing,
    keeps_order,
    monotone_end,
    needed,
    output_name,
)
from gamma.formats.onnx.read import Call, Declared, Model, parse_model, read_model
from gamma.formats.onnx.steps import translate
from gamma.formats.onnx.table import TRANSLATORS
from gamma.formats.onnx.translation import Translation
from gamma.formats.onnx.values import Constant, Masked, Variable, strip
from gamma.network.graph import Builder, Network, Source
from gamma.network.simplify import simplify
from gamma.ops import Input
from gamma.tensor.exactly import exact_integer

# Integers stand for the real numbers around them: bounds hold for every whole number in the box.
_INPUT_TYPES = (
    *("float32", "float64", "float16", "bfloat16", "unknown"),
    *("uint8", "int8", "uint16", "int16", "int32", "int64"),
)

__all__ = ["TRANSLATORS", "load_onnx", "network_of", "parse_model", "read_model", "survey"]


def load_onnx(
    path: str | Path,
    *,
    input_shape: Sequence[int] | None = None,
    output: str | None = None,
    ranking: bool = False,
) -> Network:
    """Read an ONNX file (also gzip-compressed).

    Args:
        path: the file; external weights must lie in its folder.
        input_shape: the input's shape as the file sees it, for files that leave axes open; with a
            first length of 1 (or without it) one row of a batch that the file fixes, where every
            row is proved to be computed alone.
        output: the name of the output, where there are several, or of any value of the graph.
        ranking: only the order of the outputs matters (which class wins): a last Softmax,
            LogSoftmax, Sigmoid or ArgMax is left out, with a note.

    Raises:
        FormatError: unreadable, damaged, contradictory or hostile.
        UnsupportedError: an operator or option that gamma cannot bound.
        UsageError: an option is missing or does not fit the file.
    """
    try:
        return network_of(read_model(Path(path)), input_shape, output, ranking)
    except GammaError as error:
        line = _one_line(str(error))
        if line == str(error):
            raise
        raise type(error)(line) from error


def _one_line(text: str) -> str:
    """Names in a file may hold anything: a message stays one readable line."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= 1500 else f"{shown[:1200]} ... {shown[-250:]}"


def network_of(
    model: Model,
    input_shape: Sequence[int] | None = None,
    output: str | None = None,
    ranking: bool = False,
) -> Network:
    """The simplified network of a parsed model."""
    target = output_name(model, output)
    ends: list[Call] = []
    while ranking and (end := monotone_end(model, target)):
        ends.append(end)
        (target,) = end.inputs
    calls = needed(model, target)
    declared = _input(model, calls, target)
    check_nodes(computing(calls, declared.name), model.path)
    dims = _input_dims(model, declared, input_shape)
    fixed = _fixed_batch(declared)
    names = [name for call in model.calls for name in call.outputs]
    t = Translation(model, Builder(Input(), strip(dims), declared.name, names))
    t.taken.update(names, model.constants, (v.name for v in model.inputs))
    for name, array in model.constants.items():
        t.values[name] = Constant(array, dtype=model.packed.get(name, ""))
    t.values[declared.name] = Variable(0, dims, declared.dtype)
    rows = Rows(t, fixed) if fixed and dims[0] == 1 else None
    for call in calls:
        translate(t, call, rows)
    result = t.values.get(target)
    if result is None and calls:
        raise UnsupportedError.at(
            model.path, target, "an output of its operator that gamma does not compute"
        )
    if isinstance(result, Masked):
        raise UnsupportedError.at(
            model.path, target, "holds minus infinity, expected finite numbers: ask for a value "
            "behind its Softmax"
        )  # fmt: skip
    if not isinstance(result, Variable):
        raise FormatError.at(
            model.path, target, "the output does not depend on the input, expected a network"
        )
    if not all(keeps_order(end, result.dims, model.opset) for end in ends):
        return network_of(model, input_shape, output)
    notes = [f"{e.op} at the end left out: the order of {target!r} decides" for e in ends]
    if rows:
        notes.append(f"the batch is fixed at {fixed} in the file: one row, each is computed alone")
    elif fixed and input_shape is None:
        notes.append(
            f"the first axis of the input is fixed at {fixed}: all of {list(dims)} is one input; "
            f"if it is a batch, give input_shape={(1, *dims[1:])} for one row"
        )
    if t.real_only:
        notes.append(f"{', '.join(sorted(t.real_only))}: only the guarantee real covers them")
    source = Source(model.path, model.sha256, "onnx")
    built = t.builder.build(result.node, source, [*notes, *_unused(model, calls, target)])
    metadata = {
        "input": declared.name,
        "input_dims": dims,
        "input_dtype": declared.dtype,
        "fixed_batch": 0 if rows else fixed,
        "output": target,
        "left_out": tuple(notes),
        "external_data": list(model.files),
        "real_only": sorted(t.real_only),
        "element_types": sorted({v.dtype for v in t.values.values() if isinstance(v, Variable)}),
    }
    return _recognised(simplify(replace(built, metadata=metadata)))


def _recognised(net: Network) -> Network:
    """With normalisations that the file spells out, products of two values, as one operator."""
    if not any(node.op.name == "Mul" for node in net.nodes):
        return net
    from gamma.ops.recognise import normalizations

    spelled = normalizations(net)
    return net if spelled is net else simplify(spelled)


def survey(path: str | Path) -> dict[str, tuple[int, bool]]:
    """Each operator of a file: how often it occurs and whether it is in the table at all.

    Raises FormatError or UnsupportedError as `load_onnx` does before translation.
    """
    counts = Counter(call.op for call in read_model(Path(path)).calls)
    return {op: (n, op in TRANSLATORS) for op, n in counts.most_common()}


def _input(model: Model, calls: list[Call], target: str) -> Declared:
    """The one input that the output asked for depends on."""
    used = {name for call in calls for name in call.inputs} | {target}
    inputs = [v for v in model.inputs if v.name in used] or list(model.inputs)
    if len(inputs) != 1:
        names = ", ".join(v.name for v in inputs[:8]) or "none"
        raise UnsupportedError.at(
            model.path,
            "inputs",
            f"found {len(inputs)} ({names}), expected one: export with one that is split inside",
        )
    (declared,) = inputs
    if declared.dtype not in _INPUT_TYPES:
        raise UnsupportedError.at(
            model.path, declared.name, f"the input is {declared.dtype}, expected numbers"
        )
    return declared


def _input_dims(model: Model, declared: Declared, wanted: Sequence[int] | None) -> tuple[int, ...]:
    """The input's shape in the file for a batch of one."""
    if wanted is not None:
        listed: object = wanted
        if isinstance(listed, str) or not isinstance(listed, Iterable):
            raise UsageError(f"{model.path}: input_shape {wanted!r}, expected lengths: (1, 28, 28)")
        given = tuple(exact_integer(n, "a length of input_shape") for n in wanted)
        if any(n < 1 for n in given) or not given:
            raise UsageError(f"{model.path}: input shape {list(given)}, expected positive lengths")
        return _given_dims(model, declared, given)
    if declared.dims is None:
        raise UsageError.at(
            model.path, declared.name, "the file states no shape: give input_shape="
        )
    dims = list(declared.dims)
    if len(dims) > 1 and not isinstance(dims[0], int):
        dims[0] = 1
    found = tuple(n for n in dims if isinstance(n, int))
    if len(found) != len(dims):
        raise UsageError.at(
            model.path,
            declared.name,
            f"the file leaves axes open in {_spelled(declared.dims)}: give input_shape=",
        )
    if not found:
        raise UnsupportedError.at(model.path, declared.name, "the input is a single number")
    return found


def _fixed_batch(declared: Declared) -> int:
    """The length of a first axis that may be a batch which the file fixes, 0 for none."""
    first = declared.dims[0] if declared.dims and len(declared.dims) > 1 else None
    return first if isinstance(first, int) and first > 1 else 0


def _given_dims(model: Model, declared: Declared, given: tuple[int, ...]) -> tuple[int, ...]:
    """The user's shape, with or without the batch axis, where it fits the file's.

    One row of a batch that the file fixes fits as well: `Rows` proves it or refuses.
    """
    if declared.dims is None:
        return given
    stated = [declared.dims]
    if _fixed_batch(declared):
        stated.append((1, *declared.dims[1:]))
    for wanted in stated:
        for dims in (given, (1, *given)):
            if len(dims) == len(wanted) and all(
                not isinstance(d, int) or d == n for d, n in zip(wanted, dims, strict=True)
            ):
                return dims
    raise UsageError.at(
        model.path, declared.name, f"input_shape {list(given)} does not fit "
        f"{_spelled(declared.dims)} in the file"
    )  # fmt: skip


def _spelled(dims: Sequence[int | str | None]) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in dims) + "]"


def _unused(model: Model, calls: list[Call], target: str) -> list[str]:
    used = {name for call in calls for name in call.inputs} | {target}
    idle = [name for name in model.constants if name not in used]
    return [f"{name}: a weight that the network does not use" for name in idle]
