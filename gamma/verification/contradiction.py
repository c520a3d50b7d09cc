"""Whether a conjunction contradicts itself: decided on its constraints alone, in fractions.

Fourier-Motzkin elimination: a variable disappears when every constraint that bounds it from above
is added to every one that bounds it from below; what is left without variables is true or false.
That is Farkas' lemma made constructive, so an empty conjunction is found whatever the network does.
"""

from __future__ import annotations

from fractions import Fraction

from gamma.frozen import Frozen
from gamma.network.property import Conjunction, Region

ROWS = 256
"""Constraints at most, given or made on the way; of larger conjunctions nothing is said."""

BITS = 1 << 13
"""Longest numerator or denominator."""

Variable = tuple[str, int]


class Row(Frozen, eq=True):
    """Σ terms[v]·v <= bound, < where ``strict``."""

    terms: dict[Variable, Fraction]
    bound: Fraction
    strict: bool

    @property
    def false(self) -> bool:
        """Without variables: 0 <= bound does not hold."""
        return not self.terms and (self.bound <= 0 if self.strict else self.bound < 0)

    def without(self, variable: Variable, other: Row) -> Row:
        """The sum with ``other``, scaled so that ``variable`` (of opposite signs) drops out."""
        mine, its = abs(self.terms[variable]), abs(other.terms[variable])
        total = {v: c / mine for v, c in self.terms.items()}
        for v, c in other.terms.items():
            total[v] = total.get(v, Fraction(0)) + c / its
        terms = {v: c for v, c in total.items() if c}
        return Row(terms, self.bound / mine + other.bound / its, self.strict or other.strict)

    @property
    def long(self) -> bool:
        """Some number has too many digits to go on with."""
        return any(
            max(c.numerator.bit_length(), c.denominator.bit_length()) > BITS
            for c in (*self.terms.values(), self.bound)
        )


def contradictory(conjunction: Conjunction, region: Region) -> bool:
    """No outputs, with inputs in the region's box, meet all constraints. False: nothing is known.

    The network plays no part: outputs count as any real numbers.
    """
    if len(conjunction) < 2:
        return False
    rows = [
        Row({**{("y", i): c for i, c in k.y}, **{("x", i): c for i, c in k.x}}, k.bound, k.strict)
        for k in conjunction[: ROWS + 1]
    ]
    for variable in sorted({v for row in rows for v in row.terms if v[0] == "x"}):
        low, high = region.lower[variable[1]], region.upper[variable[1]]
        rows += [
            Row({variable: Fraction(1)}, high, False),
            Row({variable: Fraction(-1)}, -low, False),
        ]
    while rows and len(rows) <= ROWS:
        if any(row.false for row in rows):
            return True
        found = _eliminated([row for row in rows if row.terms])
        if found is None or any(row.long for row in found):
            return False
        rows = found
    return False


def _eliminated(rows: list[Row]) -> list[Row] | None:
    """The rows without the variable that makes the fewest new ones; None when they get too many."""
    above: dict[Variable, list[int]] = {}
    below: dict[Variable, list[int]] = {}
    for index, row in enumerate(rows):
        for variable, c in row.terms.items():
            (above if c > 0 else below).setdefault(variable, []).append(index)
    free = above.keys() ^ below.keys()  # bounded from one side alone: its rows can always be met
    if free:
        return [row for row in rows if not free & row.terms.keys()]
    if not above:
        return []
    least = min(above, key=lambda v: len(above[v]) * len(below[v]))
    if len(above[least]) * len(below[least]) > ROWS:
        return None
    kept = [row for row in rows if least not in row.terms]
    return kept + [rows[a].without(least, rows[b]) for a in above[least] for b in below[least]]
