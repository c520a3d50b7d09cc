"""RNN, GRU and LSTM: how files are given them, and the equations of the ONNX standard in balls.

`MAKERS` and `FUNCTIONS` belong to those of `files` and `onnx_truth`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb
from hypothesis import strategies as st

from tests.exact.oracle import Numbers, q
from tests.exact.search.spelled import Attributes, Shape, each

Gate = Callable[[Numbers], Numbers]
Cell = Callable[[Attributes, list[Gate], Numbers, "_Weights", Numbers, Numbers], Any]


def _relu(v: Any) -> Any:
    return arb(v).max(arb(0))


GATES: dict[str, Callable[[Any], Any]] = {
    "Tanh": lambda v: arb(v).tanh(),
    "Sigmoid": lambda v: 1 / (1 + (-arb(v)).exp()),
    "Relu": _relu,
    "Softplus": lambda v: arb(v).exp().log1p(),
}
USUAL = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
COUNT = {"RNN": 1, "GRU": 3, "LSTM": 4}


class _Weights:
    """One direction's: what the standard calls W, R, Wb and Rb, one row of blocks for each gate."""

    def __init__(self, count: int, w: Numbers, r: Numbers, b: Numbers | None) -> None:
        b = np.full(2 * len(w), q(0), object) if b is None else b
        self.w, self.r, self.wb, self.rb = (
            np.split(part, count) for part in (w, r, b[: len(w)], b[len(w) :])
        )

    def read(self, k: int, x: Numbers) -> Numbers:
        """X Wᵀ + Wb of gate ``k``."""
        return x @ self.w[k].T + self.wb[k]

    def carried(self, k: int, h: Numbers) -> Numbers:
        """H Rᵀ + Rb of gate ``k``."""
        return h @ self.r[k].T + self.rb[k]

    def gate(self, k: int, x: Numbers, h: Numbers) -> Numbers:
        return self.read(k, x) + self.carried(k, h)


def _rnn(a: Attributes, f: list[Gate], x: Numbers, w: _Weights, h: Numbers, c: Numbers) -> Any:
    return f[0](w.gate(0, x, h)), c


def _gru(a: Attributes, f: list[Gate], x: Numbers, w: _Weights, h: Numbers, c: Numbers) -> Any:
    z, r = f[0](w.gate(0, x, h)), f[0](w.gate(1, x, h))
    if a.get("linear_before_reset", 0):
        new = f[1](w.read(2, x) + r * w.carried(2, h))
    else:
        new = f[1](w.read(2, x) + w.carried(2, r * h))
    return (1 - z) * new + z * h, c


def _lstm(a: Attributes, f: list[Gate], x: Numbers, w: _Weights, h: Numbers, c: Numbers) -> Any:
    i, o, forget, new = (w.gate(k, x, h) for k in range(4))
    c = f[0](forget) * c + f[0](i) * f[1](new)
    return f[0](o) * f[2](c), c


CELLS: dict[str, Cell] = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}


def recurrent(kind: str) -> Callable[..., tuple[Numbers, ...]]:
    """Y, Y_h and Y_c of the operator ``kind``."""

    def run(a: Attributes, x: Numbers, w: Numbers, r: Numbers, *more: Any) -> tuple[Numbers, ...]:
        first = bool(a.get("layout", 0))
        x = x.transpose(1, 0, 2) if first else x
        b, _, h0, c0 = (*more, *(None,) * 4)[:4]
        named = [n.decode() for n in a.get("activations", ())] or list(USUAL[kind]) * len(w)
        size, found = len(USUAL[kind]), []
        for k in range(len(w)):
            gates = [lambda v, g=GATES[n]: each(g, v) for n in named[k * size : (k + 1) * size]]
            weights = _Weights(COUNT[kind], w[k], r[k], None if b is None else b[k])
            zero = np.full((x.shape[1], r.shape[2]), q(0), object)
            h, c = (zero if s is None else s[:, k] if first else s[k] for s in (h0, c0))
            back = a.get("direction", b"forward") == b"reverse" or k == 1
            states = []
            for now in x[::-1] if back else x:
                h, c = CELLS[kind](a, gates, now, weights, h, c)
                states.append(h)
            found.append((np.stack(states[::-1] if back else states), h, c))
        ys, hs, cs = (list(part) for part in zip(*found, strict=True))
        if first:
            return np.stack(ys, 2).transpose(1, 0, 2, 3), np.stack(hs, 1), np.stack(cs, 1)
        return np.stack(ys, 1), np.stack(hs), np.stack(cs)

    return run


FUNCTIONS = {kind: recurrent(kind) for kind in CELLS}


def _recurrent(s: Any, x: str, shape: Shape) -> None:
    """A layer over the last axis, step by step along the one before it."""
    if len(shape) != 3:
        x = s.add("Reshape", x, s.ints(1, -1, shape[-1]))
        shape = s.shapes[x]
    draw = s.n.draw
    kind, direction = (
        draw(st.sampled_from(values))
        for values in (tuple(CELLS), ("forward", "reverse", "bidirectional"))
    )
    ways, hidden = 1 + (direction == "bidirectional"), draw(st.integers(1, 3))
    rows = COUNT[kind] * hidden
    options: dict[str, Any] = {"direction": direction, "hidden_size": hidden}
    if kind == "GRU":
        options["linear_before_reset"] = draw(st.integers(0, 1))
    if draw(st.integers(0, 3)) == 3:
        named = draw(st.sampled_from(tuple(GATES)))
        options["activations"] = [*USUAL[kind][:-1], named] * ways
    inputs = [s.weight(ways, rows, shape[-1]), s.weight(ways, rows, hidden)]
    given = draw(st.integers(0, 2 if kind != "LSTM" else 3))
    inputs += [s.weight(ways, 2 * rows)] * (given > 0) + [""] * (given > 1)
    inputs += [s.weight(ways, 1, hidden) for _ in range(given - 1)]
    turned = s.add("Transpose", x, perm=[1, 0, 2])
    at = draw(st.integers(0, 1 if kind != "LSTM" else 2))
    made = s.add(kind, turned, *inputs, at=at, **options)
    if made != turned:
        s.add("Transpose", made, perm=[1, 0, 2] if at else [2, 0, 1, 3])


MAKERS = {"recurrent": _recurrent}
