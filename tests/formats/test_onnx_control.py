"""Functions that a file defines itself, and If and Loop whose course is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import gamma
from gamma.errors import FormatError, UnsupportedError
from gamma.formats.onnx.outputs import cut
from tests.formats.onnx_models import assert_same, load, model, runtime

F = np.float32
RNG = np.random.default_rng(9)
SQUARE = RNG.normal(0, 1, (4, 4)).astype(F)
V = (1, 4)


def value(name: str, dims: Any = None, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, dims)


def graph(nodes: list[Any], inputs: list[Any], outputs: list[str], **constants: Any) -> Any:
    made = [helper.make_node(op, i, o, name=f"inner{k}") for k, (op, i, o) in enumerate(nodes)]
    stored = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    kinds = [TensorProto.BOOL if o == "go" else TensorProto.FLOAT for o in outputs]
    ends = [value(o, None, k) for o, k in zip(outputs, kinds, strict=True)]
    return helper.make_graph(made, "inner", inputs, ends, stored)


def branches(**attributes: Any) -> dict[str, Any]:
    """A product, and the product of what is not negative: both name their values alike."""
    return {
        "then_branch": graph([("MatMul", ["x", "w"], ["h"])], [], ["h"]),
        "else_branch": graph(
            [("Relu", ["x"], ["r"]), ("MatMul", ["r", "v"], ["h"])], [], ["h"], v=SQUARE * 2
        ),
        **attributes,
    }


@pytest.mark.parametrize("choice", [True, False])
def test_the_branch_of_a_constant_condition(choice: bool) -> None:
    nodes = [("If", ["c"], ["t"], branches()), ("Relu", ["t"], ["y"], {})]
    proto = model(nodes, V, {"w": SQUARE, "c": np.array(choice)})
    network = assert_same(proto, V)
    assert [n.op.name for n in network.nodes].count("Relu") == (1 if choice else 2)


def test_a_condition_about_shapes() -> None:
    """What torch writes for x.squeeze(1)."""
    squeezed = graph([("Squeeze", ["x", "a"], ["q"])], [], ["q"], a=np.array([1]))
    whole = graph([("Identity", ["x"], ["i"])], [], ["i"])
    nodes = [
        ("Shape", ["x"], ["s"], {}),
        ("Gather", ["s", "one"], ["n"], {}),
        ("Equal", ["n", "one"], ["c"], {}),
        ("If", ["c"], ["h"], {"then_branch": squeezed, "else_branch": whole}),
        ("Relu", ["h"], ["y"], {}),
    ]
    assert assert_same(model(nodes, (1, 1, 4), {"one": np.array(1)}), (1, 1, 4)).output_shape == (
        4,
    )
    open_axis = model(nodes, (1, "n", 4), {"one": np.array(1)})
    x = RNG.normal(0, 1, (1, 2, 4)).astype(F)
    found = load(open_axis, input_shape=(1, 2, 4)).forward(x)
    assert np.array_equal(found, runtime(open_axis, x))


def test_names_inside_do_not_hide_those_around() -> None:
    """A value of the graph around has the very name that one inside would get."""
    inner = graph([("Neg", ["x"], ["a"]), ("Add", ["a", "n0/a"], ["b"])], [], ["b"])
    nodes = [
        ("If", ["c"], ["t"], {"then_branch": inner, "else_branch": inner}),
        ("Exp", ["x"], ["n0/a"], {}),
        ("Mul", ["t", "n0/a"], ["y"], {}),
    ]
    proto = model(nodes, V, {"c": np.array(True)})
    # The runtime wants the nodes in order.
    proto.graph.node.insert(0, proto.graph.node.pop(1))
    assert_same(proto, V)


def test_nested_conditions_capture_what_lies_around_both() -> None:
    inner = graph([("Mul", ["h", "x"], ["m"])], [], ["m"])
    other = graph([("Sub", ["h", "w0"], ["m"])], [], ["m"])
    simple = graph([("Neg", ["x"], ["p"])], [], ["p"])
    outer = graph([("Neg", ["x"], ["h"])], [], ["k"])
    outer.node.append(
        helper.make_node("If", ["d"], ["k"], name="deep", then_branch=other, else_branch=inner)
    )
    for deep in (True, False):
        nodes = [("If", ["c"], ["y"], {"then_branch": outer, "else_branch": simple})]
        constants = {"c": np.array(True), "d": np.array(deep), "w0": SQUARE[:1]}
        assert_same(model(nodes, V, constants), V)


def body(*more: Any, outputs: tuple[str, ...] = ("go", "v2")) -> Any:
    inputs = [value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL), value("v", V)]
    steps = [("MatMul", ["v", "w"], ["v1"]), ("Tanh", ["v1"], ["v2"]), *more]
    return graph(steps, inputs, list(outputs))


def test_loops_of_a_constant_number_of_turns() -> None:
    for turns in (0, 1, 3):
        inner = body(("Identity", ["c"], ["go"]))
        nodes = [("Loop", ["n", "t", "x"], ["y"], {"body": inner})]
        constants = {"n": np.array(turns), "t": np.array(True), "w": SQUARE}
        network = load(model([*nodes, ("Relu", ["y"], ["z"], {})], V, constants, outputs=("z",)))
        assert [n.op.name for n in network.nodes].count("Tanh") == turns
        assert_same(model([*nodes, ("Relu", ["y"], ["z"], {})], V, constants, outputs=("z",)), V)


def test_loops_until_a_condition_about_the_turn_and_what_they_gather() -> None:
    inner = body(
        ("Less", ["i", "last"], ["go"]),
        ("Identity", ["v1"], ["seen"]),
        outputs=("go", "v2", "seen"),
    )
    nodes = [
        ("Loop", ["", "t", "x"], ["o", "s"], {"body": inner}),
        ("ReduceSum", ["s", "axes"], ["r"], {"keepdims": 0}),
        ("Add", ["o", "r"], ["y"], {}),
    ]
    constants = {"t": np.array(True), "w": SQUARE, "last": np.array(2), "axes": np.array([0])}
    proto = model(nodes, V, constants)
    network = assert_same(proto, V)
    assert [n.op.name for n in network.nodes].count("Tanh") == 3
    low = RNG.normal(0, 1, V).astype(F)
    box = gamma.Box(low[0], low[0] + F(0.1))
    out = gamma.bounds(network, box, guarantee="float32")
    for _ in range(20):
        x = (low + RNG.random(V).astype(F) * F(0.1)).clip(low, box.upper).astype(F)
        y = runtime(proto, x)[0]
        assert ((out.lower <= y) & (y <= out.upper)).all()


def test_courses_that_depend_on_the_input_are_refused() -> None:
    nodes = [
        ("ReduceSum", ["x"], ["s"], {"keepdims": 0}),
        ("Greater", ["s", "z"], ["c"], {}),
        ("If", ["c"], ["y"], branches()),
    ]
    with pytest.raises(UnsupportedError, match=r"node n2: If .*comparison that depends"):
        load(model(nodes, V, {"w": SQUARE, "z": F(0)}))
    endless = body(("Identity", ["c"], ["go"]))
    nodes = [("Loop", ["", "t", "x"], ["y"], {"body": endless})]
    with pytest.raises(UnsupportedError, match=r"more than .* (turns|nodes)"):
        load(model(nodes, V, {"t": np.array(True), "w": SQUARE}))
    empty = graph([("Identity", ["c"], ["go"]), ("Identity", ["v"], ["v2"])], [
        value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL), value("v", V)
    ], ["go", "v2"])  # fmt: skip
    nodes = [("Loop", ["", "t", "x"], ["y"], {"body": empty})]
    with pytest.raises(UnsupportedError, match="more than 4096 turns"):
        load(model(nodes, V, {"t": np.array(True)}))
    nodes = [("If", ["c"], ["y"], {})]
    with pytest.raises(FormatError, match=r"node n0.*has no graph then_branch"):
        load(model(nodes, V, {"c": np.array(True), "w": SQUARE}))


def function(
    name: str, nodes: list[Any], inputs: list[str], outputs: list[str], **more: Any
) -> Any:
    made = [helper.make_node(op, i, o, domain=d) for op, i, o, d in nodes]
    imports = [helper.make_opsetid("", more.pop("opset", 17)), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, inputs, outputs, made, imports, **more)


def with_functions(nodes: list[Any], constants: dict[str, Any], *functions: Any) -> Any:
    proto = model(nodes, V, constants, 17)
    proto.functions.extend(functions)
    return proto


ACT = function(
    "Act", [("LeakyRelu", ["a"], ["b"], ""), ("Add", ["b", "a"], ["c"], "")], ["a"], ["c"],
    attributes=["slope"], attribute_protos=[helper.make_attribute("bend", 0.25)],
)  # fmt: skip


def bent(name: str) -> Any:
    """`ACT` whose slope is the attribute ``name`` of the call."""
    copy = onnx.FunctionProto.FromString(ACT.SerializeToString())
    copy.node[0].attribute.append(
        onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name=name)
    )
    return copy


def test_functions_of_the_file() -> None:
    """Twice, one within the other; attributes from the call, and their defaults."""
    twice = function(
        "Twice", [("Act", ["a"], ["b"], "own"), ("Gemm", ["b", "w", "v"], ["c"], "")],
        ["a", "w", "v"], ["c"],
    )  # fmt: skip
    twice.node[0].attribute.append(helper.make_attribute("slope", 0.5))
    nodes = [
        ("own.Twice", ["x", "w"], ["b"], {}),
        ("own.Act", ["b"], ["a"], {"slope": 0.125}),
        ("own.Twice", ["a", "w", "w0"], ["y"], {}),
    ]
    proto = with_functions(nodes, {"w": SQUARE, "w0": SQUARE[0]}, twice, bent("slope"))

    assert_same(proto, V)
    plain = [("own.Act", ["x"], ["y"], {})]
    assert_same(with_functions(plain, {}, bent("bend")), V)


def test_a_value_inside_of_a_function_can_be_asked_for_and_replayed() -> None:
    nodes = [("own.Act", ["x"], ["y"], {"slope": 0.125})]
    proto = with_functions(nodes, {}, bent("slope"))
    found = load(proto, output="n0/b").forward(np.array([[-8, 1, -2, 0]], F))
    assert found.tolist() == [[-1, 1, -0.25, 0]]
    alone = onnx.ModelProto.FromString(cut(proto.SerializeToString(), "x", "n0/b"))
    assert runtime(alone, np.array([[-8, 1, -2, 0]], F)).tolist() == [[-1, 1, -0.25, 0]]


def test_a_branch_is_replayed_with_what_it_captures() -> None:
    nodes = [
        ("Neg", ["x"], ["m"], {}),
        ("If", ["c"], ["t"], {
            "then_branch": graph([("Abs", ["m"], ["h"])], [], ["h"]),
            "else_branch": graph([("Neg", ["m"], ["h"])], [], ["h"]),
        }),
        ("Relu", ["t"], ["y"], {}),
    ]  # fmt: skip
    proto = model(nodes, V, {"c": np.array(False)})
    alone = onnx.ModelProto.FromString(cut(proto.SerializeToString(), "x", "t"))
    x = np.array([[-8, 1, -2, 0]], F)
    assert np.array_equal(runtime(alone, x), x)


def test_functions_that_are_refused() -> None:
    loops = function("Act", [("Act", ["a"], ["b"], "own")], ["a"], ["b"])
    nodes = [("own.Act", ["x"], ["y"], {})]
    with pytest.raises(FormatError, match="function Act calls itself"):
        load(with_functions(nodes, {}, loops))
    older = function("Act", [("Softmax", ["a"], ["b"], "")], ["a"], ["b"], opset=11)
    with pytest.raises(UnsupportedError, match="operator set 11, the graph 17"):
        load(with_functions(nodes, {}, older))
    with pytest.raises(FormatError, match="more inputs or outputs than the function"):
        load(with_functions([("own.Act", ["x", "x"], ["y"], {})], {}, bent("slope")))
    # 2^30 nodes in thirty functions.
    doubling = [
        function(
            f"F{k}", [(f"F{k - 1}" if k else "Relu", [a], [b], "own" if k else "")
                      for a, b in (("a", "b"), ("b", "c"))], ["a"], ["c"],
        )
        for k in range(30)
    ]  # fmt: skip
    with pytest.raises(UnsupportedError, match="more than 16384 nodes"):
        load(with_functions([("own.F29", ["x"], ["y"], {})], {}, *doubling))
