"""Leaves of finished trees cover the whole, each is excluded, and a resumed run has them all."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

import gamma
from gamma.network.graph import Network
from gamma.network.property import LinearConstraint, Property, Region
from gamma.verification.branching.leaves import together
from tests.exact.cells import cells, reachable
from tests.verify.branching.test_inputs import easy, tree, volume
from tests.verify.branching.test_relus import deep
from tests.verify.branching.test_relus import tree as case_tree

F = Fraction


def two_rows() -> tuple[Network, Property]:
    """The output is to be near a value that it comes close to: no row excludes it alone. And it
    is to be low, which another conjunction asks of the same boxes."""
    net, prop = easy()
    (region,) = prop.regions
    ((least,),) = region.unsafe
    near = (
        LinearConstraint(((0, F(1)),), (), least.bound + 2),
        LinearConstraint(((0, F(-1)),), ((0, F(1)), (1, F(2))), -least.bound - 3),
    )
    return net, Property((Region(region.lower, region.upper, ((least,), near)),), 2, 1)


def finished(made: Any, rounds: int = 1000) -> Any:
    """The tree after so many rounds, with leaves."""
    made.leaves = [] if made.leaves is None else made.leaves
    while not made.done and rounds:
        made.round(lambda: None)
        rounds -= 1
    return made


def excluded(net: Network, prop: Property, columns: dict[str, Any], target: int) -> None:
    """Every part of the target is excluded in exact arithmetic, and they fill the box."""
    mine = columns["target"] == target
    parts = {name: columns[name][mine] for name in ("lower", "upper")}
    assert volume(parts) == 4 and mine.sum() > 4
    for low, high in zip(parts["lower"], parts["upper"], strict=True):
        ends = (tuple(F(float(v)) for v in end) for end in (low, high))
        assert not reachable(cells(net, *ends), prop.regions[0].unsafe[target])
    box = {name: columns[f"box_{name}"][mine] for name in ("lower", "upper")}
    assert (box["lower"] <= parts["lower"]).all() and (parts["upper"] <= box["upper"]).all()


def test_parts_of_the_input_set_fill_it() -> None:
    net, prop = easy()
    result = gamma.verify(net, prop, branch="input", leaves=True, attack=False)
    (leaves,) = result.leaves
    assert result.verdict == "verified" and leaves.kind == "input"
    assert leaves.inputs.tolist() == [0, 1]
    columns = leaves.columns
    excluded(net, prop, columns, 0)
    whole = (columns["lower"] == columns["box_lower"]) & (columns["upper"] == columns["box_upper"])
    # A row's own bound excludes the box as a whole; what cuts took is less of it, now and then all.
    assert whole[columns["question"] >= 0].all() and not whole.all()


def test_a_conjunction_has_leaves_of_its_own() -> None:
    net, prop = two_rows()
    made = finished(tree(net, prop))
    columns = together(made.leaves)
    columns["target"] = made.clauses.target[columns["clause"]]
    assert made.found()[1].tolist() == [True, True]
    for target in (0, 1):
        excluded(net, prop, columns, target)
    asked = columns["target"] == 1
    assert columns["weight"][asked].any(axis=1).all()
    assert not columns["weight"][~asked].any()


def test_a_resumed_tree_has_the_leaves_of_the_first() -> None:
    net, prop = easy()
    first = finished(tree(net, prop), 2)
    state = first.kept()
    again = tree(net, prop)
    again.leaves = []
    again.restore(state)
    assert 0 < volume(together(again.leaves)) < 4
    whole = finished(tree(net, prop))
    for made in (finished(again), whole):
        assert volume(together(made.leaves)) == 4
    assert made.bounded == again.bounded
    forgetful = finished(tree(net, prop), 2).state()
    with pytest.raises(ValueError, match="leaves=True"):
        again.restore(forgetful)
    with pytest.raises(ValueError, match="leaves"):
        again.restore(state | {"leaf.clause": state["leaf.clause"] + 1})


def test_leaves_of_cases_cover_the_tree() -> None:
    net, prop = deep()
    result = gamma.verify(net, prop, branch="relu", leaves=True, attack=False)
    (leaves,) = result.leaves
    assert result.verdict == "verified" and leaves.kind == "relu"
    assert sum(F(1, 2 ** int(depth)) for depth in leaves.columns["depth"]) == 1
    assert leaves.columns["relu"].max() < leaves.relus.shape[1]
    first = case_tree(net, prop)
    assert first is not None
    state = finished(first, 3).kept()
    again = case_tree(net, prop)
    assert again is not None
    again.leaves = []
    again.restore(state)
    again = finished(again)
    assert sum(F(1, 2 ** int(d)) for d in together(again.leaves)["depth"]) == 1
