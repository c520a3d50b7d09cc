"""`StreamingVerifier`: the streamed walks under the names researchers know them by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gamma.errors import UsageError
from gamma.network.graph import Network
from gamma.propagate.api import bounds
from gamma.propagate.blocks import boxes_at_once
from gamma.propagate.choosing import few_in_float64, kept
from gamma.propagate.memory.planning import MemoryPlan, plan_memory
from gamma.propagate.memory.streaming import StreamingConfig
from gamma.tensor.bounded import BoundedTensor
from gamma.tensor.box import Box


class StreamingVerifier:
    """Bounds with little memory.

    Args:
        config: how little; `StreamingConfig.balanced` by default. guarantee, dtype: as in
            `gamma.bounds`.
    """

    def __init__(
        self,
        config: StreamingConfig | None = None,
        *,
        guarantee: str = "real",
        dtype: str = "auto",
    ) -> None:
        self.config = config or StreamingConfig.balanced()
        self.guarantee, self.dtype = guarantee, dtype

    def propagate_crown_streaming(
        self, network: Network, box: Box, method: str = "crown-ibp"
    ) -> BoundedTensor:
        """Output bounds for one box (or a batch of them, with a leading axis).

        ``method`` "crown-ibp" computes intermediate bounds segment by segment, "crown" keeps them.
        Raises ResourceError when the memory limit cannot be kept.
        """
        if method not in ("crown-ibp", "crown"):
            raise UsageError(f"method {method!r}: expected crown-ibp or crown")
        found: BoundedTensor = bounds(
            network,
            box,
            method=method,
            guarantee=self.guarantee,
            dtype=self.dtype,
            streaming=self.config,
        )
        return found

    def propagate_crown_batched_streaming(
        self, network: Network, boxes: Box | Sequence[Box], method: str = "crown-ibp"
    ) -> BoundedTensor:
        """Output bounds (batch, *output shape) for many boxes, as many at once as fit.

        A sequence holds boxes of one input each, all intervals.
        """
        if isinstance(boxes, Box):
            many = boxes.batched(network.input_shape)
        else:
            if not boxes or any(box.norm != "inf" for box in boxes):
                raise UsageError("boxes: expected at least one, all of them intervals")
            single = [box.batched(network.input_shape) for box in boxes]
            lower, upper = (
                np.concatenate([getattr(box, end) for box in single]) for end in ("lower", "upper")
            )
            many = Box(lower, upper)
        found = self.propagate_crown_streaming(network, many, method)
        if found.lower.ndim == len(network.output_shape):
            return BoundedTensor(found.lower[None], found.upper[None])
        return found

    def plan(self, network: Network, boxes: int = 1, method: str = "crown-ibp") -> MemoryPlan:
        """What a call with so many boxes will take, and with which settings."""
        dtype: np.dtype[Any] = np.dtype(np.float64 if self.dtype == "float64" else np.float32)
        rows = 2 * int(np.prod(network.output_shape))
        together = min(boxes, boxes_at_once(network))
        keep, wide = kept(network, method), few_in_float64(network, method, self.dtype)
        return plan_memory(
            network, together, rows, method, dtype, self.config, keep=keep, wide=wide
        )
