"""How branch and bound cut an input space: proved boxes and open ones, for pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.frozen import Frozen
from gamma.network.property import Property
from gamma.verification.branching.frontier import Items, chosen
from gamma.verification.branching.inputs import InputBranching

Array = npt.NDArray[Any]


class Partition(Frozen):
    """Boxes of the two inputs that vary, float64 (boxes, 2 ends, 2 inputs) each.

    Attributes:
        inputs: numbers of the two. regions: the input set. closed: boxes on which a bound excludes
            an unsafe conjunction that was open there. open: boxes that are left. What is in neither
            was cut off: a linear bound says that no unsafe input is there.
    """

    inputs: tuple[int, int]
    regions: Array
    closed: Array
    open: Array


def two_inputs(prop: Property) -> tuple[int, int]:
    """The two inputs that vary. Raises UsageError when there are more or fewer, or a ball."""
    low, high = prop.region_arrays()
    free = np.flatnonzero((low < high).any(axis=0)).tolist()
    if len(free) != 2 or prop.balls:
        what = "a ball" if prop.balls else f"{len(free)} inputs vary"
        raise UsageError(f"a picture shows a box of two inputs that vary; here {what}")
    return free[0], free[1]


def partition(prop: Property, proved: Sequence[int], trees: Sequence[Any]) -> Partition:
    """What the trees cut; the regions ``proved`` without them are closed as a whole."""
    first, second = two_inputs(prop)
    low, high = prop.region_arrays()
    ends = np.stack((low, high), axis=1)[:, :, [first, second]]
    closed, left = [ends[list(proved)]], [np.zeros((0, 2, 2))]
    for tree in trees:
        if isinstance(tree, InputBranching):
            whole = [chosen(items, _whole(items)) for items in tree.leaves or ()]
            closed += [_boxes(tree, items, (first, second)) for items in whole]
            open_items = (tree.frontier.everything(), *tree.stuck)
            left += [_boxes(tree, items, (first, second)) for items in open_items if items]
    return Partition((first, second), ends, np.concatenate(closed), np.concatenate(left))


def _whole(items: Items) -> Array:
    """Which leaves are boxes that were bounded, not what cuts took off."""
    ends = [items[end] == items[f"box_{end}"] for end in ("lower", "upper")]
    return np.asarray(np.concatenate(ends, axis=1).all(axis=1))


def _boxes(tree: InputBranching, items: Items, inputs: tuple[int, int]) -> Array:
    """Both ends of boxes on the two inputs."""
    columns = np.searchsorted(tree.free, inputs)
    return np.stack((items["lower"][:, columns], items["upper"][:, columns]), axis=1)
