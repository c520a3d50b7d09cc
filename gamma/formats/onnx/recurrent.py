"""RNN, GRU and LSTM, written out step by step: as many steps as the sequence is long.

The equations are those of the ONNX standard. Runtimes compute gates by approximations of their own,
so the guarantee about float32 executions does not cover them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gamma import ops
from gamma.formats.onnx.affine import applied, matmul, mul, total
from gamma.formats.onnx.arguments import Inputs, constant, ints, need, optional, variable
from gamma.formats.onnx.movement import joined, transposed
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Constant, Shape, Value
from gamma.frozen import Frozen

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_USUAL = {
    "RNN": ("Tanh",),
    "GRU": ("Sigmoid", "Tanh"),
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
}
_FUNCTIONS: dict[str, Callable[[], Any]] = {
    "sigmoid": ops.Sigmoid,
    "tanh": ops.Tanh,
    "relu": ops.Relu,
    "softplus": ops.Softplus,
    "elu": ops.Elu,
}


def recurrent(t: Translation, call: Call, inputs: Inputs) -> tuple[Value, ...]:
    """All hidden states, the last one, and of an LSTM the last cell state."""
    t.real_only.add(call.op)
    last = attribute(call, "layout", 0) == 1
    x: Value = variable(t, call, inputs)
    if len(x.dims) != 3:
        raise t.malformed(call, "takes sequences of vectors: three axes")
    x = transposed(t, call, x, (1, 0, 2)) if last else x
    _check(t, call, inputs, x.dims)
    directions = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    named = attribute(call, "direction", "forward")
    if named not in directions:
        raise t.malformed(call, f"direction {named!r}")
    made = [
        _Cell.of(t, call, inputs, k, directions[named], last).run(x, reverse)
        for k, reverse in enumerate(directions[named])
    ]
    # Of each direction (steps, 1, batch, hidden) and (1, batch, hidden).
    parts = [
        joined(t, call, list(each), 1 if i == 0 else 0) for i, each in enumerate(_turned(made))
    ]
    if last:
        orders = ((2, 0, 1, 3), (1, 0, 2), (1, 0, 2))
        parts = [transposed(t, call, p, order) for p, order in zip(parts, orders, strict=False)]
    return tuple(parts)


def _turned(made: list[tuple[Value, ...]]) -> Iterator[tuple[Value, ...]]:
    return zip(*made, strict=True)


def _check(t: Translation, call: Call, inputs: Inputs, dims: Shape) -> None:
    """Refuse what is not written out here."""
    if "clip" in call.attributes:
        raise t.fail(call, "clips its gates: export without clip")
    lengths = optional(inputs, 4)
    if lengths is not None and set(ints(t, call, lengths, "the lengths")) != {dims[0]}:
        raise t.fail(call, "has sequences shorter than the input: pass them at full length")
    peepholes = optional(inputs, 7)
    if peepholes is not None and constant(t, call, peepholes, "a peephole").array.any():
        raise t.fail(call, "has peepholes, which read cell states: export without them")
    if attribute(call, "input_forget", 0):
        raise t.fail(call, "couples its input and forget gates: export without input_forget")


class _Cell(Frozen):
    """One direction of one layer: its weights, turned to multiply rows, and how it begins.

    Attributes:
        inner: (input, gates·hidden); outer: (hidden, gates·hidden). bias, late: of both, or None.
        start: the hidden state (batch, hidden), and of an LSTM the cell state; None: zeros.
    """

    t: Translation
    call: Call
    inner: Constant
    outer: Constant
    bias: Constant | None
    late: Constant | None
    start: list[Value | None]
    functions: list[Any]

    @classmethod
    def of(
        cls,
        t: Translation,
        call: Call,
        inputs: Inputs,
        k: int,
        directions: tuple[bool, ...],
        last: bool,
    ) -> _Cell:
        gates, count = _GATES[call.op], len(directions)
        weights = [t.coefficients(call, need(t, call, inputs, i)) for i in (1, 2)]
        hidden = weights[1].dims[-1] if weights[1].dims else 0
        if (
            len(weights[0].dims) != 3
            or weights[0].dims[:2] != (count, gates * hidden)
            or weights[1].dims
            != (
                *(count, gates * hidden),
                hidden,
            )
        ):
            raise t.malformed(call, f"weights for {count} directions and {gates} gates")
        if attribute(call, "hidden_size", hidden) != hidden:
            raise t.malformed(call, f"hidden_size is not {hidden}, the weights' size")
        inner, outer = (w.mapped(lambda a: a[k].T) for w in weights)
        bias = optional(inputs, 3)
        early = late = None
        if bias is not None:
            both, half = t.coefficients(call, bias, "bias"), gates * hidden
            if both.dims != (count, 2 * half):
                raise t.malformed(call, f"a bias of shape {list(both.dims)}")
            early, late = (both.mapped(lambda a, s=s: a[k, s : s + half]) for s in (0, half))  # type: ignore[misc]
        start = [_state(t, call, optional(inputs, i), k, count, last) for i in (5, 6)]
        return cls(t, call, inner, outer, early, late, start, _functions(t, call, k, count))

    def run(self, x: Value, reverse: bool) -> tuple[Value, ...]:
        """States (steps, 1, batch, hidden), the last (1, batch, hidden), and the last cell's."""
        t, call = self.t, self.call
        steps, batch = x.dims[:2]
        hidden = self.outer.dims[0]
        read = matmul(t, call, [x, self.inner])
        if self.bias is not None:
            read = total(t, call, [read, self.bias], (1, 1))
        for part in self.start:
            if part is not None and part.dims != (batch, hidden):
                raise t.malformed(call, f"a first state of shape {list(part.dims)}")
        state, cell = self.start
        states: list[Value] = []
        step = {"RNN": self._rnn, "GRU": self._gru, "LSTM": self._lstm}[call.op]
        for i in range(steps)[:: -1 if reverse else 1]:
            now = t.move(call, read, read.dims[1:], lambda a, _, i=i: a[i])  # type: ignore[misc]
            state, cell = step(now, state, cell)
            states.append(t.reshape(call, state, (1, 1, batch, hidden)))
        assert state is not None
        whole = joined(t, call, states[::-1] if reverse else states, 0)
        ends = [state] if cell is None else [state, cell]
        return whole, *(t.reshape(call, end, (1, batch, hidden)) for end in ends)

    def _rnn(self, x: Value, h: Value | None, _: Value | None) -> tuple[Value, None]:
        return self._function(0, self._sum(x, self._carried(h))), None

    def _gru(self, x: Value, h: Value | None, _: Value | None) -> tuple[Value, None]:
        """z and r from both; h' = g(...), and z·h + (1 - z)·h' as h' + z·(h - h')."""
        size = self.outer.dims[0]
        late, both = slice(2 * size, None), slice(0, 2 * size)
        update, reset = (
            self._function(0, gate)
            for gate in self._split(self._sum(self._part(x, both), self._carried(h, both)), 2)
        )
        if attribute(self.call, "linear_before_reset", 0):
            inside = self._times(reset, self._carried(h, late))
        else:
            inside = self._carried(self._times(reset, h), late)
        new = self._function(1, self._sum(self._part(x, late), inside))
        if h is None:
            return self._sum(new, self._negated(self._times(update, new))), None
        moved = total(self.t, self.call, [h, new], (1, -1))
        return self._sum(new, self._times(update, moved)), None

    def _lstm(self, x: Value, h: Value | None, c: Value | None) -> tuple[Value, Value]:
        entered, shown, kept, new = self._split(self._sum(x, self._carried(h)), 4)
        cell = self._times(self._function(0, entered), self._function(1, new))
        assert cell is not None
        if c is not None:
            cell = self._sum(cell, self._times(self._function(0, kept), c))
        return self._product(self._function(0, shown), self._function(2, cell)), cell

    # --- small parts: None stands for zeros ---------------------------------------------------

    def _carried(self, h: Value | None, part: slice = slice(None)) -> Value | None:
        """What the last state adds to these gates, its bias included."""
        bias = None if self.late is None else self.late.mapped(lambda a: a[part])
        if h is None:
            return bias
        made = matmul(self.t, self.call, [h, self.outer.mapped(lambda a: a[:, part])])
        return self._sum(made, bias)

    def _sum(self, a: Value, b: Value | None) -> Value:
        return a if b is None else total(self.t, self.call, [a, b], (1, 1))

    def _product(self, a: Value, b: Value) -> Value:
        return mul(self.t, self.call, [a, b])

    def _times(self, a: Value, b: Value | None) -> Value | None:
        return None if b is None else self._product(a, b)

    def _negated(self, a: Value | None) -> Value:
        assert a is not None
        return self._product(a, Constant(np.array(-1, np.float32)))

    def _part(self, x: Value, part: slice) -> Value:
        size = len(range(x.dims[-1])[part])
        return self.t.move(self.call, x, (*x.dims[:-1], size), lambda a, _: a[..., part])

    def _split(self, x: Value, count: int) -> list[Value]:
        size = x.dims[-1] // count
        return [self._part(x, slice(i * size, (i + 1) * size)) for i in range(count)]

    def _function(self, which: int, x: Value) -> Value:
        return applied(self.t, self.call, self.functions[which](), x)


def _state(
    t: Translation, call: Call, given: Value | None, k: int, count: int, last: bool
) -> Value | None:
    """A first state (batch, hidden) of direction ``k``; None where it is zero."""
    if given is None:
        return None
    if len(given.dims) != 3 or given.dims[last] != count:
        raise t.malformed(call, f"a first state of shape {list(given.dims)}")
    if isinstance(given, Constant) and not given.array.any() and given.certain:
        return None
    moved = transposed(t, call, given, (1, 0, 2)) if last else given
    return t.move(call, moved, moved.dims[1:], lambda a, _: a[k])


def _functions(t: Translation, call: Call, k: int, count: int) -> list[Any]:
    usual = _USUAL[call.op]
    named = attribute(call, "activations", ("",))
    if named == ("",):
        named = usual * count
    if {"activation_alpha", "activation_beta"} & set(call.attributes):
        raise t.fail(call, "has activations with parameters of their own")
    if len(named) != len(usual) * count:
        raise t.malformed(call, f"names {len(named)} activations, expected {len(usual) * count}")
    chosen = [name.lower() for name in named[k * len(usual) : (k + 1) * len(usual)]]
    for name in chosen:
        if name not in _FUNCTIONS:
            raise t.fail(call, f"activation {name!r}; gamma has {', '.join(_FUNCTIONS)}")
    return [_FUNCTIONS[name] for name in chosen]
