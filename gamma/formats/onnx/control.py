"""If and Loop whose course is known before any input is: the graph inside is read as if it stood
around, for a Loop once for each turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gamma.formats.onnx.arguments import Inputs, constant, need, number, optional
from gamma.formats.onnx.functions import fresh
from gamma.formats.onnx.movement import joined
from gamma.formats.onnx.read import Call, Subgraph
from gamma.formats.onnx.steps import translate
from gamma.formats.onnx.translation import Translation
from gamma.formats.onnx.values import Constant, Value

_TURNS = 1 << 12
# A call inside, in entries (`Translation.charge`): loops in loops end.
_COST = 1 << 10


def if_(t: Translation, call: Call, inputs: Inputs) -> tuple[Value, ...]:
    """The branch that a constant condition chooses, alone."""
    taken = _truth(t, call, need(t, call, inputs, 0))
    return _run(t, call, _graph(t, call, "then_branch" if taken else "else_branch"), (), call.name)


def loop(t: Translation, call: Call, inputs: Inputs) -> tuple[Value, ...]:
    """As many turns as its count and its conditions, all constant, say."""
    own = list(inputs[: len(call.inputs) - len(call.captured)])
    body, values = _graph(t, call, "body"), [need(t, call, own, k) for k in range(2, len(own))]
    most = _TURNS + 1.0
    if (count := optional(own, 0)) is not None:
        most = number(t, call, count, "the number of turns")
    start = optional(own, 1)
    going = start is None or _truth(t, call, start)
    series: list[list[Value]] = [[] for _ in body.outputs[1 + len(values) :]]
    turn = 0
    while going and turn < most:
        if turn >= _TURNS:
            raise t.fail(call, f"takes more than {_TURNS} turns: export it without the loop")
        given = (Constant(np.array(turn, np.int64)), Constant(np.array(going)), *values)
        test, *made = _run(t, call, body, given, f"{call.name}/{turn}")
        going = _truth(t, call, test)
        values = list(made[: len(values)])
        for entries, value in zip(series, made[len(values) :], strict=True):
            entries.append(t.reshape(call, value, (1, *value.dims)))
        turn += 1
    if series and not turn:
        raise t.fail(call, "takes no turn and gathers values")
    return (*values, *(joined(t, call, entries, 0) for entries in series))


def _truth(t: Translation, call: Call, value: Value) -> bool:
    array = constant(t, call, value, "the condition").array
    if array.size != 1 or array.dtype.kind != "b":
        raise t.malformed(call, f"a condition of {array.dtype}, shape {list(array.shape)}")
    return bool(array.reshape(-1)[0])


def _graph(t: Translation, call: Call, name: str) -> Subgraph:
    found = call.attributes.get(name)
    if not isinstance(found, Subgraph):
        raise t.malformed(call, f"has no graph {name}")
    return found


def _run(
    t: Translation, call: Call, graph: Subgraph, given: Sequence[Value], prefix: str
) -> tuple[Value, ...]:
    """The values that a graph makes; what it names inside is named behind ``prefix``."""
    if len(given) != len(graph.inputs) or len(graph.outputs) < len(call.outputs):
        raise t.malformed(call, f"its graph takes {len(graph.inputs)} values, found {len(given)}")
    inner = (*graph.inputs, *graph.constants, *(n for c in graph.calls for n in c.outputs))
    names = {name: fresh(f"{prefix}/{name}", t.taken) for name in inner if name}
    t.values.update((names[name], value) for name, value in zip(graph.inputs, given, strict=True))
    t.values.update((names[name], Constant(array)) for name, array in graph.constants.items())
    for part in graph.calls:
        t.charge(call, (_COST,), kept=False)
        translate(t, part.renamed(names, f"{prefix}/"), None)
    found = []
    for name in graph.outputs:
        value = t.values.get(names.get(name, name))
        if value is None:
            raise t.fail(call, f"its graph's {name!r} is a value that gamma does not compute")
        found.append(value)
    return tuple(found)
