"""The float32 guarantee where executions overflow, underflow or become NaN on the way.

Every operator that adds before it scales, with values near the largest float32 over the number of
terms; constants that only real arithmetic can hold; functions behind an overflow. Executions are
onnxruntime's, with and without its optimisations, and NumPy's in every order of the steps.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import gamma
from gamma import ops
from gamma.network.graph import Builder, Network
from gamma.ops.bounds import NodeBounds
from gamma.ops.execution import FLOAT32_MAX
from gamma.ops.tables import Precision, picked
from gamma.tensor.box import Box
from tests.exact.functions import OPERATORS, label
from tests.formats.onnx_models import Node, load, model

Array = Any
F = np.float32
METHODS = ("ibp", "crown-ibp", "crown")
pytestmark = pytest.mark.usefixtures("arithmetic")


def bounds(net: Network, x: Array, method: str, radius: float = 0.0) -> tuple[Array, Array]:
    """Bounds (batch, outputs) about the points x, each one box of its own."""
    wide = np.asarray(x, np.float64).reshape(-1, *net.input_shape)
    reach = radius * abs(wide)
    box = Box(wide - reach, wide + reach)
    known = gamma.bounds(net, box, method=method, guarantee="float32", dtype="float64")
    return known.lower.reshape(len(wide), -1), known.upper.reshape(len(wide), -1)


def covers(net: Network, x: Array, runs: list[Array]) -> None:
    """All methods' bounds hold the executed outputs; where these are NaN nothing is claimed."""
    for method in METHODS:
        lower, upper = bounds(net, x, method)
        free = np.isneginf(lower) & np.isposinf(upper)
        for run in runs:
            value = np.asarray(run, np.float64).reshape(lower.shape)
            wrong = ~((lower <= value) & (value <= upper) | free)
            assert not wrong.any(), (method, lower[wrong], value[wrong], upper[wrong])


def sessions(proto: Any) -> list[Any]:
    import onnxruntime as ort

    found = []
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        data = proto.SerializeToString()
        found.append(ort.InferenceSession(data, options, providers=["CPUExecutionProvider"]))
    return found


ONE = F(1)
IMAGE = (1, 2, 4, 4)
STATISTICS = {"g": np.array([2, -3e30], F), "b": np.array([1, 2], F), "m": np.array([1e38, 5], F)}
NORMAL = [("BatchNormalization", ["x", "g", "b", "m", "v"], ["y"], {"epsilon": 0.0})]
POOL: dict[str, Any] = {"kernel_shape": [2, 2]}
# Name: nodes, input shape, constants, and how many times the input the largest sum or product is.
CASES: dict[str, tuple[list[Node], tuple[int, ...], dict[str, Any], float]] = {
    "sum": ([("ReduceSum", ["x"], ["y"], {})], (1, 16), {}, 16),
    "mean": ([("ReduceMean", ["x"], ["y"], {"axes": [1]})], (1, 16), {}, 16),
    "mean of 3": ([("ReduceMean", ["x"], ["y"], {"axes": [1]})], (1, 3), {}, 3),
    "global pool": ([("GlobalAveragePool", ["x"], ["y"], {})], IMAGE, {}, 16),
    "pool of 4": ([("AveragePool", ["x"], ["y"], POOL)], IMAGE, {}, 4),
    "pool of 6": ([("AveragePool", ["x"], ["y"], {"kernel_shape": [2, 3]})], IMAGE, {}, 6),
    "padded pool": (
        [("AveragePool", ["x"], ["y"], {**POOL, "pads": [1, 1, 1, 1]})],
        IMAGE,
        {},
        4,
    ),
    "gemm alpha": (
        [("Gemm", ["x", "w"], ["y"], {"alpha": 2.0**-30})],
        (1, 4),
        {"w": np.full((4, 3), 2.0**20, F)},
        2.0**22,
    ),
    "gemm beta": (
        [("Gemm", ["x", "w", "c"], ["y"], {"beta": 1e10})],
        (1, 4),
        {"w": np.ones((4, 3), F), "c": np.array([1.0, 1e30, -1e29], F)},
        4,
    ),
    "up and down": (
        [("Mul", ["x", "a"], ["c"], {}), ("Mul", ["c", "b"], ["y"], {})],
        (1, 4),
        {"a": F(2.0**100), "b": F(2.0**-100)},
        2.0**100,
    ),
    "down and up": (
        [("Mul", ["x", "a"], ["c"], {}), ("Mul", ["c", "b"], ["y"], {})],
        (1, 4),
        {"a": F(2.0**-100), "b": F(2.0**100)},
        1,
    ),
    "shift and back": (
        [("Add", ["x", "a"], ["c"], {}), ("Sub", ["c", "a"], ["y"], {})],
        (1, 4),
        {"a": F(3e38)},
        4,
    ),
    "divided": (
        [("Mul", ["x", "a"], ["c"], {}), ("Div", ["c", "a"], ["y"], {})],
        (1, 4),
        {"a": F(1e10)},
        1e10,
    ),
    "product of constants": (
        [("Mul", ["a", "a"], ["c"], {}), ("Mul", ["x", "c"], ["y"], {})],
        (1, 4),
        {"a": F(1e30)},
        1e36,
    ),
    "constants under the range": (
        [("Mul", ["a", "a"], ["c"], {}), ("Mul", ["x", "c"], ["y"], {})],
        (1, 4),
        {"a": F(1e-23)},
        1,
    ),
    "constants up and down": (
        [
            ("Mul", ["a", "a"], ["c"], {}),
            ("Div", ["c", "a"], ["d"], {}),
            ("Add", ["x", "d"], ["y"], {}),
        ],
        (1, 4),
        {"a": F(1e30)},
        1,
    ),
    "mean of constants": (
        [("ReduceMean", ["a"], ["c"], {"axes": [0]}), ("Add", ["x", "c"], ["y"], {})],
        (1, 4),
        {"a": np.full(16, 3e37, F)},
        1,
    ),
    "difference": (
        [
            ("Mul", ["x", "a"], ["c"], {}),
            ("Mul", ["x", "b"], ["d"], {}),
            ("Sub", ["c", "d"], ["y"], {}),
        ],
        (1, 4),
        {"a": F(3e38), "b": F(2e38)},
        3e38,
    ),
    "normalised": (NORMAL, IMAGE, {**STATISTICS, "v": np.array([1e-38, 1e-30], F)}, 1e19),
    "normalised wide": (NORMAL, IMAGE, {**STATISTICS, "v": np.array([1e38, 1e30], F)}, 3e30),
    "convolved": (
        [("Conv", ["x", "w"], ["y"], {})],
        IMAGE,
        {"w": np.where(np.arange(36).reshape(2, 2, 3, 3) % 2, 1e10, -1e10).astype(F)},
        1.8e11,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_executions_near_the_largest_float32(case: str) -> None:
    """PEAK.*, FOLD.*, EXECUTION.*: onnxruntime's result, whatever overflowed on the way."""
    pytest.importorskip("onnxruntime")
    nodes, shape, constants, terms = CASES[case]
    proto = model(nodes, shape, constants)
    net, runs = load(proto), sessions(proto)
    rng = np.random.default_rng(5)
    sizes = [FLOAT32_MAX / terms * f for f in (0.1, 0.5, 0.9, 0.999, 1.001, 1.1, 2.0, 16.0)]
    sizes += [1.0, 2.0**-126, 2.0**-149, 1e-36, 1e-20]
    factors = np.concatenate(
        [
            np.ones((1, *shape)),
            rng.choice([-1.0, 1.0], (1, *shape)),
            rng.uniform(-1, 1, (1, *shape)),
        ]
    )
    x = np.concatenate([factors * size for size in sizes])
    x = np.clip(x, -FLOAT32_MAX, FLOAT32_MAX).astype(F)
    covers(net, x, [np.array([run.run(None, {"x": point})[0] for point in x]) for run in runs])


FINITE = ("sum", "mean", "global pool", "pool of 4", "pool of 6", "padded pool", "gemm alpha")


@pytest.mark.parametrize("case", (*FINITE, "up and down", "down and up", "divided", "convolved"))
def test_a_peak_within_the_range_keeps_finite_bounds(case: str) -> None:
    """The peak is no larger than it has to be: a quarter of the range is enough room."""
    nodes, shape, constants, terms = CASES[case]
    net = load(model(nodes, shape, constants))
    x = np.full(net.input_shape, FLOAT32_MAX / terms / 4)
    for method in METHODS:
        lower, upper = bounds(net, x, method)
        assert np.isfinite(lower).all() and np.isfinite(upper).all()


# -- affine maps in a row --------------------------------------------------------------------------


def _steps(rng: np.random.Generator, count: int) -> list[ops.Scale]:
    """Exact factors and shifts from one end of the range to the other."""
    found = []
    for _ in range(count):
        scale = F(rng.choice([-1.0, 1.0]) * rng.choice([1.0, 1.5]) * 2.0 ** rng.integers(-90, 91))
        shift = None if rng.random() < 0.5 else np.array(F(2.0 ** rng.integers(-100, 127)))
        found.append(ops.Scale(np.array(scale), shift))
    return found


def test_fused_scales_cover_their_steps() -> None:
    """EXECUTION.*: what two or three steps round, lose and reach, in one record."""
    rng, fused, lost = np.random.default_rng(2), 0, 0
    with np.errstate(all="ignore"):
        for _ in range(700):
            steps = _steps(rng, int(rng.integers(2, 4)))
            record: Any = steps[0]
            for step in steps[1:]:
                record = None if record is None else step.after(record)
            if record is None:
                continue
            size = 2.0 ** rng.uniform(-149, 127)
            x = (rng.uniform(-1, 1, 3) * size).astype(F)
            value = x
            for step in steps:
                value = F(step.scale * value)
                value = value if step.shift is None else F(value + step.shift)
            exact = record.scale * x.astype(np.float64)
            exact = exact if record.shift is None else exact + record.shift
            noise = record.float32_noise([abs(x.astype(np.float64))])
            finite = np.isfinite(noise)
            stray = abs(value.astype(np.float64) - exact) <= noise + 2.0**-50 * abs(exact)
            assert (stray | ~finite).all(), (steps, x)
            fused, lost = fused + finite.sum(), lost + (~finite).sum()
    assert fused > 200 and lost > 20


def test_batch_normalisation_in_every_order() -> None:
    """NORMAL.*: centred first or folded to one product, with statistics far out."""
    rng = np.random.default_rng(3)
    far = lambda low, high: (rng.uniform(1, 2, 2) * 2.0 ** rng.integers(low, high, 2)).astype(F)  # noqa: E731
    for _ in range(25):
        g, b, m = (rng.choice([-1, 1], 2).astype(F) * far(-130, 120) for _ in range(3))
        v = far(-140, 120)
        net = load(model(NORMAL, (1, 2, 3), {"g": g, "b": b, "m": m, "v": v}))
        x = (rng.uniform(-1, 1, (20, 2, 3)) * 2.0 ** rng.uniform(-140, 127, (20, 2, 1))).astype(F)
        g, b, m, v = (a[:, None] for a in (g, b, m, v))
        with np.errstate(all="ignore"):
            root = np.sqrt(v)
            inverse = F(1) / root
            runs = [
                (x - m) / root * g + b,
                (x - m) * inverse * g + b,
                (x - m) * (g / root) + b,
                (x - m) * g / root + b,
                x * (g / root) + (b - m * (g / root)),
                x * (g * inverse) + (b - m * (g * inverse)),
            ]
        covers(net, x, runs)


# -- after an overflow -----------------------------------------------------------------------------


def _after_overflow(*operators: Any, shape: tuple[int, ...] = (3,)) -> Network:
    """3e38·x − 2e38·x: NaN at x = 2; the entries at x = 0 stay finite."""
    b = Builder(ops.Input(), shape)
    up, down = (b.add(ops.Scale(np.array(F(s))), 0) for s in (3e38, 2e38))
    i = b.add(ops.Add((1, -1)), up, down)
    for op in operators:
        i = b.add(op, i)
    return b.build(i)


@pytest.mark.parametrize("op", list(OPERATORS), ids=label)
def test_nothing_is_known_of_a_function_of_nan(op: Any) -> None:
    """POISON.FUNCTION, POISON.LINES: bounded functions too; entries beside it keep their bounds."""
    net = _after_overflow(op)
    for method, radius in itertools.product(METHODS, (0.0, 0.25)):
        ((lower,), (upper,)) = bounds(net, [2.0, 0.5, 2.5], method, radius)
        assert (lower[[0, 2]] == -np.inf).all() and (upper[[0, 2]] == np.inf).all()


def test_nothing_is_known_of_a_maximum_with_nan() -> None:
    """POISON.MAXIMUM: NaN is the maximum, or is left out, or hides the others."""
    both = np.array([[0, 1], [1, 2], [1, 1]], np.int64)
    net = _after_overflow(ops.Gather(both.reshape(-1), (3, 2)), ops.ReduceMax(1))
    for method in METHODS:
        ((lower,), (upper,)) = bounds(net, [2.0, 0.0, 2.0], method)
        assert lower[:2].tolist() == [-np.inf] * 2 and upper[:2].tolist() == [np.inf] * 2
        assert np.isfinite([lower[2], upper[2]]).all()


ZEROS = {
    "gemm": ((3,), ops.Gemm(np.zeros((2, 3), F), None)),
    "scale": ((3,), ops.Scale(np.zeros(3, F), np.ones(3, F))),
    "conv": ((3, 1, 1), ops.Conv(np.zeros((2, 3, 1, 1), F), None)),
    "window": ((1, 3, 1), ops.Conv(np.zeros((1, 1, 3, 1), F), None)),
    "transposed": ((3, 1, 1), ops.ConvTranspose(np.zeros((3, 2, 1, 1), F), None)),
    "sum": ((3,), ops.ReduceSum((0,))),
    "gathered": ((3,), ops.Gather(np.array([0, 2], np.int64), (2,))),
}


@pytest.mark.parametrize("case", ZEROS)
def test_nothing_is_known_behind_an_infinity(case: str) -> None:
    """POISON.LINEAR: 0·inf is NaN; a ReLU behind it, and what reads that, know nothing."""
    shape, op = ZEROS[case]
    for rest in ((), (ops.Relu(),), (ops.Relu(), ops.Tanh())):
        net = _after_overflow(op, *rest, shape=shape)
        for method in METHODS:
            lower, upper = bounds(net, np.full(shape, 2.0), method)
            assert (lower == -np.inf).all() and (upper == np.inf).all(), method


@pytest.mark.parametrize("op", [ops.Sin(), ops.Silu(), ops.HardSwish(), ops.Gelu(), ops.Relu()])
def test_an_infinity_is_not_half_known(op: Any) -> None:
    """POISON.RANGE: a sum that reaches +inf may be NaN one operator later."""
    b = Builder(ops.Input(), (1,))
    i = b.add(ops.Scale(np.array(F(3e38))), 0)
    b.add(op, i)
    net = b.build(2)
    for method in METHODS:
        lower, upper = bounds(net, [1.5], method, 0.5)
        assert lower[0, 0] == -np.inf and upper[0, 0] == np.inf


def test_coefficients_beyond_the_range() -> None:
    """PEAK.STORED: float64 weights that float32 cannot hold, where their products are small."""
    b = Builder(ops.Input(), (1,))
    b.add(ops.Gemm(np.array([[1e300], [1.0]]), None), 0)
    for method in METHODS:
        lower, upper = bounds(b.build(1), [1e-300], method)
        assert lower[0, 0] == -np.inf and upper[0, 0] == np.inf


@pytest.mark.parametrize(("op", "x"), [(ops.HardSwish(), 1e38), (ops.Softplus(), 100.0)])
def test_functions_that_overflow_on_the_way(op: Any, x: float) -> None:
    """PEAK.FUNCTION: 6·x before the division by 6, exp(x) before its logarithm."""
    b = Builder(ops.Input(), (1,))
    b.add(op, 0)
    for method in METHODS:
        lower, upper = bounds(b.build(1), [x], method)
        assert lower[0, 0] == -np.inf and upper[0, 0] == np.inf
        assert np.isfinite(bounds(b.build(1), [50.0], method)).all()


def test_a_computed_mean_may_overflow() -> None:
    """FOLD.SUM: 16 times 3e37 in float32, whatever a runtime makes of its mean."""
    nodes, shape, constants, _ = CASES["mean of constants"]
    lower, upper = bounds(load(model(nodes, shape, constants)), np.zeros(4), "ibp")
    assert (lower == -np.inf).all() and (upper == np.inf).all()


def test_lines_of_a_maximum_with_nan() -> None:
    """POISON.LINES: the entry that the lower line follows is finite, another one is not."""
    low, high = np.array([[[0.0, -np.inf]]]), np.array([[[1.0, np.inf]]])
    op, centre = ops.ReduceMax(1), np.zeros((1, 1, 2))
    outside = NodeBounds(np.full((1, 1), -np.inf), np.full((1, 1), np.inf), np.zeros((1, 1)))
    with np.errstate(all="ignore"):
        inside = NodeBounds(low, high, centre)
        table = picked(op, outside, inside, Precision("float32"))
    assert not np.isfinite([table.lower_const[0, 0], table.upper_const[0, 0]]).any()
