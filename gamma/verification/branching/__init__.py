"""Branch and bound: sub-problems until each is proved, or a witness is found.

A sub-problem is a part of a region (a smaller box, or the inputs at which some neurons are on one
side of 0) and the unsafe conjunctions that are not excluded there yet. Nothing is ever excluded on
anything but the sound bound of a walk; what chooses where to split is a hint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gamma import deferred

if TYPE_CHECKING:
    from gamma.verification.branching.clauses import Clauses as Clauses
    from gamma.verification.branching.inputs import InputBranching as InputBranching
    from gamma.verification.branching.neurons import NeuronWalk as NeuronWalk
    from gamma.verification.branching.neurons import planned as planned
    from gamma.verification.branching.neurons import split_walk as split_walk
    from gamma.verification.branching.relus import ReluBranching as ReluBranching
    from gamma.verification.branching.witness import Witnesses as Witnesses

_HOME = deferred.homes(
    __name__,
    {
        "clauses": "Clauses",
        "inputs": "InputBranching",
        "neurons": "NeuronWalk planned split_walk",
        "relus": "ReluBranching",
        "witness": "Witnesses",
    },
)

__getattr__ = deferred.names(__name__, _HOME)
