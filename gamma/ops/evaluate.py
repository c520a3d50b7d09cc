"""Point evaluation and gradients of a network: what the attack needs, not bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.network.graph import Network

Array = npt.NDArray[Any]


def evaluate(network: Network, x: Array, check: Callable[[], None] = lambda: None) -> Array:
    """Outputs (batch, *output_shape) for points (batch, *input_shape), in the dtype of ``x``.

    ``check`` is called before every node; what it raises ends the evaluation.
    """
    return network.values(x, check)[network.output]


def gradient(
    network: Network,
    x: Array,
    seed: Array | Callable[[Array], Array],
    check: Callable[[], None] = lambda: None,
) -> tuple[Array, Array]:
    """Outputs and the vector-Jacobian product seed·dy/dx (batch, *input_shape).

    ``seed`` is (batch, *output_shape), or a function that computes it from the outputs; ``check``
    as for `evaluate`.
    """
    values = network.values(x, check)
    output = values[network.output]
    pending: dict[int, Array] = {network.output: seed(output) if callable(seed) else seed}
    for index in range(network.output, 0, -1):
        flow = pending.pop(index, None)
        if flow is None:
            continue
        check()
        node = network.nodes[index]
        parts = node.op.vjp(flow, [values[i] for i in node.inputs], values[index])
        for i, part in zip(node.inputs, parts, strict=True):
            pending[i] = pending[i] + part if i in pending else part
    return output, pending.get(0, np.zeros_like(x))
