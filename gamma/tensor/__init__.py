"""Certified arrays: bounds as values, outward rounding, the C kernels' face.

Submodules: ``bounded`` (BoundedTensor), ``box`` (input sets), ``kernels`` (C or NumPy),
``rounding`` (every outward step), ``probe`` (what the error formulas assume of this machine).
"""

from __future__ import annotations

from gamma.tensor.bounded import BoundedTensor
from gamma.tensor.box import Box

__all__ = ["BoundedTensor", "Box"]
