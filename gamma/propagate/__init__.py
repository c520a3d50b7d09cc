"""The walks over a network: interval propagation and linear relaxation, batched over boxes."""

from gamma.methods import METHODS
from gamma.ops.tables import NodeSlopes, Precision
from gamma.propagate.analysis import Analysis, lower_bounds
from gamma.propagate.api import bounds, enclose
from gamma.propagate.blocks import bounding_method, expected_seconds
from gamma.propagate.domain import Domain, Split
from gamma.propagate.linear import LinearBounds, linear_bounds
from gamma.propagate.memory.planning import MemoryPlan
from gamma.propagate.memory.store import CheckpointedBounds
from gamma.propagate.memory.streaming import MemorySavings, StreamingConfig, estimate_memory_savings
from gamma.propagate.memory.verifier import StreamingVerifier
from gamma.propagate.positions.parallel import (
    ParallelConfig,
    ParallelResult,
    ParallelVerifier,
    verify_parallel,
    verify_parallel_with_method,
)
from gamma.propagate.specification import Specification

__all__ = [
    "METHODS",
    "Analysis",
    "CheckpointedBounds",
    "Domain",
    "LinearBounds",
    "MemoryPlan",
    "MemorySavings",
    "NodeSlopes",
    "ParallelConfig",
    "ParallelResult",
    "ParallelVerifier",
    "Precision",
    "Specification",
    "Split",
    "StreamingConfig",
    "StreamingVerifier",
    "bounding_method",
    "bounds",
    "enclose",
    "estimate_memory_savings",
    "expected_seconds",
    "linear_bounds",
    "lower_bounds",
    "verify_parallel",
    "verify_parallel_with_method",
]
