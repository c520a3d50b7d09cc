"""CROWN over IBP intermediates that are not all in memory: `Walk` with another store."""

from __future__ import annotations

from dataclasses import dataclass

from gamma import tuning
from gamma.errors import UsageError
from gamma.network.graph import Network
from gamma.propagate.api import _options
from gamma.propagate.interval import interval_step
from gamma.propagate.state import NodeBounds
from gamma.propagate.store import CheckpointedBounds
from gamma.propagate.walks import DEFAULT_ROW_BYTES, Options, Walk, to_output
from gamma.tensor.bounded import BoundedTensor
from gamma.tensor.box import Box

# These keep tables of all nodes, or let several threads ask for different segments.
_WITHOUT = ("fused_network", "fused_walk", "row_threads")


@dataclass(frozen=True)
class StreamingConfig:
    """How a streaming walk keeps bounds.

    Attributes:
        checkpoint_interval: nodes from one checkpoint to the next, at least.

    Raises:
        UsageError: an interval below 1.
    """

    checkpoint_interval: int = 10

    def __post_init__(self) -> None:
        if self.checkpoint_interval < 1:
            raise UsageError(f"checkpoint_interval {self.checkpoint_interval}: expected at least 1")


class StreamingWalk(Walk):
    """A crown-ibp walk that keeps checkpoints and one segment of bounds, and their tables."""

    def __init__(self, network: Network, box: Box, options: Options, interval: int) -> None:
        self._interval = interval
        super().__init__(network, box, options)

    def _store(self) -> CheckpointedBounds:
        network, options = self.network, self.options

        def step(index: int, inputs: list[NodeBounds]) -> NodeBounds:
            options.check()
            return interval_step(network.nodes[index], inputs, options.guarantee, options.dtype)

        return CheckpointedBounds(network, self._interval, step, self._drop)

    def _drop(self, index: int) -> None:
        if "backward" in self.__dict__:
            self.backward.forget(index)


@dataclass(frozen=True)
class StreamingVerifier:
    """Bounds by crown-ibp in the memory of a few layers' bounds.

    Weights and coefficient rows take what they take in `gamma.bounds`.
    """

    config: StreamingConfig = StreamingConfig()

    def propagate_crown_streaming(
        self,
        network: Network,
        box: Box,
        *,
        guarantee: str = "real",
        dtype: str = "auto",
        deadline: float | None = None,
        row_bytes: int = DEFAULT_ROW_BYTES,
    ) -> BoundedTensor:
        """Bounds of the outputs over ``box``; a leading batch axis gives a leading batch axis.

        Bit for bit what ``gamma.bounds(..., method="crown-ibp")`` gives with the gates
        fused_network and fused_walk off. Every block of rows (``row_bytes``) recomputes the
        segments.

        Raises:
            ResourceError: the deadline (``time.monotonic()``) passed. UsageError: bad options.
        """
        options = _options(network, "crown-ibp", guarantee, dtype, deadline, row_bytes)
        many = box.batched(network.input_shape)
        with tuning.disabled(*_WITHOUT):
            walk = StreamingWalk(network, many, options, self.config.checkpoint_interval)
            lower, upper = to_output(*walk.output(), options.dtype)
        single = many.shape != box.shape and len(lower) == 1
        tensor = BoundedTensor(lower[0], upper[0]) if single else BoundedTensor(lower, upper)
        return tensor
