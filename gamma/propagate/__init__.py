"""The walks over a network: interval propagation and linear relaxation, batched over boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gamma import deferred

if TYPE_CHECKING:
    from gamma.methods import METHODS as METHODS
    from gamma.ops.tables import NodeSlopes as NodeSlopes
    from gamma.ops.tables import Precision as Precision
    from gamma.propagate.analysis import Analysis as Analysis
    from gamma.propagate.analysis import lower_bounds as lower_bounds
    from gamma.propagate.api import bounds as bounds
    from gamma.propagate.api import enclose as enclose
    from gamma.propagate.blocks import bounding_method as bounding_method
    from gamma.propagate.blocks import expected_seconds as expected_seconds
    from gamma.propagate.domain import Domain as Domain
    from gamma.propagate.domain import Split as Split
    from gamma.propagate.linear import LinearBounds as LinearBounds
    from gamma.propagate.linear import linear_bounds as linear_bounds
    from gamma.propagate.memory.planning import MemoryPlan as MemoryPlan
    from gamma.propagate.memory.store import CheckpointedBounds as CheckpointedBounds
    from gamma.propagate.memory.streaming import MemorySavings as MemorySavings
    from gamma.propagate.memory.streaming import StreamingConfig as StreamingConfig
    from gamma.propagate.memory.streaming import estimate_memory_savings as estimate_memory_savings
    from gamma.propagate.memory.verifier import StreamingVerifier as StreamingVerifier
    from gamma.propagate.positions.parallel import ParallelConfig as ParallelConfig
    from gamma.propagate.positions.parallel import ParallelResult as ParallelResult
    from gamma.propagate.positions.parallel import ParallelVerifier as ParallelVerifier
    from gamma.propagate.positions.parallel import verify_parallel as verify_parallel
    from gamma.propagate.positions.parallel import (
        verify_parallel_with_method as verify_parallel_with_method,
    )
    from gamma.propagate.specification import Specification as Specification

_HOME = {
    "METHODS": "gamma.methods",
    "NodeSlopes": "gamma.ops.tables",
    "Precision": "gamma.ops.tables",
    "Analysis": "gamma.propagate.analysis",
    "lower_bounds": "gamma.propagate.analysis",
    "bounds": "gamma.propagate.api",
    "enclose": "gamma.propagate.api",
    "bounding_method": "gamma.propagate.blocks",
    "expected_seconds": "gamma.propagate.blocks",
    "Domain": "gamma.propagate.domain",
    "Split": "gamma.propagate.domain",
    "LinearBounds": "gamma.propagate.linear",
    "linear_bounds": "gamma.propagate.linear",
    "MemoryPlan": "gamma.propagate.memory.planning",
    "CheckpointedBounds": "gamma.propagate.memory.store",
    "MemorySavings": "gamma.propagate.memory.streaming",
    "StreamingConfig": "gamma.propagate.memory.streaming",
    "estimate_memory_savings": "gamma.propagate.memory.streaming",
    "StreamingVerifier": "gamma.propagate.memory.verifier",
    "ParallelConfig": "gamma.propagate.positions.parallel",
    "ParallelResult": "gamma.propagate.positions.parallel",
    "ParallelVerifier": "gamma.propagate.positions.parallel",
    "verify_parallel": "gamma.propagate.positions.parallel",
    "verify_parallel_with_method": "gamma.propagate.positions.parallel",
    "Specification": "gamma.propagate.specification",
}

__all__ = sorted(_HOME)
__getattr__ = deferred.names(__name__, _HOME)
