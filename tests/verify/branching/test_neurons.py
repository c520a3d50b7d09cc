"""Bounds of hidden neurons by ReLU splitting against their exact ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gamma.network.graph import Network
from gamma.network.property import LinearConstraint, Property, Region
from gamma.propagate.alpha import alpha_walk
from gamma.propagate.options import options_of
from gamma.runtime import workers
from gamma.tensor.box import Box
from gamma.verification.branching import neurons
from gamma.verification.branching import trees as module
from gamma.verification.branching.neurons import (
    NeuronBranching,
    NeuronWalk,
    Plan,
    planned,
    split_walk,
)
from tests.exact.cells import F, cells, least
from tests.verify.branching.drawn import network, region
from tests.verify.branching.test_relus import tree
from tests.verify.known import dense, verify


def layers(net: Network) -> list[tuple[list[list[float]], list[float]]]:
    found: list[Any] = [net.nodes[i].op for i in range(1, net.output + 1, 2)]
    return [(op.weight.tolist(), op.bias.tolist()) for op in found]


def hidden(rng: np.random.Generator, *sizes: int) -> Network:
    drawn = [
        ((rng.integers(-9, 10, (m, n)) / 7).tolist(), (rng.integers(-3, 4, m) / 7).tolist())
        for n, m in zip(sizes, sizes[1:], strict=False)
    ]
    return dense(*drawn)


def every_neuron(net: Network, splits: int) -> Plan:
    sources = range(3, net.output, 2)
    return Plan(splits, {i: np.ones(net.nodes[i].size, bool) for i in sources})


@pytest.mark.parametrize(("guarantee", "dtype"), [("real", "float32"), ("float32", "float64")])
def test_bounds_enclose_what_neurons_reach(guarantee: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    tighter = seen = 0
    for number in range(6):
        net = network(rng) if number % 3 == 0 else hidden(rng, 2, 5, 4, 3, 1)
        low, high = region(rng)
        box = Box(np.array([low], float), np.array([high], float))
        made = alpha_walk(net, box, options_of(net, "alpha", guarantee, dtype, None))
        for splits in (1, 6):
            walk = split_walk(made, every_neuron(net, splits))
            for index in range(3, net.output, 2):
                known, before = walk.bounds[index], made.bounds[index]
                found = cells(dense(*layers(net)[: (index + 1) // 2]), low, high)
                for j in range(net.nodes[index].size):
                    bottom = least(found, LinearConstraint(((j, F(1)),), (), F(0)))
                    top = -least(found, LinearConstraint(((j, F(-1)),), (), F(0)))
                    ends = float(known.lower[0, j]), float(known.upper[0, j])
                    assert F(ends[0]) <= bottom and top <= F(ends[1])
                    seen += 1
                    tighter += ends[0] > before.lower[0, j] + 1e-6
    assert seen > 25 and tighter > 5


def test_neurons_decide_what_was_open() -> None:
    """The root's bound over split neurons lies between the one without and the least value."""
    rng = np.random.default_rng(8)
    net = hidden(rng, 2, 5, 4, 4, 1)
    low, high = (F(-1), F(-1)), (F(1), F(1))
    value = LinearConstraint(((0, F(1)),), (), F(0))
    truth = least(cells(net, low, high), value)
    asked = LinearConstraint(value.y, (), truth - F(1, 8))
    prop = Property((Region(low, high, ((asked,),)),), 2, 1)
    made = tree(net, prop)
    assert made is not None
    made.round(lambda: None)
    assert not made.done
    plan = planned(made, 0.02)
    assert plan is not None and 3 in plan.chosen and 1 not in plan.chosen
    walk: Any = made.walk.made
    assert (split_walk(walk, plan).bounds[net.output].lower >= walk.bounds[net.output].lower).all()
    assert verify(net, prop, method="auto", branch="relu").verdict == "verified"


def test_the_costliest_neurons_where_not_all_fit() -> None:
    rng = np.random.default_rng(1)
    net = hidden(rng, 2, 6, 6, 6, 1)
    open_one = LinearConstraint(((0, F(1)),), (), F(100))
    prop = Property((Region((F(-1), F(-1)), (F(1), F(1)), ((open_one,),)),), 2, 1)
    made = tree(net, prop)
    assert made is not None
    made.round(lambda: None)
    everything = planned(made, 1e3)
    assert everything is not None
    one = everything.splits * 1e-9
    found = next(p for p in (planned(made, one * 2.0**k) for k in range(60)) if p is not None)
    assert 0 < found.count < everything.count
    costly = np.flatnonzero(made.worth > 0)
    assert len(costly) and made.worth[costly].max() in made.worth[made.walk.layer > 0]


def test_the_same_bounds_for_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    net = hidden(np.random.default_rng(4), 2, 6, 6, 1)
    box = Box(np.full((1, 2), -1.0), np.full((1, 2), 1.0))
    made = alpha_walk(net, box, options_of(net, "alpha", "real", "float32", None))
    found: list[NeuronWalk] = []
    for threads in (1, 2):
        with workers.limited(threads):
            found.append(split_walk(made, every_neuron(net, 5)))
    assert found[0].bounded == found[1].bounded > 10
    for a, b in zip(found[0].bounds, found[1].bounds, strict=True):
        np.testing.assert_array_equal(a.lower, b.lower)
        np.testing.assert_array_equal(a.upper, b.upper)


def test_what_is_split_holds_the_least_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a case without a ReLU to split is the worst, more splits of its tree tell nothing."""
    monkeypatch.setattr(neurons, "CHUNK", 1)
    take, seen = NeuronBranching.take, [0, 0]

    def watched(tree: NeuronBranching) -> Any:
        least, _ = tree.found()
        items = take(tree)
        assert (items["bound"] == least[items["clause"]]).all()
        seen[0] += len(items["bound"])
        seen[1] += len(tree.stuck)
        return items

    monkeypatch.setattr(NeuronBranching, "take", watched)
    net = hidden(np.random.default_rng(4), 2, 5, 4, 1)
    box = Box(np.full((1, 2), -1.0), np.full((1, 2), 1.0))
    made = alpha_walk(net, box, options_of(net, "alpha", "real", "float32", None))
    split_walk(made, every_neuron(net, 64))
    assert min(seen) > 20
