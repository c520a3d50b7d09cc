"""Certified arrays: bounds as values, outward rounding, the C kernels' face.

Submodules: ``bounded`` (BoundedTensor), ``box`` (input sets), ``compressed`` (bounds in half the
memory; ``codes`` are its numbers, ``stored`` its files), ``kernels`` (C or NumPy), ``rounding``
(every outward step), ``probe`` (what the error formulas assume of this machine).
"""

from __future__ import annotations

from gamma.runtime.pool import PooledBuffer, TensorPool
from gamma.tensor.bounded import BoundedTensor
from gamma.tensor.box import Box
from gamma.tensor.compressed import CompressedBounds, CompressionStats

__all__ = [
    "BoundedTensor",
    "Box",
    "CompressedBounds",
    "CompressionStats",
    "PooledBuffer",
    "TensorPool",
]
