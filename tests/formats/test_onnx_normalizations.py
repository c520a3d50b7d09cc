"""Normalisations that a file spells in several operators are read as one, and others are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gamma
from gamma import ops
from gamma.errors import FormatError, UnsupportedError
from gamma.network.graph import Network
from tests.formats.onnx_models import assert_same, load, model, runtime
from tests.formats.test_onnx_operators import graph

pytest.importorskip("onnxruntime")
R = np.random.default_rng(3)
W = {
    "eps": np.float32(1e-5), "two": np.float32(2), "one": np.float32(1), "half": np.float32(0.5),
    "mh": np.float32(-0.5), "three": np.float32(3), "g": R.normal(size=4).astype(np.float32),
    "b": R.normal(size=4).astype(np.float32), "quarter": np.float32(0.25),
}  # fmt: skip
A = {"axes": [-1]}
C = graph(("ReduceMean", "x", "m", A), ("Sub", "x m", "c"))
SQUARES = {"power": ("Pow", "c two", "q"), "product": ("Mul", "c c", "q")}
V = graph(("ReduceMean", "q", "v", A), ("Add", "v eps", "w"))
RMS = graph(("Pow", "x two", "q"))
AFFINE = graph(("Mul", "z g", "zg"), ("Add", "zg b", "y"))
ROOTS = {
    "quotient": graph(("Sqrt", "w", "s"), ("Div", "{} s", "z")),
    "reciprocal": graph(("Sqrt", "w", "s"), ("Reciprocal", "s", "r"), ("Mul", "{} r", "z")),
    "one over": graph(("Sqrt", "w", "s"), ("Div", "one s", "r"), ("Mul", "r {}", "z")),
    "power": graph(("Pow", "w mh", "r"), ("Mul", "{} r", "z")),
    "half power": graph(("Pow", "w half", "s"), ("Div", "{} s", "z")),
    "root of reciprocal": graph(("Div", "one w", "s"), ("Sqrt", "s", "r"), ("Mul", "r {}", "z")),
}


def over(c: str, nodes: list[Any]) -> list[Any]:
    return [(op, [n.format(c) for n in i], o, a) for op, i, o, a in nodes]


SPELLED: dict[str, tuple[list[Any], tuple[int, ...], bool]] = {
    **{
        f"layer, {square}, {root}": (
            C + graph(SQUARES[square]) + V + over("c", ROOTS[root]) + AFFINE, (1, 3, 4), True,
        )
        for square in SQUARES for root in ROOTS
    },
    **{
        f"rms, {root}": (RMS + V + over("x", ROOTS[root]) + graph(("Mul", "z g", "y")),
                        (1, 3, 4), False)
        for root in ROOTS
    },
    "layer of a vector": (C + graph(SQUARES["power"]) + V + over("c", ROOTS["quotient"]) + AFFINE,
                          (1, 4), True),
    "gain first": (C + graph(
        SQUARES["product"], ("ReduceMean", "q", "v", A), ("Add", "v eps", "w"), ("Sqrt", "w", "s"),
        ("Reciprocal", "s", "r"), ("Mul", "r g", "rg"), ("Mul", "x rg", "xg"),
        ("Mul", "m rg", "mg"), ("Sub", "b mg", "k"), ("Add", "xg k", "y")), (1, 3, 4), True),
    "channels first": (graph(
        ("ReduceMean", "x", "m", {"axes": [1]}), ("Sub", "x m", "c"), ("Pow", "c two", "q"),
        ("ReduceMean", "q", "v", {"axes": [1]}), ("Add", "v eps", "w"), ("Sqrt", "w", "s"),
        ("Div", "c s", "y")), (1, 4, 3, 2), True),
    "over images": (graph(
        ("ReduceMean", "x", "m", {"axes": [2, 3]}), ("Sub", "x m", "c"), ("Mul", "c c", "q"),
        ("ReduceMean", "q", "v", {"axes": [2, 3]}), ("Add", "v eps", "w"), ("Sqrt", "w", "s"),
        ("Div", "c s", "y")), (1, 3, 4, 2), True),
}  # fmt: skip
OTHERS = {
    "means over different axes": graph(
        ("ReduceMean", "x", "m", {"axes": [1]}), ("Sub", "x m", "c"), ("Abs", "c", "a"),
        ("Pow", "a two", "q"), ("ReduceMean", "q", "v", A), ("Add", "v eps", "w"),
        ("Sqrt", "w", "s"), ("Div", "c s", "y")),
    "a sum": graph(("Pow", "x two", "q"), ("ReduceSum", "q", "v"), ("Add", "v eps", "w"),
                   ("Sqrt", "w", "s"), ("Div", "x s", "y")),
    "a cube": graph(("Abs", "x", "a"), ("Pow", "a three", "q"), ("ReduceMean", "q", "v", A),
                    ("Add", "v eps", "w"), ("Sqrt", "w", "s"), ("Div", "x s", "y")),
    "another numerator": graph(("Pow", "x two", "q"), ("ReduceMean", "q", "v", A),
                               ("Add", "v eps", "w"), ("Sqrt", "w", "s"), ("Exp", "x", "e"),
                               ("Div", "e s", "y")),
    "no root": graph(("Pow", "x two", "q"), ("ReduceMean", "q", "v", A), ("Add", "v eps", "w"),
                     ("Div", "x w", "y")),
    "an epsilon for each": graph(("Pow", "x two", "q"), ("ReduceMean", "q", "v", A),
                                 ("Add", "v e3", "w"), ("Sqrt", "w", "s"), ("Div", "x s", "y")),
}  # fmt: skip


def made(nodes: list[Any], shape: tuple[int, ...]) -> tuple[Any, Network]:
    used = {name for _, inputs, _, _ in nodes for name in inputs}
    known = W | {"e3": np.array([[0.1], [0.2], [0.3]], np.float32)}
    proto = model(nodes, shape, {k: v for k, v in known.items() if k in used}, 13)
    return proto, load(proto)


def kinds(net: Network) -> list[str]:
    return [type(node.op).__name__ for node in net.nodes[1:]]


@pytest.mark.parametrize("name", SPELLED)
def test_spellings_are_one_operator(name: str) -> None:
    nodes, shape, centred = SPELLED[name]
    proto, net = made(nodes, shape)
    assert_same(proto, shape)
    assert set(kinds(net)) <= {"Normalize", "Scale", "Transpose"}
    (op,) = [node.op for node in net.nodes if isinstance(node.op, ops.Normalize)]
    assert op.centred == centred and op.epsilon == float(np.float32(1e-5))
    assert net.nodes[net.output].name == "y"
    r = np.random.default_rng(1)
    x = r.normal(size=shape).astype(np.float32)
    found = gamma.bounds(net, gamma.Box.linf(x.reshape(net.input_shape), 1e-4), method="crown",
                         guarantee="float32")  # fmt: skip
    assert (found.upper - found.lower).max() < 0.02
    for _ in range(20):
        point = x + r.choice([-1, 0, 1], shape).astype(np.float32) * np.float32(0.99e-4)
        run = runtime(proto, point).reshape(found.lower.shape)
        assert (found.lower <= run).all() and (run <= found.upper).all()


@pytest.mark.parametrize("name", OTHERS)
def test_what_only_looks_alike_is_not(name: str) -> None:
    proto, net = made(OTHERS[name], (1, 3, 4))
    if name == "a sum":
        proto = model(OTHERS[name], (1, 3, 4), {k: W[k] for k in ("two", "eps")}, 11)
        net = load(proto)
    assert "Normalize" not in kinds(net)
    assert_same(proto, (1, 3, 4))


def test_a_mean_that_others_read_stays() -> None:
    nodes = C + graph(SQUARES["power"]) + V + over("c", ROOTS["quotient"])
    proto, net = made([*nodes, *graph(("Add", "z m", "y"))], (1, 3, 4))
    assert kinds(net).count("Normalize") == 1 and "ReduceSum" in kinds(net)
    assert_same(proto, (1, 3, 4))


def test_statistics_are_outputs_too() -> None:
    nodes = [("LayerNormalization", ["x", "g", "b"], ["n", "m", "d"], {})]
    nodes += graph(("Add", "m d", "s"), ("Add", "n s", "y"))
    proto = model(nodes, (1, 3, 4), {"g": W["g"], "b": W["b"]}, 17)
    assert_same(proto, (1, 3, 4))


def test_the_sum_of_a_skip_is_an_output_too() -> None:
    name = "com.microsoft.SkipLayerNormalization"
    nodes = [(name, ["x", "k", "g", "b"], ["n", "", "", "s"], {}), *graph(("Add", "n s", "y"))]
    skip = R.normal(size=(1, 3, 4)).astype(np.float32)
    assert_same(model(nodes, (1, 3, 4), {"k": skip, "g": W["g"], "b": W["b"]}, 17), (1, 3, 4))


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "kind", "message"),
    [
        ("LayerNormalization", "x g", {"stash_type": 16}, UnsupportedError, "float32 or float64"),
        ("LayerNormalization", "x g", {"epsilon": -1.0}, FormatError, "epsilon -1"),
        ("LayerNormalization", "x g", {"axis": 5}, FormatError, "axis 5"),
        ("LayerNormalization", "x three_rows", {}, FormatError, "do not broadcast"),
        ("GroupNormalization", "x g g", {"num_groups": 2}, FormatError, "2 groups"),
        ("InstanceNormalization", "x g g", {}, FormatError, "a weight of shape"),
        ("LpNormalization", "x", {"p": 3}, FormatError, "p is 3"),
        ("com.microsoft.FusedMatMul", "x g", {}, UnsupportedError, "not a standard operator"),
    ],
)
def test_refusals(op: str, inputs: str, attributes: Any, kind: type, message: str) -> None:
    constants = {"g": W["g"], "three_rows": np.ones((2, 3, 4), np.float32)}
    used = {k: v for k, v in constants.items() if k in inputs.split()}
    with pytest.raises(kind, match=message):
        load(model([(op, inputs.split(), ["y"], attributes)], (1, 3, 4), used, 21))
