"""Input splitting against exact decisions: never a wrong verdict, whatever the bounds touch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

from gamma.network.graph import Network
from gamma.network.property import LinearConstraint, Property, Region
from gamma.propagate.options import options_of
from gamma.runtime import workers
from gamma.verification.attack import Attack
from gamma.verification.branching import inputs as module
from gamma.verification.branching.clauses import Clauses
from gamma.verification.branching.clipping import Cuts, clip, least
from gamma.verification.branching.halving import halve
from gamma.verification.branching.inputs import InputBranching
from gamma.verification.branching.witness import Witnesses
from gamma.verification.replay import Replay
from gamma.verification.targets import Targets
from tests.exact.cells import cells, reachable
from tests.exact.cells import least as least_value
from tests.verify.branching.drawn import conjunctions, network, region
from tests.verify.known import dense

F = Fraction


def tree(net: Network, prop: Property, seed: int | None = None) -> InputBranching:
    """Branch and bound on all regions; with a ``seed`` somebody looks for witnesses."""
    targets = Targets.of(prop)
    left = np.flatnonzero(~targets.excluded).astype(np.int64)
    clauses = Clauses.of(targets, left, len(prop.regions))
    search = None
    if seed is not None:
        search = Attack(net, prop, targets, Replay(net, prop, "real", math.inf), seed)
    options = options_of(net, "crown", "real", "auto", None)
    return InputBranching(
        net, prop.box(), clauses, options, Witnesses(clauses, search), most_bytes=1 << 30
    )


def test_no_verdict_is_wrong() -> None:
    """Properties whose least value is exactly their bound, and a rounding or a million beside it.

    What is not settled after a few rounds must be touched, or nearly so.
    """
    rng = np.random.default_rng(0)
    settled = asked = proved = 0
    for _ in range(30):
        net = network(rng)
        low, high = region(rng)
        found = cells(net, low, high)
        unsafe = conjunctions(rng, found, net.output_shape[0])
        truth = [reachable(found, c) for c in unsafe]
        prop = Property((Region(low, high, unsafe),), 2, net.output_shape[0])
        if Targets.of(prop).excluded.all():
            assert not any(truth)
            continue
        made = tree(net, prop, seed=0)
        witness = None
        for _ in range(8):
            if made.done or witness is not None:
                break
            witness = made.round(lambda: None)
            lower, closed = made.found()
            for k, target in enumerate(made.clauses.target):
                assert not (closed[k] and truth[target]), (prop, k)
                worst = [least_value(found, c) for c in unsafe[target]]
                if len(worst) == 1 and np.isfinite(lower[k]):
                    assert F(float(lower[k])) <= worst[0]
        asked += 1
        settled += made.done or witness is not None
        proved += made.done and not made.stuck
        if witness is not None:
            assert any(truth)
    assert settled > 0.6 * asked and proved > 0.2 * asked, (asked, settled, proved)


def test_bounds_and_cuts_hold_for_every_float() -> None:
    """Rows with cancelling terms over boxes of few ulps: least values and cuts, in fractions."""
    rng = np.random.default_rng(1)
    cut = 0
    for _ in range(300):
        n, rows = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        a = rng.normal(size=(rows, n)) * rng.choice([0, 1, 1, 1e-3, 1e6], (rows, n))
        lower = rng.normal(size=(1, n)) * rng.choice([1, 1e4])
        upper = lower + rng.exponential(size=(1, n)) * rng.choice([1.0, 2.0**-40, 0])
        c = (lower + upper) / 2 + rng.normal(size=(rows, n)) * rng.choice([0, 1])
        corner = np.where(a > 0, lower, upper)
        # The least value is about 0, or a little less: what is cut is decided by rounding.
        d = -(a * (corner - c)).sum(axis=1) - rng.choice([0, 1e-16, 1e-3, 1], rows)
        cuts = Cuts(a, c, d, np.zeros(rows, bool), np.array([0]))
        value = least(cuts, lower.repeat(rows, 0), upper.repeat(rows, 0))
        forms = [form_of(a[k], c[k], d[k]) for k in range(rows)]
        exact = [[F(float(v)) for v in np.where(a[k] > 0, lower[0], upper[0])] for k in range(rows)]
        for k in range(rows):
            assert F(float(value[k])) <= forms[k](exact[k])
        low, high, empty = clip(cuts, lower, upper)
        assert (low >= lower).all() and (high <= upper).all()
        cut += bool((low > lower).any() or (high < upper).any()) and not empty[0]
        for x in points(a, lower[0], upper[0], forms):
            if all(form(x) <= 0 for form in forms):
                assert not empty[0]
                for v, left, right in zip(x, low[0], high[0], strict=True):
                    assert F(float(left)) <= v <= F(float(right))
    assert cut > 30


def form_of(a: Any, c: Any, d: float) -> Callable[[Sequence[F]], F]:
    """a·(x - c) + d in fractions."""
    terms = [(F(float(s)), F(float(m))) for s, m in zip(a, c, strict=True)]
    return lambda x: sum((s * (y - m) for (s, m), y in zip(terms, x, strict=True)), F(float(d)))


def points(a: Any, lower: Any, upper: Any, forms: Sequence[Any]) -> list[list[F]]:
    """Corners of a box, and points on its edges at which a form is exactly 0."""
    ends = [[F(float(v)) for v in pair] for pair in zip(lower, upper, strict=True)]
    found = [list(corner) for corner in product(*ends)]
    for k, form in enumerate(forms):
        for x in list(found[:8]):
            for i in np.flatnonzero(a[k]):
                moved = list(x)
                moved[i] = x[i] - form(x) / F(float(a[k][i]))
                if ends[i][0] <= moved[i] <= ends[i][1]:
                    found.append(moved)
    return found


def easy(seed: int = 3) -> tuple[Network, Property]:
    """A network whose output stays 2⁻¹⁰ above what it must not reach, on a box of two inputs."""
    rng = np.random.default_rng(seed)
    sizes = (2, 8, 8, 1)
    layers = [
        (rng.integers(-3, 4, (m, n)).tolist(), (rng.integers(-4, 5, m) / 4).tolist())
        for n, m in zip(sizes, sizes[1:], strict=False)
    ]
    net = dense(*layers)
    low, high = (F(-1), F(-1)), (F(1), F(1))
    free = LinearConstraint(((0, F(1)),), (), F(0))
    value = least_value(cells(net, low, high), free) - F(1, 1024)
    unsafe = ((LinearConstraint(((0, F(1)),), (), value),),)
    return net, Property((Region(low, high, unsafe),), 2, 1)


@pytest.mark.parametrize("huge", [np.inf, -np.inf, np.nan])
def test_rows_that_overflow_cut_nothing(huge: float) -> None:
    lower, upper = np.zeros((1, 2)), np.full((1, 2), 8.0)
    rows = np.array([[huge, 1.0], [1.0, huge]])
    cuts = Cuts(rows, np.zeros((2, 2)), np.array([-1.0, 0.0]), np.zeros(2, bool), np.array([0]))
    low, high, empty = clip(cuts, lower, upper)
    assert not empty[0] and (low == lower).all() and (high == upper).all()


def test_leaves_cover_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cuts all edges are dyadic: volumes of what was closed add up to the whole."""
    from gamma.verification.branching import halving

    monkeypatch.setattr(
        halving, "clip", lambda cuts, low, high: (low, high, np.zeros(len(low), bool))
    )
    net, prop = easy()
    made = tree(net, prop)
    closed = F(0)
    while not made.done:
        boxes = {name: made.frontier[name].copy() for name in ("lower", "upper")}
        assert closed + volume(boxes) == 4
        assert made.share(1) <= closed / 4
        count, bounded = len(made.frontier), made.bounded
        assert count <= made.batch
        made.round(lambda: None)
        left = {name: made.frontier[name] for name in ("lower", "upper")}
        closed += volume(boxes) - volume(left)
        assert made.bounded == bounded + count
    assert closed == 4 and made.bounded > 20 and made.share(1) == 1.0
    assert made.found()[1].all()


def volume(boxes: dict[str, Any]) -> F:
    return sum(
        (
            math.prod(F(float(b)) - F(float(a)) for a, b in zip(low, high, strict=True))
            for low, high in zip(boxes["lower"], boxes["upper"], strict=True)
        ),
        F(0),
    )


def test_the_tree_is_the_same_for_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)
    trees = []
    for threads in (1, 2):
        net, prop = easy(5)
        made = tree(net, prop, seed=1)
        with workers.limited(threads):
            while not made.done:
                assert made.round(lambda: None) is None
        trees.append((made.bounded, made.depth, made.found()[0].tolist()))
    assert trees[0] == trees[1] and trees[0][0] > 12


def test_an_interrupted_round_changes_nothing() -> None:
    net, prop = easy()
    made = tree(net, prop)
    made.round(lambda: None)
    before = sorted(made.frontier["lower"].tolist())

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.round(stop)
    assert sorted(made.frontier["lower"].tolist()) == before


def test_a_full_memory_goes_to_the_depth_first() -> None:
    net, prop = easy(5)
    made = tree(net, prop)
    made.frontier.most_bytes, made.batch = 1, 2
    while not made.done:
        made.round(lambda: None)
    assert made.frontier.full and made.found()[1].all()


def test_what_cuts_made_too_small_is_bounded_once_more() -> None:
    """Rows that cut a box to a sliver around 1/2: its bound is that of the large box still."""
    cuts = Cuts(np.array([[1.0], [-1.0]]), np.full((2, 1), 0.5), np.zeros(2), np.zeros(2, bool),
                np.array([0]))  # fmt: skip
    items = {"lower": np.array([[0.0]]), "upper": np.array([[1.0]]), "region": np.array([0])}
    items |= {"open": np.ones((1, 1), bool), "bound": np.array([-1.0])}
    items["depth"] = np.zeros(1, np.int16)
    zero = np.zeros(1, np.int64)
    pairs = {"box": zero, "slot": zero, "clause": zero, "bound": np.array([-1.0])}
    for once in (True, False):
        made = halve(np.ones((1, 1)), dict(items), dict(pairs), cuts, np.zeros(1, bool))
        assert (len(made.children["bound"]), len(made.stuck["bound"])) == ((1, 0), (0, 1))[not once]
        kept = made.children if once else made.stuck
        low, high = kept["lower"][0, 0], kept["upper"][0, 0]
        assert 0.5 - 1e-12 < low <= 0.5 <= high < 0.5 + 1e-12
        items = {name: column.copy() for name, column in kept.items()}


def test_an_edge_over_which_rows_lose_nothing_is_halved_too() -> None:
    """|x| + (1 - |x|) + 2y/5 - 1/2 >= 1/10: the slopes in x cancel, what is loose is behind it."""
    first = [[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]
    net = dense((first, [0.0, 0.0, 0.0, 0.0, 2.0]), ([[1.0, 1.0, -1.0, -1.0, 0.4]], [-0.3]))
    unsafe = (LinearConstraint(((0, F(1)),), (), F(1, 20)),)
    prop = Property((Region((F(-1), F(-1)), (F(1), F(1)), (unsafe,)),), 2, 1)
    made = tree(net, prop)
    while not made.done and made.bounded < 3000:
        made.round(lambda: None)
    assert made.done and made.bounded < 1000
