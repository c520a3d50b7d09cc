"""ReLU splitting against exact decisions: never a wrong verdict, whatever the bounds touch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gamma.network.graph import Network
from gamma.network.property import LinearConstraint, Property, Region
from gamma.propagate.alpha import alpha_walk
from gamma.propagate.cases import Cases, CaseWalk
from gamma.propagate.options import options_of
from gamma.propagate.questions import question
from gamma.runtime import workers
from gamma.verification.branching import trees as module
from gamma.verification.branching.clauses import Clauses
from gamma.verification.branching.relus import ReluBranching
from gamma.verification.targets import Targets
from tests.exact.cells import Cell, F, at, cells, clipped, form_of, least, reachable
from tests.verify.branching.drawn import conjunctions, network, region
from tests.verify.known import dense


def tree(
    net: Network, prop: Property, guarantee: str = "real", dtype: str = "auto"
) -> ReluBranching | None:
    targets = Targets.of(prop)
    clauses = Clauses.of(targets, np.flatnonzero(~targets.excluded).astype(np.int64), 1)
    if not len(clauses):
        return None
    made = alpha_walk(net, prop.box(), options_of(net, "alpha", guarantee, dtype, None))
    rows = np.arange(len(clauses.rows.constant))
    asked = clauses.specification(rows, np.zeros(len(rows), np.int64))
    return ReluBranching(CaseWalk(made, *question(made, asked)), clauses, 1 << 30)


def test_no_verdict_is_wrong() -> None:
    """All ReLUs of such a network can be split: what stays open touches its bound, or nearly."""
    rng = np.random.default_rng(0)
    closed_clauses = open_clauses = 0
    for number in range(22):
        net = network(rng)
        low, high = region(rng)
        found = cells(net, low, high)
        unsafe = conjunctions(rng, found, net.output_shape[0])
        truth = [reachable(found, c) for c in unsafe]
        prop = Property((Region(low, high, unsafe),), 2, net.output_shape[0])
        made = tree(net, prop, *(("real", "auto"), ("float32", "float32"))[number % 2])
        while made is not None and not made.done and made.bounded < 300:
            made.round(lambda: None)
            lower, closed = made.found()
            for k, target in enumerate(made.clauses.target):
                assert not (closed[k] and truth[target]), (prop, k)
                if len(unsafe[target]) == 1:
                    assert F(float(lower[k])) <= least(found, unsafe[target][0])
                closed_clauses += bool(closed[k] and made.done)
                open_clauses += bool(not truth[target] and not closed[k] and made.done)
    assert closed_clauses > 10 and closed_clauses > open_clauses


def first_layer(net: Network, found: list[Cell], relu: int, sign: int) -> list[Cell]:
    """The parts of cells where a ReLU of the first layer is on one side of 0."""
    op: Any = net.nodes[1].op
    row, shift = op.weight[relu], op.bias[relu]
    form = tuple(F(float(v)) * -sign for v in (*row, shift))
    parts = [(clipped(cell.corners, form), cell) for cell in found]  # type: ignore[arg-type]
    return [Cell(corners, cell.outputs) for corners, cell in parts if corners]


@pytest.mark.parametrize(("guarantee", "dtype"), [("real", "float32"), ("float32", "float64")])
def test_bounds_hold_where_the_assumptions_do(guarantee: str, dtype: str) -> None:
    """Any slopes and multipliers, negative ones too, on either side of the first layer's ReLUs."""
    rng = np.random.default_rng(2)
    seen = 0
    for _ in range(6):
        net = dense(
            ((rng.integers(-9, 10, (4, 2)) / 7).tolist(), (rng.integers(-3, 4, 4) / 7).tolist()),
            ((rng.integers(-9, 10, (3, 4)) / 7).tolist(), (rng.integers(-3, 4, 3) / 7).tolist()),
            ((rng.integers(-9, 10, (1, 3)) / 7).tolist(), [0.0]),
        )
        low, high = (F(-1), F(-1)), (F(1), F(1))
        value = LinearConstraint(((0, F(1)),), (), F(0))
        made = tree(net, Property((Region(low, high, ((value,),)),), 2, 1), guarantee, dtype)
        assert made is not None
        walk = made.walk
        first = np.flatnonzero(walk.layer == 0)
        if len(first) < 2 or walk.nodes[0] != 2:
            continue
        found = cells(net, low, high)
        count = 8
        cases = walk.start(np.zeros(count, np.int64))
        relus = np.array([rng.choice(first, 2, replace=False) for _ in range(count)])
        signs = rng.choice([-1, 1], (count, 2)).astype(np.int8)
        beta = rng.exponential(size=(count, 2)) * rng.choice([0.0, 0.1, 1.0, -1.0], (count, 2))
        slope = rng.random(cases.slope.shape).astype(cases.slope.dtype)
        cases = Cases(cases.question, slope, relus, signs, beta)
        for raised in (False, True):
            lower = walk.ascend(cases, 3)[0] if raised else walk.lower(cases)
            for k in range(count):
                parts = found
                for relu, sign in zip(relus[k], signs[k], strict=True):
                    keep = walk.tables.columns(2)
                    neuron = walk.place[relu] if keep is None else keep[walk.place[relu]]
                    parts = first_layer(net, parts, int(neuron), int(sign))
                if parts and np.isfinite(lower[k]):
                    seen += 1
                    assert F(float(lower[k])) <= least(parts, value)
    assert seen > 40


def deep() -> tuple[Network, Property]:
    """A network that needs several splits, and a bound 2⁻¹⁰ under its least value."""
    rng = np.random.default_rng(5)
    sizes = (2, 8, 8, 1)
    layers = [
        (rng.integers(-3, 4, (m, n)).tolist(), (rng.integers(-4, 5, m) / 4).tolist())
        for n, m in zip(sizes, sizes[1:], strict=False)
    ]
    net = dense(*layers)
    low, high = (F(-1), F(-1)), (F(1), F(1))
    free = LinearConstraint(((0, F(1)),), (), F(0))
    value = least(cells(net, low, high), free) - F(1, 1024)
    return net, Property((Region(low, high, ((LinearConstraint(free.y, (), value),),)),), 2, 1)


def test_the_tree_is_the_same_for_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    trees = []
    for threads in (1, 2):
        made = tree(*deep())
        assert made is not None
        with workers.limited(threads):
            while not made.done:
                before, share = made.frontier.worst, made.share()
                made.round(lambda: None)
                assert made.frontier.worst >= before or before == np.inf
                assert made.share() >= share
        trees.append((made.bounded, made.depth, made.found()[0].tolist(), made.stuck == []))
    assert trees[0] == trees[1] and trees[0][0] > 5 and trees[0][3]
    assert made is not None and made.found()[1].all() and made.share() == 1.0


def test_leaves_prove_the_whole_again() -> None:
    """A walk in fractions with a leaf's slopes and multipliers closes it, and leaves cover all."""
    net, prop = deep()
    made = tree(net, prop, dtype="float64")
    assert made is not None
    made.leaves = []
    while not made.done:
        made.round(lambda: None)
    leaves = [
        {name: column[k] for name, column in part.items()}
        for part in made.leaves
        for k in range(len(part["bound"]))
    ]
    assert len(leaves) > 4 and not made.stuck
    (constraint,) = prop.regions[0].unsafe[0]
    for leaf in leaves:
        assert 0 < leaf["bound"]
        assert F(float(leaf["bound"])) <= exact_bound(net, prop, constraint, made.walk, leaf)
    assert any(leaf["beta"].any() for leaf in leaves)
    paths = [
        [(int(r), int(s)) for r, s in zip(leaf["relu"], leaf["sign"], strict=True) if r >= 0]
        for leaf in leaves
    ]
    assert covers(paths)
    for k in range(len(paths)):
        assert not covers(paths[:k] + paths[k + 1 :])


def covers(paths: list[list[tuple[int, int]]]) -> bool:
    """Whether cases are the leaves of a tree that splits one ReLU after another."""
    if [] in paths:
        return len(paths) == 1
    if len({path[0][0] for path in paths}) != 1:
        return False
    sides = [[path[1:] for path in paths if path[0][1] == sign] for sign in (-1, 1)]
    return all(side and covers(side) for side in sides)


def exact_bound(
    net: Network, prop: Property, constraint: LinearConstraint, walk: CaseWalk, leaf: Any
) -> F:
    """The bound of a case from the input box and the walk's bounds, in fractions."""
    row = [F(0)] * net.output_shape[0]
    for i, factor in constraint.y:
        row[i] = factor
    constant = -constraint.bound
    for index in range(net.output, 0, -1):
        op: Any = net.nodes[index].op
        if op.hinge:
            row, constant = through_relus(net, index, row, constant, walk, leaf)
            continue
        constant += sum((a * F(float(b)) for a, b in zip(row, op.bias, strict=True)), F(0))
        columns = [[F(float(v)) for v in column] for column in op.weight.T]
        row = [sum((a * w for a, w in zip(row, c, strict=True)), F(0)) for c in columns]
    ends = zip(prop.regions[0].lower, prop.regions[0].upper, strict=True)
    terms = (a * (low if a > 0 else high) for a, (low, high) in zip(row, ends, strict=True))
    return sum(terms, constant)


def through_relus(
    net: Network, index: int, row: list[F], constant: F, walk: CaseWalk, leaf: Any
) -> tuple[list[F], F]:
    """Lines of the case, and what its multipliers add: S·z >= 0 where the ReLU is on that side."""
    known = walk.made.bounds[net.nodes[index].inputs[0]]
    low, high = ([F(float(v)) for v in e.ravel()] for e in (known.lower, known.upper))
    k, keep = walk.nodes.index(index), walk.tables.columns(index)
    found = [a if low[j] >= 0 else F(0) for j, a in enumerate(row)]
    assumed = {int(r): (int(s), b) for r, s, b in zip(leaf["relu"], leaf["sign"], leaf["beta"],
                                                      strict=True)}  # fmt: skip
    for number in range(walk.first[k], walk.first[k + 1]):
        place = walk.place[number]
        j = int(place if keep is None else keep[place])
        if number in assumed:
            sign, beta = assumed[number]
            found[j] = (row[j] if sign > 0 else F(0)) - sign * F(float(beta))
        elif row[j] >= 0:
            found[j] = row[j] * F(float(leaf["slope"][number]))
        else:
            slope = high[j] / (high[j] - low[j])
            found[j] = row[j] * slope
            constant -= row[j] * slope * low[j]
    return found, constant


def test_a_closed_form_of_a_case() -> None:
    """Where all ReLUs are assumed the row is affine: its bound is exact up to rounding."""
    net, prop = deep()
    made = tree(net, prop)
    assert made is not None
    walk = made.walk
    cases = walk.start(np.array([0]))
    relus = np.arange(walk.relus)[None]
    x = [F(1, 3), F(-1, 5)]
    cell = next(c for c in cells(net, (F(-1), F(-1)), (F(1), F(1))) if _inside(c, x))
    active = np.array([[float(at(form, (x[0], x[1]))) for form in _before(net, x)]])
    sign = np.where(active[:, walk.place + 8 * walk.layer] >= 0, 1, -1).astype(np.int8)
    cases = Cases(cases.question, cases.slope, relus, sign, np.zeros(relus.shape))
    (lower,) = walk.lower(cases)
    form = form_of(prop.regions[0].unsafe[0][0], cell.outputs)
    exact = form[2] - abs(form[0]) - abs(form[1])
    assert exact - F(1, 10**6) <= F(float(lower)) <= exact


def _inside(cell: Cell, x: list[F]) -> bool:
    """Whether the point lies in a convex polygon whose corners go round once."""
    (a, b), turns = x, []
    for k, (px, py) in enumerate(cell.corners):
        qx, qy = cell.corners[k - 1]
        turns.append((px - qx) * (b - qy) - (py - qy) * (a - qx))
    return len(turns) > 2 and (min(turns) >= 0 or max(turns) <= 0)


def _before(net: Network, x: list[F]) -> list[Any]:
    """The inputs of all ReLUs at a point, as constant forms."""
    found, value = [], x
    for index in (1, 3):
        op: Any = net.nodes[index].op
        value = [
            sum((F(float(w)) * v for w, v in zip(row, value, strict=True)), F(float(shift)))
            for row, shift in zip(op.weight, op.bias, strict=True)
        ]
        found += [(F(0), F(0), v) for v in value]
        value = [max(v, F(0)) for v in value]
    return found


def test_both_halves_choose_the_relu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A half that is closed counts no more than closed, a worse one as much as a better one."""
    rng = np.random.default_rng(1)
    made = None
    while made is None or not len(made.frontier) or (made.frontier["tried"][0] >= 0).sum() < 3:
        net = network(rng)
        low, high = region(rng)
        unsafe = conjunctions(rng, cells(net, low, high), net.output_shape[0])
        made = tree(net, Property((Region(low, high, unsafe),), 2, net.output_shape[0]))
        if made is not None:
            made.round(lambda: None)
    items = made.take()
    tried = items["tried"][:1].astype(np.int64)
    halves = np.array([[-1.0, -1.0], [-1.2, 9.0], [-1.5, -0.1]])[: (tried[0] >= 0).sum()]
    halves = np.concatenate((halves, np.full(((tried[0] >= 0).sum() - len(halves), 2), -5.0)))
    monkeypatch.setattr(made.walk, "lower", lambda cases, check, owner: halves.T.ravel())
    first = made._cases({name: column[:1] for name, column in items.items()})
    relu, bounds = made._choose(first, tried, lambda: None)
    assert relu[0] == tried[0, 1]
    assert bounds.tolist() == [[-1.2, 9.0]]
