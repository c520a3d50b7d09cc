"""What runtimes make of a model: every value as written, and the output when optimised."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import RuntimeImplementationError

Run = Callable[[Any], dict[str, Any]]
_FAULTY = ("GlobalMaxPool", "MaxPool", "LogSoftmax")
"""Operators of which onnx's reference is wrong or fails (one axis; windows that overlap pads), or
does not compute as the standard has it (the logarithm of a softmax, which underflows)."""


def _faulty(node: NodeProto) -> bool:
    """Whether the reference lacks the node, or has it wrong: an RNN knows one activation there."""
    others = [a for a in node.attribute if a.name == "activations" and set(a.strings) != {b"Tanh"}]
    return node.op_type in _FAULTY or (node.op_type == "RNN" and bool(others))


def _session(model: ModelProto, optimised: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    )
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def sessions(model: ModelProto) -> list[tuple[str, Run]]:
    """Ways of running the model: one point -> values by name.

    The reference of onnx computes as the standard's text has it, which runtimes need not: a
    normalisation multiplies by its gain before it divides.
    """
    shown = ModelProto()
    shown.CopyFrom(model)
    known = {o.name for o in shown.graph.output}
    for node in shown.graph.node:
        for name in node.output:
            if name and name not in known:
                shown.graph.output.append(helper.make_empty_tensor_value_info(name))
    feed = model.graph.input[0]
    shape = [d.dim_value for d in feed.type.tensor_type.shape.dim]
    found: list[tuple[str, Run]] = []
    runtimes: list[tuple[str, Any]] = [
        ("onnxruntime", _session(shown, False)),
        ("optimised onnxruntime", _session(model, True)),
    ]
    if not any(_faulty(node) for node in model.graph.node):
        with suppress(RuntimeImplementationError):  # it lacks some operators
            runtimes.append(("reference", ReferenceEvaluator(shown)))
    for what, made in runtimes:
        reference = isinstance(made, ReferenceEvaluator)
        names = made.output_names if reference else [o.name for o in made.get_outputs()]

        def run(point: Any, made: Any = made, names: list[str] = names) -> dict[str, Any]:
            x = np.asarray(point, np.float32).reshape(shape)
            with np.errstate(all="ignore"):
                return dict(zip(names, made.run(None, {feed.name: x}), strict=True))

        found.append((what, run))
    return found
