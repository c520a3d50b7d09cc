"""VNN-LIB 1.0: a strict reader that neither recurses nor drops a term.

The grammar: ``declare-const NAME Real``, ``declare-fun NAME () Real`` and ``assert`` over ``and``,
``or``, ``<= < >= > =`` and linear terms of ``+ - *``. Everything else is refused by line and
column. Each expression is reduced to its value the moment it closes, so no tree is built.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gamma.errors import FormatError, GammaError, PropertyError, UnsupportedError
from gamma.formats import bulk
from gamma.formats.formula import (
    Bound,
    Formula,
    Logic,
    Part,
    check_length,
    comparison,
    conjunctions,
    formula_of,
    simple,
)
from gamma.formats.linear import (
    Linear,
    Term,
    TermError,
    add,
    as_linear,
    decimal,
    multiply,
    x_key,
    y_key,
)
from gamma.formats.regions import build_regions
from gamma.network.property import LinearConstraint, Property

MAX_DEPTH = 1000
WORD = r"[()]|[^\s();]+|;[^\n]*"
# The commonest expression, a comparison of two words, is one token with three groups.
LEAF = r"\((<=|>=)\s+([^\s();]+)\s+([^\s();]+)\s*\)"
TOKEN, PLAIN_TOKEN = re.compile(f"{LEAF}|{WORD}"), re.compile(WORD)
DECLARATIONS = bulk.plain_commands(rf"\(declare-const [XY]_{bulk.INDEX} Real\)")
BOUNDS = bulk.plain_commands(rf"\(assert \([<>]= X_{bulk.INDEX} {bulk.NUMBER}\)\)")
DISJUNCTS = bulk.plain_commands(bulk.CONJUNCTION)
VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]{0,17})")
COMPARISONS = frozenset(("<=", "<", ">=", ">", "="))
CONNECTIVES = frozenset(("and", "or"))
ARITHMETIC = frozenset(("+", "-", "*"))
COMMANDS = frozenset(("assert", "declare-const", "declare-fun"))


class _Empty:
    """The value of ``()``, which only declare-fun may hold."""


class _Done:
    """The value of a finished command."""


EMPTY, DONE = _Empty(), _Done()
CONDITIONS = (Formula, Bound, LinearConstraint)
Item = str | Term | Part | _Empty | _Done
"""What an open expression holds: raw atoms and reduced values."""


class Reader:
    """The state of one reading."""

    def __init__(self, text: str, path: Path | None) -> None:
        self.text = text
        self.path = path
        self.names: dict[str, int] = {}
        self.numbers: dict[str, Fraction] = {}
        # Declared are 0 … contiguous − 1 and what was named ahead of its turn.
        self.contiguous = {"X": 0, "Y": 0}
        self.ahead: dict[str, set[int]] = {"X": set(), "Y": set()}
        self.integers: set[int] = set()
        self.logic = Logic(self.fail)
        self.assertions: list[Formula] = []
        self.bounds: list[bulk.Bounds] = []
        self.irregular = 0  # up to here nothing is tried in bulk

    def fail(self, kind: type[GammaError], at: int, message: str) -> GammaError:
        """The error of this kind at a character offset."""
        line = self.text.count("\n", 0, at) + 1
        column = at - self.text.rfind("\n", 0, at)
        return kind.at(f"{self.path or 'text'}:{line}:{column}", "", message)

    def read(self, sha256: str | None = None) -> Property:
        """Read the whole text; ``sha256`` of its file is recorded."""
        check_length(self.text, self.fail)
        position: int | None = 0
        while position is not None:
            position = self._command_at(self._runs(position))
        inputs, outputs = self._count("X"), self._count("Y")
        regions = build_regions(
            self.assertions,
            inputs,
            lambda index: self._place(f"X_{index}", 0),
            self.logic,
            bulk.Bounds.joined(self.bounds),
        )
        return Property(
            regions, inputs, outputs, self.path, sha256, integers=frozenset(self.integers)
        )

    def _runs(self, position: int) -> int:
        """Take plain declarations and bounds in bulk; where the first other command starts."""
        if position < self.irregular:
            return position
        while True:
            start = position
            for chunk, at in bulk.runs(DECLARATIONS, self.text, position):
                position = at + len(chunk)
                if not self._declare_all(*bulk.declared(chunk, len("(declare-const "))):
                    self.irregular = position
                    return at
            for chunk, at in bulk.runs(BOUNDS, self.text, position):
                position = at + len(chunk)
                found = bulk.bounds(chunk, at, len("<= X_"))
                if found is None or found.variable.max(initial=0) >= self.contiguous["X"]:
                    self.irregular = position
                    return at
                self.bounds.append(found)
            if position == start:
                return position

    def _declare_all(self, letters: npt.NDArray[np.uint8], indices: npt.NDArray[np.int64]) -> bool:
        """Declare names that come in order; False (and nothing done) when they do not."""
        counts = {}
        for letter in "XY":
            own = indices[letters == ord(letter)]
            first = self.contiguous[letter]
            counts[letter] = first + len(own)
            if self.ahead[letter] or (own != np.arange(first, first + len(own))).any():
                return False
        self.contiguous = counts
        return True

    def _command_at(self, position: int) -> int | None:
        """Read one command in whatever form; where it ends, None at the end of the text."""
        stack: list[tuple[list[Item], int]] = []
        items: list[Item] = []
        start = 0
        tokens = TOKEN.finditer(self.text, position)
        while (match := next(tokens, None)) is not None:
            token = match.group()
            if match.lastindex or token == ")":
                if match.lastindex:
                    value = self._leaf(match, len(stack) + 1)
                elif not stack:
                    raise self.fail(FormatError, match.start(), "')' without '(': remove it")
                else:
                    value = self._reduce(items, start, len(stack))
                    items, start = stack.pop()
                if stack:
                    items.append(value)
                    continue
                if value is not DONE:
                    message = f"expected a command ({', '.join(sorted(COMMANDS))})"
                    raise self.fail(FormatError, match.start(), message)
                return match.end()
            if token == "(":
                if len(stack) >= MAX_DEPTH:
                    message = f"parentheses nested deeper than {MAX_DEPTH}: simplify the expression"
                    raise self.fail(FormatError, match.start(), message)
                stack.append((items, start))
                items, start = [], match.start()
            elif token[0] != ";":
                if not stack:
                    message = (
                        f"found {_show(token)}, expected '(': a VNN-LIB file is text in parentheses"
                    )
                    raise self.fail(FormatError, match.start(), message)
                items.append(token)
                if token == "or" and (after := self._disjuncts(items, match.end())):
                    tokens = TOKEN.finditer(self.text, after)
        if stack:
            message = "'(' is never closed: the file is truncated or a ')' is missing"
            raise self.fail(FormatError, start, message)
        return None

    def _disjuncts(self, items: list[Item], position: int) -> int:
        """Take plain conjunctions in bulk; where they end, 0 where there are none."""
        end = 0
        for chunk, at in bulk.runs(DISJUNCTS, self.text, position):
            found = bulk.comparisons(chunk, at)
            if not self._all_declared(found):
                break
            self.logic.check_size(len(found.variable), at)
            items.append(Formula(conjunctions(found), at))
            end = at + len(chunk)
        return end

    def _all_declared(self, found: bulk.Comparisons) -> bool:
        """Whether all names are surely declared, and no output is compared with itself."""
        for letter in "XY":
            used = found.variable[found.letter == ord(letter)]
            if used.max(initial=-1) >= self.contiguous[letter]:
                return False
        known = found.other.max(initial=-1) < self.contiguous["Y"]
        return known and not (found.other == found.variable).any()

    def _leaf(self, match: re.Match[str], depth: int) -> Item:
        """The value of a comparison of two words."""
        head, left, right = match.groups()
        key, number = self.names.get(left), self.numbers.get(right)
        if key is not None and number is not None:
            return simple(key, head == "<=", number, False, match.start())
        return self._reduce([head, left, right], match.start(), depth)

    def _reduce(self, items: list[Item], start: int, depth: int) -> Item:
        """The value of a closed expression."""
        if not items:
            return EMPTY
        head = items[0]
        if not isinstance(head, str):
            raise self.fail(
                FormatError, start, "an expression starts with an operator, not with '('"
            )
        try:
            if head in COMPARISONS:
                return self._comparison(head, items, start)
            if head in CONNECTIVES:
                return self._connective(head, items, start)
            if head in ARITHMETIC:
                return self._arithmetic(head, items, start)
        except TermError as error:
            raise self.fail(UnsupportedError, start, str(error)) from error
        if head in COMMANDS:
            if depth != 1:
                raise self.fail(FormatError, start, f"{head} inside an expression: close it first")
            self._command(head, items, start)
            return DONE
        expected = "declare-const, declare-fun or assert"
        if depth > 1:
            expected = "and, or, <=, <, >=, >, =, +, - or *"
        kind = "command" if depth == 1 else "operator"
        message = f"unknown {kind} {_show(head)}, expected {expected}"
        raise self.fail(UnsupportedError, self._place(head, start), message)

    def _comparison(self, head: str, items: list[Item], start: int) -> Part:
        if len(items) < 3:
            raise self.fail(FormatError, start, f"{head} needs two terms, found {len(items) - 1}")
        terms = [self._term(item, start) for item in items[1:]]
        if len(terms) == 2:
            return comparison(head, terms[0], terms[1], start)
        links = [
            comparison(head, as_linear(left), as_linear(right), start)
            for left, right in pairwise(terms)
        ]
        return self.logic.conjunction(links, start)

    def _connective(self, head: str, items: list[Item], start: int) -> Part:
        parts: list[Part] = []
        for item in items[1:]:
            if not isinstance(item, CONDITIONS):
                where = self._place(item, start) if isinstance(item, str) else start
                raise self.fail(
                    FormatError, where, f"{head} takes comparisons, found {_show(item)}"
                )
            parts.append(item)
        if not parts:
            raise self.fail(FormatError, start, f"({head}) without an operand")
        if len(parts) == 1:
            return parts[0]
        join = self.logic.conjunction if head == "and" else self.logic.disjunction
        return join(parts, start)

    def _arithmetic(self, head: str, items: list[Item], start: int) -> Term:
        terms = [self._term(item, start) for item in items[1:]]
        if not terms:
            raise self.fail(FormatError, start, f"({head}) without an operand")
        if head == "*":
            return multiply(terms)
        if head == "+" or len(terms) == 1:
            return add(terms, [1 if head == "+" else -1] * len(terms))
        return add(terms, [1] + [-1] * (len(terms) - 1))

    def _term(self, item: Item, start: int) -> Term:
        """The value of an operand: a variable, a decimal or a reduced term."""
        if isinstance(item, str):
            key = self._key(item)
            if key is not None:
                return key
            known = self.numbers.get(item)
            if known is not None:
                return known
            try:
                value = decimal(item)
            except TermError as error:
                raise self.fail(FormatError, self._place(item, start), str(error)) from error
            if value is None:
                message = f"{_show(item)} is neither a declared name nor a decimal number"
                raise self.fail(FormatError, self._place(item, start), message)
            if len(self.numbers) < 100_000:
                self.numbers[item] = value
            return value
        if isinstance(item, (int, Linear, Fraction)):
            return item
        raise self.fail(FormatError, start, f"found {_show(item)}, expected a number or a term")

    def _command(self, head: str, items: list[Item], start: int) -> None:
        if head == "assert":
            if len(items) != 2 or not isinstance(items[1], CONDITIONS):
                message = "assert takes one condition in parentheses, such as (<= X_0 1.0)"
                raise self.fail(FormatError, start, message)
            self.assertions.append(formula_of(items[1], start))
            return
        form = (
            "(declare-const X_0 Real)" if head == "declare-const" else "(declare-fun X_0 () Real)"
        )
        width = 3 if head == "declare-const" else 4
        if len(items) != width or (width == 4 and items[2] is not EMPTY):
            raise self.fail(FormatError, start, f"{head} takes a name and a sort: {form}")
        name, sort = items[1], items[-1]
        if not isinstance(name, str) or not isinstance(sort, str):
            raise self.fail(FormatError, start, f"{head} takes a name and a sort: {form}")
        self._declare(name, sort, start)

    def _declare(self, name: str, sort: str, start: int) -> None:
        place = self._place(name, start)
        match = VARIABLE.fullmatch(name)
        if match is None:
            message = f"variable {_show(name)}, expected X_0, X_1, … for inputs, Y_0, … for outputs"
            raise self.fail(FormatError, place, message)
        letter, index = match.group(1), int(match.group(2))
        if self._is_declared(letter, index):
            raise self.fail(FormatError, place, f"{name} is declared twice")
        if sort not in ("Real", "Int") or (sort == "Int" and letter == "Y"):
            expected = "Real or Int" if letter == "X" else "Real"
            message = f"{name} has sort {_show(sort)}, expected {expected}"
            raise self.fail(UnsupportedError, place, message)
        if sort == "Int":
            self.integers.add(index)
        ahead = self.ahead[letter]
        ahead.add(index)
        while self.contiguous[letter] in ahead:
            ahead.remove(self.contiguous[letter])
            self.contiguous[letter] += 1

    def _is_declared(self, letter: str, index: int) -> bool:
        return index < self.contiguous[letter] or index in self.ahead[letter]

    def _key(self, name: str) -> int | None:
        """The key of a declared name, None of anything else."""
        key = self.names.get(name)
        if key is None and name[0] in "XY" and (match := VARIABLE.fullmatch(name)):
            letter, index = match.group(1), int(match.group(2))
            if self._is_declared(letter, index):
                key = self.names[name] = x_key(index) if letter == "X" else y_key(index)
        return key

    def _count(self, letter: str) -> int:
        """Number of declared inputs or outputs, which must be 0, 1, … without a gap."""
        count, ahead = self.contiguous[letter], self.ahead[letter]
        if ahead:
            last = max(ahead)
            message = f"{letter}_{last} is declared but {letter}_{count} is not: number them from 0"
            raise self.fail(PropertyError, self._place(f"{letter}_{last}", 0), message)
        if not count:
            word = "input" if letter == "X" else "output"
            raise self.fail(PropertyError, len(self.text), f"no {word} {letter}_0 is declared")
        return count

    def _place(self, token: str, start: int) -> int:
        """Offset of the first ``token`` in the expression that starts at ``start``."""
        for match in PLAIN_TOKEN.finditer(self.text, start):
            if match.group() == token:
                return match.start()
        return start


def _show(item: object) -> str:
    """An item for a message, short whatever the file holds."""
    if isinstance(item, str):
        return ascii(item if len(item) <= 40 else item[:37] + "...")
    if isinstance(item, CONDITIONS):
        return "a condition"
    return "'()'" if item is EMPTY else "a term"


def read_text(text: str, path: Path | None = None, sha256: str | None = None) -> Property:
    """The property in a VNN-LIB 1.0 text; ``path`` is named in messages."""
    return Reader(text, path).read(sha256)
