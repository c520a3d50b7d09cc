"""From the conditions of a property file to regions of inputs with their unsafe sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

from gamma.errors import GammaError, PropertyError, UnsupportedError
from gamma.formats.bulk import Bounds
from gamma.formats.formula import MINUS_ONE, Atom, Bound, Fail, Formula, Logic
from gamma.formats.linear import ONE, ZERO
from gamma.network.property import Conjunction, LinearConstraint, Region

MAX_REGION_ENTRIES = 4_000_000
Ends = dict[int, Fraction]
Group = tuple[Ends, Ends, list[list[LinearConstraint]]]
"""What tightens the common box below and above, and the conjunctions over that box."""


class _Boxes:
    """The box common to all regions, and what a region adds to it."""

    def __init__(self, stated: Bounds) -> None:
        self.stated = stated
        self.lower = stated.tightest(upper=False)
        self.upper = stated.tightest(upper=True)

    def tighten(self, bound: Bound) -> LinearConstraint | None:
        """Take a bound into the common box; a strict one is returned as a constraint as well."""
        side = self.upper if bound.upper else self.lower
        known = side.get(bound.variable)
        if known is None or (bound.value < known if bound.upper else bound.value > known):
            side[bound.variable] = bound.value
        return _strict_constraint(bound) if bound.strict else None

    def split(self, atoms: Iterable[Atom]) -> tuple[Ends, Ends, list[LinearConstraint]]:
        """What a conjunction tightens below (lower, upper) and the constraints it keeps."""
        lower: Ends = {}
        upper: Ends = {}
        kept: list[LinearConstraint] = []
        for atom in atoms:
            if isinstance(atom, LinearConstraint):
                kept.append(atom)
                continue
            index, is_upper, value, strict, _ = atom
            local, base = (upper, self.upper) if is_upper else (lower, self.lower)
            known = local.get(index, base.get(index))
            if known is None or (value < known if is_upper else value > known):
                local[index] = value
            if strict:
                kept.append(_strict_constraint(atom))
        return lower, upper, kept


def _strict_constraint(bound: Bound) -> LinearConstraint:
    """A strict bound as a half-space: the box itself is closed."""
    sign = ONE if bound.upper else MINUS_ONE
    return LinearConstraint((), ((bound.variable, sign),), sign * bound.value, True)


def build_regions(
    assertions: Sequence[Formula],
    inputs: int,
    declared: Callable[[int], int],
    logic: Logic,
    stated: Bounds,
) -> tuple[Region, ...]:
    """The regions of the conjunction of all assertions.

    Args:
        assertions: one formula per assertion.
        inputs: number of inputs X_0 … X_(inputs−1).
        declared: position of the declaration of an input, for messages.
        logic: combines the conditions of this file.
        stated: assertions that are bounds on single inputs, read in bulk.

    Raises:
        PropertyError: an input without bounds, nothing asked of the outputs, nothing left.
        UnsupportedError: too many disjuncts.
    """
    fail = logic.fail
    for assertion in assertions:
        if not assertion.disjuncts:
            raise fail(PropertyError, assertion.at, "this condition is false: nothing to verify")
    boxes, common = _Boxes(stated), []
    for assertion in assertions:
        for atom in assertion.disjuncts[0] if len(assertion.disjuncts) == 1 else ():
            strict = atom if isinstance(atom, LinearConstraint) else boxes.tighten(atom)
            if strict is not None:
                common.append(strict)
    _check_common(boxes, assertions, fail)
    at = assertions[-1].at if assertions else 0
    alternatives = logic.conjunction([a for a in assertions if len(a.disjuncts) > 1], at)
    logic.check_size(alternatives.size + len(alternatives.disjuncts) * len(common), at)
    groups = _grouped(boxes, alternatives, common)
    if not any(c.y for *_, parts in groups for part in parts for c in part):
        message = "no condition names an output: every input would be a counterexample"
        raise fail(PropertyError, at, message)
    if sum(bool(low or high) for low, high, _ in groups) * inputs > MAX_REGION_ENTRIES:
        message = f"{len(groups)} boxes of {inputs} inputs are too many: split the property"
        raise fail(UnsupportedError, at, message)
    regions = _regions(boxes, groups, inputs, declared, fail)
    if not regions:
        raise fail(
            PropertyError, at, "the conditions contradict each other: no input satisfies them"
        )
    return regions


def _grouped(boxes: _Boxes, alternatives: Formula, common: list[LinearConstraint]) -> list[Group]:
    """The conjunctions over each distinct box, in the order of the file."""
    groups: dict[tuple[tuple[int, ...], ...], Group] = {}
    for atoms in alternatives.disjuncts:
        lower, upper, kept = boxes.split(atoms)
        # Whole numbers: a Fraction's hash is an inverse modulo 2^61 - 1.
        key = tuple([
            tuple([n for i in sorted(side) for n in (i, *side[i].as_integer_ratio())])
            for side in (lower, upper)
        ])  # fmt: skip
        group = groups.get(key)
        if group is None:
            groups[key] = group = (lower, upper, [])
        group[2].append(kept + common)
    return list(groups.values())


def _check_common(boxes: _Boxes, assertions: Sequence[Formula], fail: Fail) -> None:
    """Refuse a common box that is empty, at the bound that empties it."""
    single = [
        atom
        for formula in assertions
        if len(formula.disjuncts) == 1
        for atom in formula.disjuncts[0]
        if isinstance(atom, Bound)
    ]
    for index in sorted(boxes.stated.doubtful() | {atom.variable for atom in single}):
        low, high = boxes.lower.get(index), boxes.upper.get(index)
        if low is None or high is None or low is high or _ordered(low, high):
            continue
        places = [
            atom.at
            for atom in single
            if atom.variable == index and atom.value == (high if atom.upper else low)
        ]
        places += [boxes.stated.place(index, low, False), boxes.stated.place(index, high, True)]
        at = max(places)
        message = (
            f"X_{index} is at least {float_text(low)} and at most {float_text(high)}: "
            "no input satisfies both"
        )
        raise fail(PropertyError, at, message)


def _ordered(low: Fraction, high: Fraction) -> bool:
    """low <= high, in a third of the time that Fraction takes."""
    (a, b), (c, d) = low.as_integer_ratio(), high.as_integer_ratio()
    return a * d <= c * b


def float_text(value: Fraction) -> str:
    """A short decimal for a message."""
    try:
        return repr(float(value))
    except OverflowError:
        return "a number beyond float64"


def _regions(
    boxes: _Boxes,
    groups: list[Group],
    inputs: int,
    declared: Callable[[int], int],
    fail: Fail,
) -> tuple[Region, ...]:
    """One region per distinct box, without those that are empty."""
    widest = max(max(len(low), len(high)) for low, high, _ in groups)
    sides = []
    for word, side in (("lower", boxes.lower), ("upper", boxes.upper)):
        if inputs - len(side) > widest:  # some input is bounded nowhere; do not list 2^62 of them
            index = next(i for i in range(inputs) if i not in side)
            raise _missing(index, word, declared, fail)
        missing = [i for i in range(inputs) if i not in side] if len(side) < inputs else []
        whole = map(side.__getitem__, range(inputs)) if not missing else None
        base = tuple(whole or (side.get(i, ZERO) for i in range(inputs)))
        sides.append((base, missing, word))
    regions = []
    for low, high, parts in groups:
        ends = []
        for (base, missing, word), changes in zip(sides, (low, high), strict=True):
            if missing:
                for index in missing:
                    if index not in changes:
                        raise _missing(index, word, declared, fail)
            ends.append(_changed(base, changes))
        lower, upper = ends
        if not all(_ordered(lower[index], upper[index]) for index in (*low, *high)):
            continue
        kept = [_simplified(part, lower, upper) for part in parts]
        unsafe = tuple(part for part in kept if part is not None)
        if len(unsafe) > 1:
            unsafe = tuple(dict.fromkeys(unsafe))
        if unsafe:
            regions.append(Region(lower, upper, unsafe))
    return tuple(regions)


def _missing(index: int, word: str, declared: Callable[[int], int], fail: Fail) -> GammaError:
    message = f"X_{index} has no {word} bound (in some region): every input needs both bounds"
    return fail(PropertyError, declared(index), message)


def _changed(base: tuple[Fraction, ...], changes: Ends) -> tuple[Fraction, ...]:
    if not changes:
        return base
    values = list(base)
    for index, value in changes.items():
        values[index] = value
    return tuple(values)


def _simplified(
    constraints: Sequence[LinearConstraint],
    lower: tuple[Fraction, ...],
    upper: tuple[Fraction, ...],
) -> Conjunction | None:
    """The conjunction without strict bounds the box implies; None when it excludes the box.

    Both decisions are exact: the extremes of an input-only constraint over a box are attained.
    """
    kept = []
    for constraint in constraints:
        if constraint.y:
            kept.append(constraint)
            continue
        least = sum((c * (lower if c > 0 else upper)[i] for i, c in constraint.x), ZERO)
        if least > constraint.bound or (constraint.strict and least == constraint.bound):
            return None
        if len(constraint.x) == 1:
            index, c = constraint.x[0]
            if c * (upper if c > 0 else lower)[index] < constraint.bound:
                continue
        kept.append(constraint)
    return tuple(kept)
