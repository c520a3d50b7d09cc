"""Float32 points of a property's regions: samples, and the way back for points that left."""

from __future__ import annotations

import numpy as np

from gamma.network.property import Property
from gamma.verification.moves import into_ball
from gamma.verification.objective import Float32
from gamma.verification.targets import Int64, distinct

KEPT = 1 << 22
"""Numbers, at most, of the regions whose ends are kept."""


class Regions:
    """The regions of a property by their number; their ends are made when first asked for."""

    def __init__(self, prop: Property) -> None:
        self.prop = prop
        self._boxes: dict[int, tuple[Float32, Float32]] = {}

    def box(self, region: int) -> tuple[Float32, Float32]:
        """The least and the largest float32 points (inputs,) inside."""
        if region not in self._boxes:
            low, high, _ = self.prop.inner_float32(region)
            if len(self._boxes) * len(low) > KEPT:
                self._boxes.clear()
            self._boxes[region] = low, high
        return self._boxes[region]

    def free(self, region: int) -> int:
        """Number of inputs that can move."""
        low, high = self.box(region)
        return int((high > low).sum())

    def ends(self, regions: Int64) -> tuple[Float32, Float32]:
        """Region ends (points, inputs) of points that lie in ``regions`` (points,)."""
        boxes = {int(r): self.box(int(r)) for r in distinct(regions)}
        low = np.stack([boxes[int(r)][0] for r in regions])
        return low, np.stack([boxes[int(r)][1] for r in regions])

    def project(self, regions: Int64, x: Float32) -> Float32:
        """Move points into norm balls and to whole numbers, where the property has them."""
        if not self.prop.balls and not self.prop.integers:
            return x
        for region in distinct(regions):
            mine = regions == region
            x[mine] = self.inside(int(region), x[mine])
        return x

    def inside(self, region: int, x: Float32) -> Float32:
        """`project` of points of one region."""
        if self.prop.balls:
            x = into_ball(self.prop.balls[region], x)
        for i in self.prop.integers:
            low, high = self.box(region)
            x[:, i] = np.clip(np.round(x[:, i]), np.ceil(low[i]), np.floor(high[i]))
        return x


def spread(low: Float32, high: Float32, count: int, random: np.random.Generator) -> Float32:
    """A mix of the centre, corners, points on faces and points inside: (count, inputs)."""
    share = random.random((count, len(low)), dtype=np.float32)
    kind = np.arange(count) % 4
    corner = np.round(share)
    part = random.random((count, len(low)), dtype=np.float32) < 0.5
    share = np.where((kind == 1)[:, None], corner, share)
    share = np.where((kind == 2)[:, None] & part, corner, share)
    share[0] = 0.5
    return (low + share * (high - low)).astype(np.float32)
