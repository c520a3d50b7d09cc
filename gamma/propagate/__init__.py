"""The walks over a network: interval propagation and linear relaxation, batched over boxes."""

from gamma.propagate.api import Analysis, bounds, enclose, lower_bounds
from gamma.propagate.parallel import (
    ParallelConfig,
    ParallelResult,
    ParallelVerifier,
    verify_parallel,
    verify_parallel_with_method,
)
from gamma.propagate.specification import Specification
from gamma.propagate.store import CheckpointedBounds
from gamma.propagate.streaming import StreamingConfig, StreamingVerifier
from gamma.propagate.walks import METHODS

__all__ = [
    "METHODS",
    "Analysis",
    "CheckpointedBounds",
    "ParallelConfig",
    "ParallelResult",
    "ParallelVerifier",
    "Specification",
    "StreamingConfig",
    "StreamingVerifier",
    "bounds",
    "enclose",
    "lower_bounds",
    "verify_parallel",
    "verify_parallel_with_method",
]
