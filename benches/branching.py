"""Sub-problems that branch and bound bounds in a second, at 1 and 2 threads.

python -m benches.branching [--seconds S] [--rounds N]

Networks with the shapes of ACAS Xu (boxes of inputs), mnist_fc 256x4 and oval21's base (cases of
ReLUs), weights from a seed; the question is beyond what can be proved, so that time alone ends it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

import gamma
from gamma.network.graph import Builder, Network
from gamma.network.property import LinearConstraint, Property, Region
from gamma.ops import Conv, Gemm, Relu, Reshape
from gamma.ops.base import Input
from gamma.propagate.alpha import alpha_walk
from gamma.propagate.cases import CaseWalk
from gamma.propagate.options import options_of
from gamma.propagate.questions import question as asked_rows
from gamma.runtime import heap
from gamma.runtime.threads import limit_blas
from gamma.verification.branching.clauses import Clauses
from gamma.verification.branching.inputs import InputBranching
from gamma.verification.branching.relus import ReluBranching
from gamma.verification.branching.witness import Witnesses
from gamma.verification.targets import Targets
from gamma.verification.verdict import limited_threads

SHAPES = {
    "acasxu": ((5,), (50,) * 6, 5, 0.5, "input"),
    "mnist_fc 256x4": ((784,), (256,) * 4, 10, 0.03, "relu"),
    "oval21 base": ((3, 32, 32), ((8, 4, 2), (16, 4, 2), 100), 10, 0.02, "relu"),
}
"""Input shape, layers (channels, kernel and stride of convolutions), outputs, radius, branching."""

MEMORY = 1 << 30


def network(name: str) -> Network:
    """A network of the shape, weights drawn as training starts."""
    shape, layers, outputs, _, _ = SHAPES[name]
    rng = np.random.default_rng(0)
    build, last, here = Builder(Input(), shape), 0, shape
    for layer in (*layers, outputs):
        last = build.add(Relu(), last) if last else last
        if isinstance(layer, tuple):
            channels, kernel, stride = layer
            size = (channels, here[0], kernel, kernel)
            weight = rng.normal(size=size) * np.sqrt(2 / (here[0] * kernel**2))
            op: Any = Conv(weight.astype(np.float32), None, (stride, stride), (1, 1, 1, 1))
        else:
            if len(here) > 1:
                last = build.add(Reshape((int(np.prod(here)),)), last)
                here = (int(np.prod(here)),)
            weight = rng.normal(size=(layer, here[0])) * np.sqrt(2 / here[0])
            op = Gemm(weight.astype(np.float32), np.zeros(layer, np.float32))
        here = op.shape(here)
        last = build.add(op, last)
    return build.build(last)


def question(name: str, net: Network) -> Property:
    """Is the first output ever a little below its value at the centre? It is; nobody looks."""
    shape, _, outputs, radius, _ = SHAPES[name]
    x = np.full(int(np.prod(shape)), 0.5)
    value = float(net.forward(x.reshape(shape).astype(np.float32)).ravel()[0])
    low, high = (tuple(Fraction(float(v)) for v in x + s * radius) for s in (-1, 1))
    unsafe = ((LinearConstraint(((0, Fraction(1)),), (), Fraction(value)),),)
    return Property((Region(low, high, unsafe),), x.size, outputs)


def rate(name: str, seconds: float, threads: int) -> float:
    """Sub-problems in a second of branching."""
    net = network(name)
    how: dict[str, Any] = {"branch": SHAPES[name][-1], "attack": False, "threads": threads}
    result = gamma.verify(net, question(name, net), timeout=seconds, **how)
    assert result.branched is not None and result.branched.open, (name, result.verdict)
    return result.branched.domains / result.seconds["branching"]


def rounds(name: str, count: int) -> Callable[[], int]:
    """A call of so many rounds of branching from the root: always the same sub-problems, so many as
    it returns."""
    net = network(name)
    prop = question(name, net)
    targets = Targets.of(prop)
    clauses = Clauses.of(targets, np.arange(len(targets)), 1)
    if SHAPES[name][-1] == "input":
        options = options_of(net, "crown", "real", "auto", None)

        def tree() -> InputBranching | ReluBranching:
            nobody = Witnesses(clauses, None)
            return InputBranching(net, prop.box(), clauses, options, nobody, MEMORY)

    else:
        box = prop.box().batched(net.input_shape)
        walk = alpha_walk(net, box, options_of(net, "alpha", "real", "auto", None))
        asked = clauses.specification(np.arange(1), np.zeros(1, np.int64))
        cases = CaseWalk(walk, *asked_rows(walk, asked))

        def tree() -> InputBranching | ReluBranching:
            return ReluBranching(cases, clauses, MEMORY)

    def run() -> int:
        made = tree()
        for _ in range(count):
            made.round(lambda: None)
        assert not made.done, name
        return made.bounded

    return run


def processor_rate(name: str, count: int) -> float:
    """Sub-problems in a second of one processor, so many rounds of them: whatever else is at work
    on the machine."""
    heap.own()
    with limited_threads(1), limit_blas(1):
        run = rounds(name, count)
        run()
        begin = time.process_time()
        bounded = run()
        return bounded / (time.process_time() - begin)


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=16, help="whose processor time is measured")
    options = parser.parse_args()
    print(f"{'':16}{'processor':>12}{'1 thread':>12}{'2 threads':>12}  sub-problems a second")
    for name in SHAPES:
        alone = processor_rate(name, options.rounds)
        one, two = (rate(name, options.seconds, threads) for threads in (1, 2))
        shown = "".join(f"{value:12,.0f}" for value in (alone, one, two))
        print(f"{name:16}{shown}  ({two / one:.2f} times)", flush=True)


if __name__ == "__main__":
    main()
