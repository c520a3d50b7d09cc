"""save and load of spelled-out graphs: the identity over every operator, and hostile graphs."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple
from safetensors.numpy import save_file

from gamma.errors import FormatError, GammaError, UnsupportedError, UsageError
from gamma.formats.detect import load
from gamma.formats.save import save
from gamma.formats.spelled import KEY, SCHEMA
from gamma.network.graph import Builder, Network
from gamma.ops import TABLE, Gather, Gemm, Input, Operator, Relu, Reshape
from gamma.ops.products import Product
from gamma.verification.describe import reading_notes

RNG = np.random.default_rng(0)


def weights(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


CASES: dict[str, list[tuple[dict[str, Any], tuple[int, ...], int]]] = {
    # operator -> (fields, input shape, how many inputs)
    "Gemm": [
        ({"weight": weights(3, 4), "bias": weights(3)}, (4,), 1),
        ({"weight": weights(3, 4, dtype=np.float64)}, (2, 4), 1),
    ],
    "Conv": [
        (
            {
                "weight": weights(4, 1, 3, 2),
                "bias": weights(4),
                "strides": (2, 1),
                "pads": (1, 0, 2, 1),
                "dilations": (1, 2),
                "group": 2,
            },
            (2, 6, 7),
            1,
        ),
        (
            {"weight": weights(2, 3, 3), "strides": (1,), "pads": (1, 1), "dilations": (1,)},
            (3, 8),
            1,
        ),
    ],
    "ConvTranspose": [
        (
            {
                "weight": weights(2, 3, 3, 3),
                "bias": weights(3),
                "strides": (2, 2),
                "output_padding": (1, 0),
            },
            (2, 4, 4),
            1,
        )
    ],
    "Scale": [
        ({"scale": weights(3, 1, 1), "shift": weights(3, 1, 1)}, (3, 2, 2), 1),
        (
            {
                "scale": weights(4, dtype=np.float64),
                "shift": weights(4, dtype=np.float64),
                "scale_error": 2.0**-53,
                "shift_error": abs(weights(4, dtype=np.float64)),
            },
            (4,),
            1,
        ),
        ({"scale": weights(1), "shift_error": 1e-300}, (4,), 1),
    ],
    "Add": [({"signs": (1, -1, 1)}, (4,), 3)],
    "Concat": [({"axis": 0}, (4, 2), 2)],
    "ReduceSum": [
        ({"axes": (1,), "keepdims": False, "scale": 1 / 3, "scale_error": 2.0**-53}, (4, 3), 1)
    ],
    "Reshape": [({"target": (2, 6)}, (3, 4), 1)],
    "Transpose": [({"perm": (1, 0)}, (3, 4), 1)],
    "Gather": [
        ({"index": np.array([5, -1, 0], np.int64), "target": (3, 1), "fill": -1.5}, (2, 3), 1)
    ],
    "ReduceMax": [({"axis": 1}, (4, 3), 1)],
    "Mul": [({}, (4,), 2)],
    "MatMul": [({}, (3, 3), 2)],
    "Softmax": [({}, (3, 2), 1), ({"axis": 0}, (3, 2), 1)],
    "LogSoftmax": [({}, (3, 2), 1), ({"axis": 0}, (3, 2), 1)],
    "Normalize": [({}, (3, 2), 1), ({"axis": 0, "epsilon": 0.1, "centred": False}, (3, 2), 1)],
    "LeakyRelu": [({"alpha": 0.1}, (4,), 1)],
    "PRelu": [({"slope": abs(weights(4))}, (4,), 1)],
    "Clip": [
        ({"min": 0.1, "max": 6.0}, (4,), 1),
        ({"min": -np.inf, "max": 1.0}, (4,), 1),
        ({"min": -1.0, "max": np.inf}, (4,), 1),
    ],
    "HardSigmoid": [({"alpha": 0.2, "beta": 0.5}, (4,), 1)],
    "Elu": [({"alpha": 0.7}, (4,), 1)],
    "Pow": [({"exponent": 2.0}, (4,), 1), ({"exponent": 3.0}, (4,), 1)],
    "Gelu": [({"approximate": "tanh"}, (4,), 1), ({"approximate": "none"}, (4,), 1)],
}


def network(op: Operator, shape: tuple[int, ...], inputs: int) -> Network:
    builder = Builder(Input(), shape, "x")
    sources = [builder.add(Relu(), 0) for _ in range(inputs)]
    return builder.build(builder.add(op, *sources, name="last"), notes=("made by a test",))


ALL = [
    (name, number)
    for name in TABLE
    if name != "Input"
    for number in range(len(CASES.get(name, [()])))
]


@pytest.mark.parametrize(("name", "number"), ALL)
def test_save_then_load_is_the_identity(tmp_path: Path, name: str, number: int) -> None:
    fields, shape, inputs = CASES.get(name, [({}, (4,), 1)])[number]
    net = network(TABLE[name](**fields), shape, inputs)
    save(net, tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors")
    assert_same(net, again)
    assert again.source is not None and again.source.kind == "safetensors"


def assert_same(net: Network, again: Network) -> None:
    """Same nodes, same records, same bits."""
    assert len(net.nodes) == len(again.nodes)
    assert (net.output, net.notes) == (again.output, again.notes)
    for a, b in zip(net.nodes, again.nodes, strict=True):
        assert (a.name, a.inputs, a.shape, type(a.op)) == (b.name, b.inputs, b.shape, type(b.op))
        for x, y in zip(astuple(a.op), astuple(b.op), strict=True):
            assert type(x) is type(y) or isinstance(x, np.ndarray)
            if isinstance(x, np.ndarray):
                assert x.dtype == y.dtype and x.shape == y.shape
                assert x.tobytes() == y.tobytes()
            else:
                assert x == y


def test_every_operator_with_fields_has_a_case() -> None:
    with_fields = {
        name
        for name, record in TABLE.items()
        if record.__struct_fields__ or issubclass(record, Product)
    }
    assert with_fields == set(CASES), "a new operator needs a case here"


def small() -> Network:
    builder = Builder(Input(), (2,), "x")
    at = builder.add(Gemm(weights(3, 2), weights(3)), 0, name="fc")
    return builder.build(builder.add(Relu(), at, name="relu"))


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    net = small()
    save(net, tmp_path / "a.safetensors")
    save(load(tmp_path / "a.safetensors"), tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_tensors_of_like_names_and_steps_within_a_node_are_kept(tmp_path: Path) -> None:
    builder = Builder(Input(), (2,), "x")
    at = builder.add(Gemm(weights(2, 2)), 0, name="fc")
    at = builder.add(Gemm(weights(2, 2)), at, name="fc", inner=True)
    net = builder.build(builder.add(Gemm(weights(2, 2)), at, name="fc.weight"))
    save(net, tmp_path / "a.safetensors")
    back = load(tmp_path / "a.safetensors")
    assert_same(net, back)
    assert [n.name for n in back.nodes] == ["x", "fc", "fc/1", "fc.weight"]
    assert [n.inner for n in back.nodes] == [False, False, True, False]


def test_writing_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.safetensors"
    save(small(), target)
    before = target.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UsageError, match="No space left"):
        save(small(), target)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_saving_where_it_cannot_go(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="saved as"):
        save(small(), tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="cannot be written"):
        save(small(), tmp_path / "absent" / "net.safetensors")


def test_options_are_refused_for_a_spelled_graph(tmp_path: Path) -> None:
    save(small(), tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match="spells its graph out, activation"):
        load(tmp_path / "a.safetensors", activation="relu")
    load(tmp_path / "a.safetensors", activation=None)


GOOD = {
    "schema": SCHEMA,
    "nodes": [
        {"name": "x", "op": "Input", "shape": [1, 4, 4]},
        {
            "name": "c",
            "op": "Conv",
            "inputs": [0],
            "attributes": {"strides": [1, 1], "pads": [0, 0, 0, 0], "group": 1},
            "tensors": {"weight": "w", "bias": "b"},
        },
        {"name": "g", "op": "Gather", "inputs": [1], "attributes": {"target": [2], "fill": 0.0},
         "tensors": {"index": "i"}},
    ],
    "output": 2,
}  # fmt: skip
TENSORS = {
    "w": np.ones((2, 1, 3, 3), np.float32),
    "b": np.zeros(2, np.float32),
    "i": np.array([0, 1], np.int64),
}


def load_graph(tmp_path: Path, graph: Any, tensors: dict[str, np.ndarray] | None = None) -> Network:
    text = graph if isinstance(graph, str) else json.dumps(graph)
    path = tmp_path / "net.safetensors"
    save_file(TENSORS if tensors is None else tensors, path, metadata={KEY: text})
    return load(path)


def test_the_good_graph_loads(tmp_path: Path) -> None:
    net = load_graph(tmp_path, GOOD)
    assert net.output_shape == (2,)
    assert isinstance(net.nodes[2].op, Gather)


CHANGES: list[tuple[list[Any], Any, str]] = [
    (["schema"], "gamma.graph/2", "schema"),
    (["nodes"], [], "starts with the input"),
    (["nodes"], {}, "starts with the input"),
    (["output"], 3, "output 3"),
    (["output"], True, "output True"),
    (["notes"], "x", "notes"),
    (["colour"], 1, "unknown"),
    (["nodes", 0, "shape"], [0], "positive integers"),
    (["nodes", 0, "shape"], [1 << 62], "more than"),
    (["nodes", 0, "shape"], [1] * 17, "positive integers"),
    (["nodes", 0, "op"], "Relu", "must be an Input"),
    (["nodes", 0, "name"], 3, "has no name"),
    (["nodes", 0, "name"], "a\x1b[31m", "has no name"),
    (["nodes", 1], None, "has no name"),
    (["nodes", 1, "op"], "Softmax3", "not one gamma knows"),
    (["nodes", 1, "op"], "Input", "not one gamma knows"),
    (["nodes", 1, "op"], ["Conv"], "not one gamma knows"),
    (["nodes", 1, "inputs"], [1], "earlier nodes"),
    (["nodes", 1, "inputs"], [-1], "earlier nodes"),
    (["nodes", 1, "inputs"], [], "earlier nodes"),
    (["nodes", 1, "inputs"], [0, 0], "node c"),
    (["nodes", 1, "attributes"], [], "must be objects"),
    (["nodes", 1, "attributes", "strides"], [0, 1], "strides"),
    (["nodes", 1, "attributes", "strides"], [1], "node c"),
    (["nodes", 1, "attributes", "strides"], [1.5, 1], "strides"),
    (["nodes", 1, "attributes", "strides"], "11", "strides"),
    (["nodes", 1, "attributes", "pads"], [-1, 0, 0, 0], "pads"),
    (["nodes", 1, "attributes", "dilations"], [9, 9], "node c"),
    (["nodes", 1, "attributes", "dilations"], [0, 1], "dilations"),
    (["nodes", 1, "attributes", "group"], 0, "group"),
    (["nodes", 1, "attributes", "group"], True, "group"),
    (["nodes", 1, "attributes", "group"], 1 << 40, "group"),
    (["nodes", 1, "attributes", "colour"], 1, "Conv takes"),
    (["nodes", 1, "attributes", "weight"], 1, "Conv takes"),
    (["nodes", 1, "tensors"], {"bias": "b"}, "Conv takes"),
    (["nodes", 1, "tensors", "weight"], "absent", "not in the file"),
    (["nodes", 1, "tensors", "weight"], ["w"], "not in the file"),
    (["nodes", 1, "tensors", "weight"], "i", "cannot be a tensor of I64"),
    (["nodes", 1, "tensors", "weight"], "b", "node c: weight has shape"),
    (["nodes", 1, "tensors", "bias"], "w", "bias has shape"),
    (["nodes", 1, "tensors"], {"weight": "w"}, "b: no node of the graph uses"),
    (["nodes", 2, "attributes", "fill"], "nan", "fill"),
    (["nodes", 2, "attributes", "fill"], 10**400, "fill"),
    (["nodes", 2, "attributes", "target"], [3], "node g"),
    (["nodes", 2, "attributes", "target"], [1 << 30, 1 << 30], "node g"),
    (["nodes", 2, "tensors", "index"], "w", "cannot be a tensor of F32"),
]


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_a_changed_graph_is_one_clear_line(tmp_path: Path, number: int) -> None:
    where, value, message = CHANGES[number]
    graph = copy.deepcopy(GOOD)
    target: Any = graph
    for step in where[:-1]:
        target = target[step]
    target[where[-1]] = value
    with pytest.raises(GammaError, match=message) as caught:
        load_graph(tmp_path, graph)
    assert isinstance(caught.value, FormatError | UnsupportedError)
    assert "net.safetensors: " in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize("shape", [(3,), (1, 1, 2, 2), (2, 1, 1, 1, 1)])
def test_entrywise_arrays_must_fit(tmp_path: Path, shape: tuple[int, ...]) -> None:
    for name, field in (("PRelu", "slope"), ("Scale", "scale")):
        node = {"name": "n", "op": name, "inputs": [0], "tensors": {field: "w"}}
        nodes = [{"name": "x", "op": "Input", "shape": [1, 2, 2]}, node]
        graph = {"schema": SCHEMA, "nodes": nodes, "output": 1}
        with pytest.raises(FormatError, match="node n"):
            load_graph(tmp_path, graph, {"w": np.ones(shape, np.float32)})


def test_index_outside_is_refused(tmp_path: Path) -> None:
    for index in ([0, 8], [-2, 0]):
        tensors = {**TENSORS, "i": np.array(index, np.int64)}
        with pytest.raises(FormatError, match="node g"):
            load_graph(tmp_path, GOOD, tensors)


def test_a_graph_cannot_grow_without_end(tmp_path: Path) -> None:
    nodes: list[dict[str, Any]] = [{"name": "x", "op": "Input", "shape": [1024]}]
    for number in range(60):
        concat = {"name": f"c{number}", "op": "Concat", "inputs": [number, number]}
        nodes.append({**concat, "attributes": {"axis": 0}})
    graph = {"schema": SCHEMA, "nodes": nodes, "output": 60}
    with pytest.raises(FormatError, match="more than"):
        load_graph(tmp_path, graph, {})


def test_every_field_deleted(tmp_path: Path) -> None:
    """Whatever single entry is missing: an error, or a default of the record."""

    def paths(item: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if not isinstance(item, dict | list):
            return []
        steps = item.items() if isinstance(item, dict) else enumerate(item)
        return [p for key, v in steps for p in [(*prefix, key), *paths(v, (*prefix, key))]]

    for path in (p for p in paths(GOOD) if p):
        graph = copy.deepcopy(GOOD)
        target: Any = graph
        for step in path[:-1]:
            target = target[step]
        del target[path[-1]]
        try:
            load_graph(tmp_path, graph)
        except GammaError as error:
            assert str(error).isprintable()
        else:
            assert "attributes" in path[-2:]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 65), 1 << 65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "x", "w", "b", "i", "inf", *TABLE]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_random_changes_never_crash(data: Any) -> None:
    """One or two entries anywhere replaced by random JSON: a network or a clear error."""
    whole: Any = {"graph": copy.deepcopy(GOOD)}
    for _ in range(data.draw(st.integers(1, 2))):
        target, key = whole, "graph"
        while isinstance(target[key], dict | list) and target[key] and data.draw(st.booleans()):
            target = target[key]
            keys = list(target) if isinstance(target, dict) else list(range(len(target)))
            key = data.draw(st.sampled_from(keys))
        target[key] = data.draw(JSON)
    try:
        with tempfile.TemporaryDirectory() as folder:
            load_graph(Path(folder), whole["graph"])
    except GammaError as error:
        assert str(error).isprintable()


def test_reshape_of_an_image(tmp_path: Path) -> None:
    builder = Builder(Input(), (1, 2, 3), "x")
    net = builder.build(builder.add(Reshape((6,)), 0))
    save(net, tmp_path / "net.safetensors")
    x = RNG.random((5, 1, 2, 3), np.float32)
    assert np.array_equal(load(tmp_path / "net.safetensors").forward(x), x.reshape(5, 6))


@pytest.mark.parametrize(("dtype", "kind"), [("float16", "float16"), ("float32", "")])
def test_short_weights_are_noted(dtype: str, kind: str, tmp_path: Path) -> None:
    stored = {"0.weight": np.ones((2, 3), dtype), "0.bias": np.zeros(2, dtype)}
    save_file(stored, tmp_path / "x.safetensors")
    net = load(tmp_path / "x.safetensors", activation="relu")
    for notes in (net.notes, reading_notes(net)):
        assert any(f"executions in {kind} round further" in n for n in notes) == bool(kind)
