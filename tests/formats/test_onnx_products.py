"""Products of two values that depend on the input, as ONNX files state them; truth in fractions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gamma
from gamma.errors import FormatError
from gamma.methods import METHODS
from gamma.network.graph import Network
from tests.exact.oracle import violations
from tests.exact.search.onnx_truth import FileTruth
from tests.formats.onnx_models import Node, load, model, runtime

R = np.random.default_rng(0)


def f32(*shape: int) -> Any:
    return R.normal(size=shape).astype(np.float32)


def two(op: str, first: Node | None = None, **attributes: Any) -> list[Node]:
    """a = x @ W, b = relu(x @ V + c), y = op(a, b), both of dims like ``shapes``."""
    return [
        ("MatMul", ["x", "W"], ["p"], {}),
        ("MatMul", ["x", "V"], ["q"], {}),
        ("Relu", ["q"], ["r"], {}),
        *([first] if first else []),
        (op, ["p", first[2][0] if first else "r"], ["y"], attributes),
    ]


TURN: Node = ("Transpose", ["r"], ["s"], {"perm": [0, 2, 1]})
CASES: dict[str, tuple[list[Node], tuple[int, ...], dict[str, Any]]] = {
    "Mul": (two("Mul"), (1, 4), {"W": f32(4, 3), "V": f32(4, 3)}),
    "Mul broadcast": (two("Mul"), (1, 3, 4), {"W": f32(4, 1), "V": f32(4, 5)}),
    "Mul outer": (
        two("Mul", ("Reshape", ["r", "turned"], ["s"], {})),
        (1, 4),
        {"W": f32(4, 3), "V": f32(4, 2), "turned": np.array([2, 1])},
    ),
    "MatMul": (two("MatMul", TURN), (1, 3, 4), {"W": f32(4, 2), "V": f32(4, 2)}),
    "MatMul heads": (
        two("MatMul", ("Transpose", ["r"], ["s"], {"perm": [0, 1, 3, 2]})),
        (1, 2, 3, 2),
        {"W": f32(2, 2), "V": f32(2, 2)},
    ),
    "MatMul of rows": (
        two("MatMul", ("Transpose", ["r"], ["s"], {"perm": [1, 0]})),
        (1, 4),
        {"W": f32(4, 3), "V": f32(4, 3)},
    ),
    "Gemm": (
        [
            *two("Neg")[:3],
            ("Gemm", ["p", "r", "b"], ["y"], {"transA": 1, "alpha": 0.5, "beta": 2.0}),
        ],
        (3, 4),
        {"W": f32(4, 2), "V": f32(4, 2), "b": f32(2)},
    ),
    "Div": (
        two("Div", ("Add", ["r", "one"], ["s"], {})),
        (1, 4),
        {"W": f32(4, 3), "V": f32(4, 3), "one": np.float32(1)},
    ),
}  # fmt: skip


def check(net: Network, truth: FileTruth, box: gamma.Box, session: Any) -> None:
    found = {
        (method, guarantee): gamma.bounds(net, box, method=method, guarantee=guarantee)
        for method in METHODS
        for guarantee in ("real", "float32")
    }
    for _ in range(4):
        where = R.choice([0.0, 1.0, R.uniform()], size=net.input_shape)
        low, high = box.lower.reshape(net.input_shape), box.upper.reshape(net.input_shape)
        point = np.clip((low + where * (high - low)).astype(np.float32), low, high)
        point = np.where(point.astype(np.float32) == point, point, low)
        y = truth(point)["y"]
        executed = np.ravel(session(point.astype(np.float32).reshape(truth.shape)))
        for (_, guarantee), bounds in found.items():
            assert not violations(bounds.lower, bounds.upper, y)
            if guarantee == "float32":
                low_end, high_end = np.ravel(bounds.lower), np.ravel(bounds.upper)
                assert ((low_end <= executed) & (executed <= high_end)).all()
    widths = {m: np.sum(found[m, "real"].upper - found[m, "real"].lower) for m in METHODS}
    assert widths["crown"] <= widths["ibp"] * (1 + 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_products_of_two_values(name: str) -> None:
    nodes, shape, constants = CASES[name]
    proto = model(nodes, shape, constants, 13)
    net = load(proto)
    centre = np.round(R.normal(size=net.input_shape) * 8).astype(np.float32) / 8
    box = gamma.Box(centre - np.float32(0.25), centre + np.float32(0.25))
    check(net, FileTruth(proto), box, lambda x: runtime(proto, x))


def test_einsum_of_two_values_is_a_product_of_matrices() -> None:
    nodes: list[Node] = [
        ("Relu", ["x"], ["r"], {}),
        ("Einsum", ["x", "r"], ["y"], {"equation": "bij,bkj->bik"}),
    ]
    net = load(model(nodes, (1, 3, 4), {}, 12))
    assert any(node.op.name == "MatMul" for node in net.nodes)
    x = f32(1, *net.input_shape)
    a = x.reshape(3, 4)
    np.testing.assert_allclose(net.forward(x).reshape(3, 3), a @ np.maximum(a, 0).T, 1e-5, 1e-5)


def test_a_small_estimator_with_means_over_sets() -> None:
    """Masked means of set elements, multiplied features: what learned database estimators do."""
    nodes: list[Node] = [
        ("MatMul", ["x", "W"], ["h"], {}),
        ("Relu", ["h"], ["r"], {}),
        ("Slice", ["x", "zero", "one", "last"], ["mask"], {}),
        ("Mul", ["r", "mask"], ["m"], {}),
        ("ReduceSum", ["m", "axis"], ["s"], {"keepdims": 0}),
        ("MatMul", ["s", "V"], ["t"], {}),
        ("Sigmoid", ["t"], ["y"], {}),
    ]
    r = np.random.default_rng(3)

    def normal(*shape: int) -> Any:  # numbers of its own: where the sigmoid is steep
        return r.normal(size=shape).astype(np.float32)

    constants = {
        "W": normal(4, 5), "V": normal(5, 1) / 4, "zero": np.array([0]), "one": np.array([1]),
        "last": np.array([2]), "axis": np.array([1]),
    }  # fmt: skip
    proto = model(nodes, (1, 3, 4), constants, 13)
    net = load(proto)
    centre = r.normal(size=(3, 4)).astype(
        np.float32
    )  # quarters of a unit: ends are exact in float32
    centre = np.round(centre * 4) / np.float32(4)
    centre[:, 0] = [1, 1, 0]  # the mask is known, the elements are not
    size = np.full((3, 4), 0.25, np.float32)
    size[:, 0] = 0
    box = gamma.Box(
        (centre - size).reshape(net.input_shape), (centre + size).reshape(net.input_shape)
    )
    tight = gamma.bounds(net, box, guarantee="float32")
    for _ in range(20):
        x = np.clip(
            centre + size * np.float32(r.uniform(-1, 1, (3, 4))), centre - size, centre + size
        )
        y = np.ravel(runtime(proto, x[None]))
        assert (np.ravel(tight.lower) <= y).all() and (y <= np.ravel(tight.upper)).all()
    loose = gamma.bounds(net, box, method="ibp")
    assert (tight.upper - tight.lower).sum() < (loose.upper - loose.lower).sum()


def test_matrices_that_do_not_fit() -> None:
    constants = {"W": f32(4, 4), "V": f32(4, 2)}
    with pytest.raises(FormatError, match="fit"):
        load(model(two("MatMul"), (1, 3, 4), constants, 13))
    with pytest.raises(FormatError, match="broadcast"):
        load(model(two("Mul"), (1, 3, 4), constants, 13))
