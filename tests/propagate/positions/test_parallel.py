"""Positions: what is declared independent is, and bounds by position are bounds of the network."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import gamma
from gamma import ops, tuning
from gamma.errors import ResourceError, UsageError
from gamma.network.graph import Builder, Network
from gamma.propagate import (
    ParallelConfig,
    ParallelVerifier,
    dense,
    verify_parallel,
    verify_parallel_with_method,
)
from gamma.propagate.positions import dependency, parallel
from gamma.propagate.positions.dependency import MIXED, NOTHING
from gamma.propagate.positions.squeeze import squeezed
from tests.exact.families import SHAPES, Draw

Array = Any


def build(*steps: Any, shape: tuple[int, ...]) -> Network:
    """One operator after the other."""
    b = Builder(ops.Input(), shape)
    index = 0
    for op in steps:
        index = b.add(op, index)
    return b.build(index)


def tokens(rng: np.random.Generator, length: int = 6, width: int = 3) -> Network:
    """A position-wise network: positions first, the same for all of them."""
    return build(
        ops.Gemm(rng.normal(size=(8, width)), rng.normal(size=8)),
        ops.Relu(),
        ops.Gemm(rng.normal(size=(4, 8)), None),
        ops.Sigmoid(),
        ops.Gemm(rng.normal(size=(2, 4)), rng.normal(size=2)),
        shape=(length, width),
    )


def embedded(rng: np.random.Generator, length: int = 5) -> Network:
    """Another shift and slope at every position, a skip, a mean over the features."""
    b = Builder(ops.Input(), (length, 4))
    x = b.add(ops.Scale(np.array(1.0), rng.normal(size=(length, 4))), 0)
    y = b.add(ops.Gemm(rng.normal(size=(4, 4))), x)
    y = b.add(ops.PRelu(rng.uniform(0, 1, size=(length, 1))), y)
    x = b.add(ops.Add(), x, y)
    x = b.add(ops.Concat(1), x, y)
    x = b.add(ops.Relu(), x)
    x = b.add(ops.ReduceSum((1,), True, 0.125), x)
    return b.build(x)


def pixels(rng: np.random.Generator) -> Network:
    """Convolutions with kernel 1 along the height, a transpose, a maximum, a flat end."""
    conv = ops.Conv(rng.normal(size=(3, 2, 1, 3)), rng.normal(size=3), (1, 2), (0, 1, 0, 1))
    b = Builder(ops.Input(), (2, 5, 6))
    x = b.add(ops.Relu(), b.add(conv, 0))
    x = b.add(ops.Transpose((1, 2, 0)), x)
    x = b.add(ops.ReduceMax(1), x)
    x = b.add(ops.Reshape((15,)), x)
    return b.build(x)


def rolled(rng: np.random.Generator) -> Network:
    """The positions in another order, one left out, one constant row more."""
    index = np.arange(12).reshape(4, 3)[[2, 0, 3]].ravel()
    b = Builder(ops.Input(), (4, 3))
    x = b.add(ops.Gather(np.concatenate((index, [-1] * 3)), (4, 3), 0.5), 0)
    x = b.add(ops.Gemm(rng.normal(size=(3, 3)), rng.normal(size=3)), x)
    return b.build(b.add(ops.Tanh(), x))


INDEPENDENT = {"tokens": (tokens, 0), "embedded": (embedded, 0), "pixels": (pixels, 1)}


def sees(network: Network, axis: int, rng: np.random.Generator) -> Array:
    """bool (nodes..., positions): entries that change when a position does, by experiment."""
    x = rng.normal(size=(3, *network.input_shape))
    base = network.values(x)
    changed = []
    for position in range(network.input_shape[axis]):
        moved = np.moveaxis(x.copy(), axis + 1, 0)
        moved[position] += rng.normal(size=moved[position].shape) * 2
        values = network.values(np.moveaxis(moved, 0, axis + 1).copy())
        pairs = zip(base, values, strict=True)
        changed.append([((a != b) & ~(np.isnan(a) & np.isnan(b))).any(axis=0) for a, b in pairs])
    return changed


def check_labels(network: Network, axis: int, rng: np.random.Generator) -> None:
    known = dependency.labels(network, axis)
    with np.errstate(all="ignore"):
        changed = sees(network, axis, rng)
    for index, node in enumerate(network.nodes):
        assert known[index].shape == node.shape
        for position, nodes in enumerate(changed):
            allowed = (known[index] == MIXED) | (known[index] == position + 1)
            assert (allowed | ~nodes[index]).all(), (node.name, position)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_no_entry_changes_with_a_position_it_is_not_said_to_depend_on(name: str) -> None:
    rng = np.random.default_rng(1)
    network = SHAPES[name](Draw("plain", rng))
    for axis in range(len(network.input_shape)):
        check_labels(network, axis, rng)


def random_network(rng: np.random.Generator, shape: tuple[int, ...] = ()) -> Network:
    """Operators at random on ``shape``, (positions, features) or (channels, height, width)."""
    b = Builder(ops.Input(), shape or [(4, 3), (2, 4, 3)][rng.integers(2)])
    nodes = [0]
    for _ in range(rng.integers(2, 8)):
        x = nodes[rng.integers(len(nodes))]
        shape = b.nodes[x].shape
        rank = len(shape)
        choices: list[Any] = [
            ops.Relu(),
            ops.Scale(rng.normal(size=shape)),
            ops.Scale(rng.normal(size=shape[-1:]), None, 0.0, 0.0, rng.uniform(size=(4, *shape))),
            ops.Scale(np.ones(()), None, 0.0, 0.0, rng.uniform(size=(4, *shape[-1:]))),
            ops.Transpose(tuple(int(p) for p in rng.permutation(rank))),
            ops.Reshape((shape[0] * shape[1], *shape[2:])) if rank > 1 else ops.Tanh(),
            ops.Gather(rng.integers(-1, int(np.prod(shape)), int(np.prod(shape))), shape, 0.25),
        ]
        if rank:
            choices += [
                ops.Gemm(rng.normal(size=(3, shape[-1]))),
                ops.ReduceMax(int(rng.integers(rank))),
                ops.LogSoftmax(int(rng.integers(-rank, rank))),
                ops.Normalize(int(rng.integers(-rank, rank)), 0.1, bool(rng.integers(2))),
                ops.Softmax(int(rng.integers(-rank, rank))),
                ops.ReduceSum((int(rng.integers(rank)),), bool(rng.integers(2))),
                ops.Concat(int(rng.integers(rank))),
                ops.Add(),
                ops.Mul(),
            ]
        if rank >= 2 and shape[-1] == shape[-2]:
            choices.append(ops.MatMul())
        if rank == 3:
            kernel, pads = rng.integers(1, 3, 2), rng.integers(0, 2, 4)
            kernel = np.minimum(kernel, shape[1:])
            groups = int(rng.choice([1, shape[0]]))
            weight = rng.normal(size=(2 * groups, shape[0] // groups, *kernel))
            steps = tuple(int(n) for n in rng.integers(1, 3, 2))
            choices.append(ops.Conv(weight, None, steps, tuple(map(int, pads)), (1, 1), groups))
        op = choices[rng.integers(len(choices))]
        if isinstance(op, ops.Add | ops.Concat | ops.Mul | ops.MatMul):
            others = [i for i in nodes if b.nodes[i].shape == shape]
            nodes.append(b.add(op, x, others[rng.integers(len(others))]))
        else:
            nodes.append(b.add(op, x))
    return b.build(nodes[-1])


def test_random_graphs() -> None:
    rng = np.random.default_rng(7)
    cut = 0
    for _ in range(300):
        network = random_network(rng)
        for axis in range(len(network.input_shape)):
            check_labels(network, axis, rng)
            known = dependency.labels(network, axis)
            if dependency.mixing(network, known) is None:
                cut += check_parts(network, axis, known, rng)
    assert cut > 100


def check_parts(network: Network, axis: int, known: list[Array], rng: np.random.Generator) -> int:
    """The networks of the positions compute their entries of the whole one's output."""
    x = rng.normal(size=(2, *network.input_shape))
    whole = network.forward(x, np.float64).reshape(2, -1)
    seen = np.zeros(whole.shape[1], int)
    parts, count = 0, network.input_shape[axis]
    cuts = dependency.cuts(network, known)
    if cuts is None:
        return 0
    for positions in ([[p] for p in range(count)], [[0, 1], [0, count - 1], list(range(count))]):
        for some in positions:
            part = dependency.part(cuts, sorted(set(some)))
            if part is None:
                continue
            parts += 1
            chosen = x.take(sorted(set(some)), axis=axis + 1)
            flat = squeezed(part.network)
            for one in (part.network, flat):
                alone = one.forward(chosen.reshape(2, *one.input_shape), np.float64)
                expected = whole[:, part.entries]
                np.testing.assert_allclose(alone.reshape(2, -1), expected, 1e-12, 1e-12)
            seen += part.entries
    if parts == count + 3:
        assert (seen >= 1).all()
    return parts


def test_leading_ones_are_dropped_where_that_changes_nothing() -> None:
    rng = np.random.default_rng(8)
    assert squeezed(tokens(rng, length=1)).output_shape == (2,)
    dropped = 0
    for _ in range(300):
        network = random_network(rng, (1, int(rng.choice([1, 4])), 3))
        flat = squeezed(network)
        x = rng.normal(size=(2, *network.input_shape))
        expected = network.forward(x, np.float64).reshape(2, -1)
        found = flat.forward(x.reshape(2, *flat.input_shape), np.float64).reshape(2, -1)
        np.testing.assert_allclose(found, expected, 1e-12, 1e-12)
        dropped += flat is not network
    assert dropped > 50


def test_every_operator_has_a_rule_or_counts_as_mixing() -> None:
    without = [
        name
        for name, record in ops.TABLE.items()
        if not any(kind in dependency.RULES for kind in record.__mro__)
    ]
    assert without == ["Input", "ConvTranspose"]
    network = build(
        ops.ConvTranspose(np.ones((1, 1, 1)), None, (1,), (0, 0), (1,), 1, (0,)), shape=(1, 3)
    )
    assert (dependency.labels(network, 1)[1] == MIXED).all()
    assert (dependency.labels(network, 0)[1] == 1).all()  # one position: whatever it does


@pytest.mark.parametrize(
    ("network", "axis", "culprit"),
    [
        (build(ops.Gemm(np.ones((2, 3))), shape=(4, 3)), 1, "Gemm"),
        (build(ops.Reshape((12,)), ops.Gemm(np.ones((2, 12))), shape=(4, 3)), 0, "Gemm"),
        (build(ops.Conv(np.ones((1, 2, 3)), None, (1,), (1, 1), (1,)), shape=(2, 5)), 1, "Conv"),
        (build(ops.ReduceSum((0,)), shape=(4, 3)), 0, "ReduceSum"),
        (build(ops.ReduceMax(0), shape=(4, 3)), 0, "ReduceMax"),
    ],
)
def test_what_mixes_is_named_and_rows_are_split(network: Network, axis: int, culprit: str) -> None:
    node = dependency.mixing(network, dependency.labels(network, axis))
    assert node is not None and node.op.name == culprit
    box = gamma.Box.linf(np.zeros(network.input_shape), 0.5)
    config = ParallelConfig(min_positions_for_parallel=1)
    result = verify_parallel(network, box, axis, config)
    assert result.split == "rows" and culprit in result.reason and not result.parallel_positions
    same = gamma.bounds(network, box)
    assert (result.output_bounds.lower == same.lower).all()
    assert (result.output_bounds.upper == same.upper).all()


def test_a_convolution_that_reads_one_neighbour_is_not_cut() -> None:
    """Windows of two taps, one always in the padding: independent, but no network of one."""
    conv = ops.Conv(np.ones((1, 1, 2)), None, (1,), (1, 1), (2,))
    network = build(conv, shape=(1, 2))
    known = dependency.labels(network, 1)
    assert known[1].tolist() == [[2, 1]]
    cuts = dependency.cuts(network, known)
    assert cuts is not None and dependency.part(cuts, [0]) is None
    config = ParallelConfig(min_positions_for_parallel=1)
    result = verify_parallel(network, gamma.Box.linf(np.zeros((1, 2)), 1.0), 1, config)
    assert result.split == "rows" and "cannot be cut" in result.reason


def boxes(network: Network, rng: np.random.Generator, batch: int | None, norm: str) -> gamma.Box:
    shape = network.input_shape if batch is None else (batch, *network.input_shape)
    x = rng.normal(size=shape)
    return {"inf": gamma.Box.linf, "2": gamma.Box.l2, "1": gamma.Box.l1}[norm](x, 0.3)


def points(box: gamma.Box, network: Network, rng: np.random.Generator) -> Array:
    """Points of every box, corners and edges of its positions' balls included."""
    many = box.batched(network.input_shape)
    u = rng.uniform(-1, 1, size=(200, *many.lower.shape))
    u[::2] = np.sign(u[::2])
    centre, radius = (many.lower + many.upper) / 2, (many.upper - many.lower) / 2
    if box.norm != "inf":
        flat = np.abs(u.reshape(*u.shape[:2], -1))
        size = flat.sum(-1) if box.norm == "1" else np.sqrt(np.square(flat).sum(-1))
        u = u / size.reshape(*size.shape, *(1,) * (u.ndim - 2)) * (1 - 1e-9)
    return np.clip(centre + u * radius, many.lower, many.upper)


@pytest.mark.parametrize("name", sorted(INDEPENDENT))
@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("norm", ["inf", "2", "1"])
@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
def test_bounds_by_position(
    name: str, batch: int | None, norm: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the same lines: where one position is one call, its lines lean, or have one slope."""
    monkeypatch.setattr(dense, "LEAN", (0.0, 0.0))
    make, axis = INDEPENDENT[name]
    rng = np.random.default_rng(2)
    network = make(rng)
    box = boxes(network, rng, batch, norm)
    with tuning.disabled("parallel_lines"):
        result = verify_parallel_with_method(network, box, method, axis)
        serial = gamma.bounds(network, box, method=method, dtype="float64")
    count = network.input_shape[axis]
    assert (result.split, result.num_positions) == ("positions", count)
    assert result.parallel_positions == count and result.total_time_ms > 0
    assert result.kinds == (count if name == "embedded" else 1)
    out = result.output_bounds
    assert out.lower.shape == serial.lower.shape
    for x in points(box, network, rng):
        y = network.forward(x, np.float64).reshape(out.lower.shape)
        slack = 1e-12 * (1 + abs(y))  # of this evaluation
        assert (out.lower <= y + slack).all() and (y - slack <= out.upper).all()
    # Never wider than the whole network's bounds, whose rows are longer, by more than rounding.
    width = (serial.upper - serial.lower).max()
    assert (out.lower >= serial.lower - 1e-9 * width).all()
    assert (out.upper <= serial.upper + 1e-9 * width).all()


def test_bounds_by_position_enclose_exact_values() -> None:
    rng = np.random.default_rng(12)
    weight = rng.normal(size=(3, 2)) * 2.0 ** rng.integers(-20, 20, (3, 2))
    last = rng.normal(size=(1, 3))
    network = build(ops.Gemm(weight), ops.Relu(), ops.Gemm(last), shape=(5, 2))
    x = rng.normal(size=(5, 2))
    out = verify_parallel(network, gamma.Box(x, x)).output_bounds
    for position in range(5):
        hidden = [
            max(
                Fraction(0),
                sum(Fraction(w) * Fraction(v) for w, v in zip(row, x[position], strict=True)),
            )
            for row in weight.tolist()
        ]
        exact = sum(Fraction(w) * h for w, h in zip(last[0].tolist(), hidden, strict=True))
        assert Fraction(float(out.lower[position, 0])) <= exact
        assert exact <= Fraction(float(out.upper[position, 0]))


@pytest.mark.parametrize("name", sorted(INDEPENDENT))
def test_the_same_bits_for_any_number_of_threads(name: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(parallel, "_LEAST_COST", 1.0)
    make, axis = INDEPENDENT[name]
    rng = np.random.default_rng(3)
    network = make(rng)
    box = boxes(network, rng, 3, "inf")
    found = []
    for threads in (1, 2, 4):
        verifier = ParallelVerifier(ParallelConfig(max_threads=threads))
        found.append(verifier.verify_positions_parallel(network, box, axis).output_bounds)
    for out in found[1:]:
        assert (out.lower == found[0].lower).all() and (out.upper == found[0].upper).all()


def test_constants_and_positions_that_go_nowhere() -> None:
    rng = np.random.default_rng(4)
    network = rolled(rng)
    known = dependency.labels(network, 0)
    assert known[-1][:, 0].tolist() == [3, 1, 4, NOTHING]
    result = verify_parallel(network, gamma.Box.linf(rng.normal(size=(4, 3)), 0.1))
    assert result.split == "positions"
    serial = gamma.bounds(network, gamma.Box.linf(rng.normal(size=(4, 3)), 0.1))
    assert (abs(result.output_bounds.lower[3] - serial.lower[3]) < 1e-12).all()


def test_few_positions_are_not_split() -> None:
    rng = np.random.default_rng(5)
    network = tokens(rng, length=3)
    box = boxes(network, rng, None, "inf")
    result = verify_parallel(network, box)
    assert (result.split, result.parallel_positions) == ("none", 0)
    assert "fewer than 4" in result.reason
    same = gamma.bounds(network, box)
    assert (result.output_bounds.lower == same.lower).all()
    config = ParallelConfig(min_positions_for_parallel=3)
    assert verify_parallel(network, box, -2, config).split == "positions"


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(6)
    network = tokens(rng)
    verify_parallel(network, boxes(network, rng, None, "inf"), 0, ParallelConfig())
    assert capsys.readouterr().err == ""
    config = ParallelConfig(report_progress=True)
    verify_parallel(network, boxes(network, rng, None, "inf"), 0, config)
    assert capsys.readouterr().err.endswith("positions: 6/6\n")


def test_wrong_requests() -> None:
    network = tokens(np.random.default_rng(0))
    box = gamma.Box.linf(np.zeros((6, 3)), 0.1)
    for options, word in (
        ({"method": "magic"}, "magic"),
        ({"max_threads": 0}, "max_threads"),
        ({"min_positions_for_parallel": 0}, "min_positions"),
    ):
        with pytest.raises(UsageError, match=word):
            ParallelConfig(**options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="axis 2"):
        verify_parallel(network, box, 2)
    with pytest.raises(ResourceError, match="time limit"):
        ParallelVerifier().verify_positions_parallel(network, box, 0, deadline=0.0)
