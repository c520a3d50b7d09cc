"""What a file is asked for: any value, what lies behind it alone, and ends that keep the order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import gamma
from gamma.errors import UnsupportedError, UsageError
from gamma.verification.replay import Replay
from tests.formats.onnx_models import load, model

WEIGHT = {"W": np.array([[1, 2], [-1, 3]], np.float32)}
DENSE = ("MatMul", ["x", "W"], ["logits"], {})


@pytest.mark.parametrize("opset", [22, 24, 28])
def test_later_operator_sets_load(opset: int) -> None:
    net = load(model([DENSE, ("Softplus", ["logits"], ["y"], {})], (1, 2), WEIGHT, opset=opset))
    assert [node.op.name for node in net.nodes] == ["Input", "Gemm", "Softplus"]


def test_an_operator_set_nobody_has_seen_is_refused_by_operator() -> None:
    with pytest.raises(UnsupportedError, match=r"MatMul .*operator set 999"):
        load(model([DENSE], (1, 2), WEIGHT, opset=999, outputs=["logits"]))


def test_any_value_is_an_output_and_errors_name_a_near_one() -> None:
    proto = model([DENSE, ("Hardmax", ["logits"], ["y"], {})], (1, 2), WEIGHT)
    found = load(proto, output="logits").forward(np.array([1.0, 2.0]), np.float64)
    assert found.tolist() == [-1.0, 8.0]
    with pytest.raises(UsageError, match="did you mean logits"):
        load(proto, output="logit")
    with pytest.raises(UnsupportedError, match="output=logits"):
        load(proto)


def test_what_lies_behind_other_outputs_is_not_checked() -> None:
    other = ("Strange", ["logits", "z"], ["w"], {})
    proto = model([DENSE, other], (1, 2), WEIGHT, outputs=["logits", "w"])
    proto.graph.node[1].domain = "com.example"
    proto.graph.input.append(helper.make_tensor_value_info("z", TensorProto.STRING, [1]))
    sequence = helper.make_tensor_sequence_value_info("w", TensorProto.FLOAT, None)
    proto.graph.output[1].CopyFrom(sequence)
    assert load(proto, output="logits").output_shape == (2,)
    with pytest.raises(UnsupportedError, match=r"com\.example\.Strange|expected one"):
        load(proto, output="w")


@pytest.mark.parametrize(
    ("end", "shape", "skipped"),
    [
        (("Softmax", {"axis": -1}), (1, 2), True),
        (("LogSoftmax", {"axis": 1}), (1, 2), True),
        (("ArgMax", {"axis": 1, "keepdims": 0}), (1, 2), True),
        (("Sigmoid", {}), (1, 2), True),
        (("Sigmoid", {}), (3, 2), True),
        (("Softmax", {"axis": -1}), (3, 2), False),  # three rows, each compared with itself
        (("Softmax", {"axis": 0}), (1, 2), False),  # all ones
        (("ArgMax", {"axis": 0}), (1, 2), False),
        (("ArgMax", {"axis": 1, "select_last_index": 1}), (1, 2), False),
    ],
)
def test_only_ends_that_keep_the_order_of_all_entries_are_left_out(
    end: tuple[str, dict[str, int]], shape: tuple[int, ...], skipped: bool
) -> None:
    proto = model([DENSE, (end[0], ["logits"], ["y"], end[1])], shape, WEIGHT)
    if not skipped and end[0] == "Softmax":
        assert load(proto, ranking=True).metadata["output"] == "y"
        return
    if not skipped:
        with pytest.raises(UnsupportedError, match=end[0]):
            load(proto, ranking=True)
        return
    net = load(proto, ranking=True)
    assert net.metadata["output"] == "logits" and end[0] in net.notes[0]


def test_inner_values_and_whole_numbers_are_replayed_by_the_file(tmp_path: Path) -> None:
    """The witness is fed in the file's own type; a point that is none of it confirms nothing."""
    cast = ("Cast", ["x"], ["f"], {"to": TensorProto.FLOAT})
    dense = ("MatMul", ["f", "W"], ["logits"], {})
    end = ("Softmax", ["logits"], ["y"], {})
    path = tmp_path / "bytes.onnx"
    onnx.save(model([cast, dense, end], (1, 2), WEIGHT, dtype=TensorProto.UINT8), path)
    net = gamma.load(path, output="logits")
    out = gamma.bounds(net, gamma.Box(np.zeros(2), np.full(2, 255.0)), method="ibp")
    assert (out.lower <= [[-255, 0]]).all() and (out.upper >= [[255, 1275]]).all()
    prop = gamma.robustness(gamma.Box(np.zeros(2), np.ones(2)), label=0).resolve(2)
    replay = Replay(net, prop)
    assert replay.runner is not None
    assert replay.runner(np.array([3, 4], np.float32)).tolist() == [-1.0, 18.0]
    with pytest.raises(UnsupportedError, match="no point of uint8"):
        replay.runner(np.array([0.5, 4], np.float32))
    assert replay(0, np.array([0.6, 0.9], np.float32)).x.tolist() == [1.0, 1.0]  # type: ignore[union-attr]
    for low, high in ((0.25, 0.75), (-3.0, -1.0)):  # no whole number; none that uint8 holds
        box = gamma.Box(np.full(2, low), np.full(2, high))
        assert (
            gamma.verify(net, gamma.robustness(box, label=0), method="crown").verdict != "violated"
        )


def test_second_outputs() -> None:
    mask = [("Dropout", ["x"], ["d", "m"], {}), ("Cast", ["m"], ["c"], {"to": 1})]
    net = load(model([*mask, ("Mul", ["d", "c"], ["y"], {})], (1, 2)))
    assert net.forward(np.array([1.5, -2.0])).tolist() == [1.5, -2.0]
    statistic = {k: np.ones(2, np.float32) for k in ("s", "b", "m", "v")}
    names = ["y", "m2", "v2", "sm", "sv"]
    normal = ("BatchNormalization", ["x", *statistic], names, {})
    assert load(model([normal], (1, 2), statistic, opset=9)).output_shape == (2,)
    again = ("Add", ["y", "m2"], ["z"], {})
    with pytest.raises(UnsupportedError, match="'m2', an output of its operator"):
        load(model([normal, again], (1, 2), statistic, opset=9, outputs=["z"]))
    with pytest.raises(UnsupportedError, match="does not compute"):
        load(model([normal], (1, 2), statistic, opset=9, outputs=["m2"]))


def test_integers_are_moved_and_cast_and_nothing_else() -> None:
    """uint8 sums wrap and integer divisions truncate: a bound of the reals would be wrong."""
    for op in ("Neg", "Relu", "ReduceSum", "ReduceMean"):
        with pytest.raises(UnsupportedError, match="computes with integers"):
            load(model([(op, ["x"], ["y"], {})], (1, 2), dtype=TensorProto.INT32))


@pytest.mark.parametrize("dtype", [TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64])
def test_a_cast_to_float32_is_charged_its_rounding(dtype: int) -> None:
    net = load(model([("Cast", ["x"], ["y"], {"to": TensorProto.FLOAT})], (1, 1), dtype=dtype))
    x = float(2**24 + 1)  # float32 rounds it to 2^24
    box = gamma.Box(np.array([x]), np.array([x]))
    real = gamma.bounds(net, box, method="crown", dtype="float64")
    charged = gamma.bounds(net, box, method="crown", dtype="float64", guarantee="float32")
    assert (real.lower <= x).all() and (x <= real.upper).all()
    assert (charged.lower <= 2**24).all() and (x <= charged.upper).all()


def test_cast_like_casts_to_the_type_of_another_value() -> None:
    one = ("CastLike", ["c", "x"], ["k"], {})
    net = load(model([one, ("Mul", ["x", "k"], ["y"], {})], (1, 2), {"c": np.array(3)}, opset=15))
    assert net.forward(np.array([1.0, -2.0])).tolist() == [3.0, -6.0]


def test_a_fixed_batch_is_named() -> None:
    """An export with a batch of four: its images are no single input, and the error says so."""
    weight = {"W": np.ones((2, 1, 3, 3), np.float32)}
    with pytest.raises(UnsupportedError, match=r"fixed at 4.*export it with a batch of 1"):
        load(model([("Conv", ["x", "W"], ["y"], {})], (4, 1, 5, 5), weight))
    assert "fixed at 4" in load(model([("Relu", ["x"], ["y"], {})], (4, 3))).notes[0]
    assert not load(model([("Relu", ["x"], ["y"], {})], ("N", 3))).notes
    assert not load(model([("Relu", ["x"], ["y"], {})], (3,))).notes


def test_a_left_out_end_is_said_with_every_verdict(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(model([DENSE, ("Softmax", ["logits"], ["y"], {})], (1, 2), WEIGHT), path)
    net = gamma.load(path, ranking=True)
    prop = gamma.robustness(gamma.Box(np.full(2, 1.0), np.full(2, 1.5)), label=1)
    result = gamma.verify(net, prop)
    assert result.verdict == "verified"
    assert any("Softmax" in note and "logits" in note for note in result.notes)
