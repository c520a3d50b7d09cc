"""How much work an attack may do."""

from __future__ import annotations

from gamma.frozen import Frozen


class Effort(Frozen, eq=True):
    """How hard to try.

    Attributes:
        samples: random points per region with few inputs.
        restarts, steps: of gradient descent, per target and round.
        points: descend from at least so many points at once; small batches waste their time.
        work: multiplications after which no further round begins; at least one round is made.
    """

    samples: int
    restarts: int
    steps: int
    points: int
    work: float


QUICK = Effort(samples=1 << 11, restarts=4, steps=15, points=32, work=0.0)
LONG = Effort(samples=1 << 15, restarts=16, steps=60, points=256, work=2.0**35)
PATIENT = Effort(samples=1 << 15, restarts=16, steps=60, points=256, work=2.0**37)
"""For a caller who set a time limit and so said how long an answer may take."""
