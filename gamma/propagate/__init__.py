"""The walks over a network: interval propagation and linear relaxation, batched over boxes."""

from gamma.propagate.api import Analysis, bounds, enclose, lower_bounds
from gamma.propagate.blocks import expected_seconds
from gamma.propagate.parallel import (
    ParallelConfig,
    ParallelResult,
    ParallelVerifier,
    verify_parallel,
    verify_parallel_with_method,
)
from gamma.propagate.planning import MemoryPlan
from gamma.propagate.specification import Specification
from gamma.propagate.store import CheckpointedBounds
from gamma.propagate.streaming import MemorySavings, StreamingConfig, estimate_memory_savings
from gamma.propagate.verifier import StreamingVerifier
from gamma.propagate.walks import METHODS

__all__ = [
    "METHODS",
    "Analysis",
    "CheckpointedBounds",
    "MemoryPlan",
    "MemorySavings",
    "ParallelConfig",
    "ParallelResult",
    "ParallelVerifier",
    "Specification",
    "StreamingConfig",
    "StreamingVerifier",
    "bounds",
    "enclose",
    "estimate_memory_savings",
    "expected_seconds",
    "lower_bounds",
    "verify_parallel",
    "verify_parallel_with_method",
]
