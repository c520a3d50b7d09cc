"""What onnxruntime makes of a model: every value as written, and the output when optimised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, helper

Run = Callable[[Any], dict[str, Any]]


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
    """Ways of running the model: one point -> values by name."""
    shown = ModelProto()
    shown.CopyFrom(model)
    known = {o.name for o in shown.graph.output}
    for node in shown.graph.node:
        if node.output[0] not in known:
            shown.graph.output.append(helper.make_empty_tensor_value_info(node.output[0]))
    feed = model.graph.input[0]
    shape = [d.dim_value for d in feed.type.tensor_type.shape.dim]
    found: list[tuple[str, Run]] = []
    for what, source, optimised in (
        ("onnxruntime", shown, False),
        ("optimised onnxruntime", model, True),
    ):
        session = _session(source, optimised)
        names = [o.name for o in session.get_outputs()]

        def run(point: Any, session: Any = session, names: list[str] = names) -> dict[str, Any]:
            x = np.asarray(point, np.float32).reshape(shape)
            return dict(zip(names, session.run(None, {feed.name: x}), strict=True))

        found.append((what, run))
    return found
