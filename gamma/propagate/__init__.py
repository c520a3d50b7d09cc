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
from gamma.propagate.walks import METHODS

__all__ = [
    "METHODS",
    "Analysis",
    "ParallelConfig",
    "ParallelResult",
    "ParallelVerifier",
    "Specification",
    "bounds",
    "enclose",
    "lower_bounds",
    "verify_parallel",
    "verify_parallel_with_method",
]
