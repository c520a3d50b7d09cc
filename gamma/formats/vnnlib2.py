"""VNN-LIB 2.0: parsed by the ``vnnlib`` package, read exactly from the literals' own text.

Taken: one network with one input and one output tensor of real type. Several networks, hidden
nodes and integer types are refused. The package gives a line, and a column for syntax errors.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from gamma.errors import FormatError, GammaError, PropertyError, UnsupportedError, missing
from gamma.formats import bulk
from gamma.formats.formula import Bound, Formula, Logic, Part, check_length, comparison, formula_of
from gamma.formats.linear import Term, TermError, add, as_linear, decimal, multiply, x_key, y_key
from gamma.formats.regions import build_regions
from gamma.network.property import LinearConstraint, Property

# The package's parser recurses; this keeps it far from the end of its stack.
MAX_DEPTH = 1000
MAX_SIZE = 1 << 31
COMMENT = re.compile(r'^([^"\n;]*);[^\n]*', re.MULTILINE)
DECLARATION = re.compile(r"(\(\s*declare-(?:input|output|hidden)\s+[^\s()]+\s+)Real\b")
INPUT = re.compile(r"\(\s*declare-input\s+([^\s()]+)")
INTEGER = re.compile(r"\[[^\]]*\]|(?<![^\s()])([+-]?[0-9]+)(?![^\s()])")
SYNTAX_ERROR = re.compile(r"syntax error at line (\d+), column (\d+): '(.*)'", re.DOTALL)
COMPARISONS = {
    "LessEqual": "<=",
    "LessThan": "<",
    "GreaterEqual": ">=",
    "GreaterThan": ">",
    "Equal": "=",
}
REAL_TYPES = frozenset(("Real", "Unknown", "F32", "F64"))  # the package calls Real "Unknown"


class Reader:
    """The state of one reading; positions are line numbers, 0 where none is known."""

    def __init__(self, text: str, path: Path | None) -> None:
        self.text = text
        self.path = path
        self.line = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.inputs: frozenset[str] = frozenset()
        self.logic = Logic(self.fail)

    def fail(self, kind: type[GammaError], at: int, message: str, column: str = "") -> GammaError:
        """The error of this kind at a line."""
        return kind.at(f"{self.path or 'text'}{f':{at}' if at else ''}{column}", "", message)

    def read(self, sha256: str | None = None) -> Property:
        """Read the whole text; ``sha256`` of its file is recorded."""
        check_length(self.text, self.fail)
        bare = COMMENT.sub(r"\1", self.text)
        self._check_text(bare)
        bare, runs = self._runs(bare)
        query = self._parse(bare)
        inputs, outputs = self._declarations(query)
        stated = bulk.Bounds.joined([self._bounds(chunk, line) for chunk, line in runs])
        found = len(re.findall(r"\(\s*assert(?![^\s()])", bare))
        if len(query.assertions) != found:
            message = f"the parser saw {len(query.assertions)} of {found} assertions"
            raise self.fail(FormatError, 0, message)
        assertions = [self._formula(assertion.expr) for assertion in query.assertions]
        declared = self._line_of("declare-input")
        regions = build_regions(assertions, inputs, lambda _: declared, self.logic, stated)
        return Property(regions, inputs, outputs, self.path, sha256)

    def _check_text(self, bare: str) -> None:
        """Refuse what the package's parser would not survive or would cut short."""
        if "\0" in self.text:
            line = self.text.count("\n", 0, self.text.index("\0")) + 1
            raise self.fail(FormatError, line, "a NUL character, expected text")
        depth = 0
        for match in re.finditer(r"[()]", bare):
            depth += 1 if match.group() == "(" else -1
            if depth > MAX_DEPTH:
                line = bare.count("\n", 0, match.start()) + 1
                message = f"parentheses nested deeper than {MAX_DEPTH}: simplify the expression"
                raise self.fail(FormatError, line, message)
        version = re.search(r"vnnlib-version\s*<\s*([^>\s]{1,20})", bare)
        if version is not None and version.group(1) != "2.0":
            message = f"VNN-LIB version {version.group(1)!a}, gamma reads 1.0 and 2.0"
            raise self.fail(UnsupportedError, self._line_of("vnnlib-version"), message)

    def _runs(self, bare: str) -> tuple[str, list[tuple[str, int]]]:
        """The text without long runs of bounds on the input, which keep their lines, and those.

        The package's parser takes 50 microseconds for each; the first of a run is left to it.
        """
        names = set(INPUT.findall(bare))
        if len(names) != 1:
            return bare, []
        index = rf"{bulk.INDEX}(?:, ?{bulk.INDEX})*+"
        plain = rf"\(assert \([<>]= {re.escape(names.pop())}\[{index}\] {bulk.NUMBER}\)\)"
        pattern = bulk.plain_commands(plain)
        kept, runs, done, line = [], [], 0, 1
        while (match := pattern.search(bare, done)) is not None:
            start = bare.index("))", match.start()) + 2
            kept.append(bare[done:start])
            line += kept[-1].count("\n")
            chunk = bare[start : match.end()]
            runs.append((chunk, line))
            kept.append("\n" * chunk.count("\n"))
            line += chunk.count("\n")
            done = match.end()
        return "".join((*kept, bare[done:])), runs

    def _bounds(self, chunk: str, line: int) -> bulk.Bounds:
        """The bounds of a run that starts on this line; their places are lines."""
        (name,) = self.inputs
        found = bulk.bounds(chunk, 0, len("<= ") + len(name) + 1, self.shapes[name])
        if found is None:
            message = f"an index of {_show(name)} is not one of shape {list(self.shapes[name])}"
            raise self.fail(FormatError, line, f"{message}, here or in the bounds that follow")
        breaks = np.flatnonzero(np.frombuffer(chunk.encode("ascii"), np.uint8) == ord("\n"))
        return replace(found, at=line + np.searchsorted(breaks, found.at))

    def _parse(self, bare: str) -> Any:
        """The package's query; its errors as one line each."""
        try:
            import vnnlib
        except ImportError:
            what = f"{self.path or 'the property'}: VNN-LIB 2.0"
            raise missing(what, "vnnlib", "vnnlib") from None
        try:
            return vnnlib.parse_query_string(bare)
        except Exception as error:  # the C++ side lets std::out_of_range through as IndexError
            if "TypeMismatch" not in str(error):
                raise self._translated(error) from error
        # Version 1.0 of the package has no arithmetic on sort Real. As float64, with integers
        # written as decimals, the terms and their exact values are the same.
        try:
            typed = DECLARATION.sub(r"\1float64", bare)
            if typed != bare:
                typed = INTEGER.sub(lambda m: f"{m[1]}.0" if m[1] else m[0], typed)
            return vnnlib.parse_query_string(typed)
        except Exception as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> GammaError:
        text = str(error)
        syntax = SYNTAX_ERROR.search(text)
        if syntax is not None:
            line, column, token = int(syntax.group(1)), int(syntax.group(2)) + 1, syntax.group(3)
            message = f"syntax error at {_show(token)}" if token else "the file ends too early"
            if re.match(r"[eE][+-]?[0-9]*$", token):
                message += ": VNN-LIB 2.0 has no exponents, write the decimal out"
            rest = self.text.split("\n")[line - 1][column - 1 :] if token == "(" else ""
            command = re.match(r"\(\s*([a-z-]{1,40})", rest)
            if command is not None:
                message = f"{command.group(1)} has no place here in VNN-LIB 2.0"
            return self.fail(FormatError, line, message, f":{column}")
        try:
            first = json.loads(text)["errors"][0]
            symbol = _show(str(first["offendingSymbol"]))
            message = f"{first['message']} {symbol}: {first['hint']}"
            return self.fail(FormatError, int(first["line"]), " ".join(message.split()))
        except (ValueError, LookupError, TypeError):
            if isinstance(error, (IndexError, OverflowError, ValueError)):
                return self.fail(FormatError, 0, "a number is too large for the VNN-LIB 2.0 parser")
            return self.fail(FormatError, 0, f"not VNN-LIB 2.0 ({' '.join(text.split())[:200]})")

    def _declarations(self, query: Any) -> tuple[int, int]:
        """Sizes of the one input and the one output."""
        if len(query.networks) != 1:
            line = self._line_of("declare-network", max(len(query.networks) - 1, 0))
            message = f"{len(query.networks)} networks, gamma reads properties of one"
            raise self.fail(UnsupportedError, line, message)
        network = query.networks[0]
        if network.hidden:
            message = f"hidden node {_show(network.hidden[0].name)}: gamma reads inputs and outputs"
            raise self.fail(UnsupportedError, self._line_of("declare-hidden"), message)
        sizes = []
        for word, tensors in (("input", network.inputs), ("output", network.outputs)):
            line = self._line_of(f"declare-{word}")
            if len(tensors) != 1:
                message = f"{len(tensors)} {word} tensors, gamma reads networks with one"
                raise self.fail(UnsupportedError, line, message)
            tensor = tensors[0]
            shape = tuple(int(size) for size in tensor.shape)
            if any(size <= 0 for size in shape) or math.prod(shape) > MAX_SIZE:
                message = f"{word} {_show(tensor.name)} has shape {list(shape)[:8]}, expected sizes"
                raise self.fail(PropertyError, line, f"{message} of 1 or more, {MAX_SIZE} in all")
            if tensor.dtype.name not in REAL_TYPES:
                message = f"{word} {_show(tensor.name)} has type {tensor.dtype.name}, expected Real"
                raise self.fail(UnsupportedError, line, message)
            self.shapes[tensor.name] = shape
            sizes.append(math.prod(shape))
        self.inputs = frozenset((network.inputs[0].name,))
        return sizes[0], sizes[1]

    def _line_of(self, word: str, skip: int = 0) -> int:
        places = [match.start() for match in re.finditer(re.escape(word), self.text)]
        return self.text.count("\n", 0, places[min(skip, len(places) - 1)]) + 1 if places else 0

    def _formula(self, root: Any) -> Formula:
        """The value of a condition; an explicit stack, since files may nest deeply."""
        pending: list[tuple[Any, int]] = [(root, -1)]
        values: list[Any] = []
        while pending:
            node, count = pending.pop()
            if count < 0:
                children = self._children(node)
                pending.append((node, len(children)))
                pending.extend((child, -1) for child in reversed(children))
                continue
            operands = values[len(values) - count :]
            del values[len(values) - count :]
            try:
                values.append(self._combine(node, operands))
            except TermError as error:
                raise self.fail(UnsupportedError, self.line, str(error)) from error
        result = values[0]
        if not isinstance(result, (Formula, Bound, LinearConstraint)):
            raise self.fail(FormatError, self.line, "an assertion holds a term, not a condition")
        return formula_of(result, self.line)

    def _children(self, node: Any) -> list[Any]:
        kind = type(node).__name__
        if kind in COMPARISONS or kind == "NotEqual":
            return [node.lhs, node.rhs]
        if kind in ("Plus", "Multiply", "And", "Or"):
            return list(node.args)
        if kind == "Minus":
            return [node.head, *node.rest]
        return [node.expr] if kind == "Negate" else []

    def _combine(self, node: Any, operands: list[Any]) -> Term | Part:
        """The value of a node from the values of its children."""
        kind = type(node).__name__
        if kind == "Var":
            return self._variable(node)
        if kind in ("Float", "Int"):
            self.line = node.line
            value = decimal(node.lexeme)
            if value is None:
                raise self.fail(FormatError, node.line, f"{_show(node.lexeme)} is not a decimal")
            return value
        if kind in COMPARISONS:
            return comparison(COMPARISONS[kind], operands[0], operands[1], self.line)
        if kind == "NotEqual":
            left, right = as_linear(operands[0]), as_linear(operands[1])
            below = comparison("<", as_linear(left), as_linear(right), self.line)
            above = comparison(">", left, right, self.line)
            return self.logic.disjunction([below, above], self.line)
        if kind in ("And", "Or"):
            join = self.logic.conjunction if kind == "And" else self.logic.disjunction
            return operands[0] if len(operands) == 1 else join(operands, self.line)
        if kind == "Multiply":
            return multiply(operands)
        if kind == "Plus":
            return add(operands, [1] * len(operands))
        if kind == "Minus":
            return add(operands, [1] + [-1] * (len(operands) - 1))
        if kind == "Negate":
            return add(operands, [-1])
        raise self.fail(
            UnsupportedError, self.line, f"expression {_show(kind)} is not read by gamma"
        )

    def _variable(self, node: Any) -> int:
        """The key of a tensor element, its indices flattened row-major."""
        self.line = node.line
        shape = self.shapes.get(node.name)
        indices = list(node.indices)
        if (
            shape is None
            or len(indices) != len(shape)
            or not all(0 <= index < size for index, size in zip(indices, shape, strict=True))
        ):
            message = f"{_show(node.name)}{indices[:8]} is no element of a declared tensor"
            raise self.fail(FormatError, node.line, message)
        flat = 0
        for index, size in zip(indices, shape, strict=True):
            flat = flat * size + index
        return x_key(flat) if node.name in self.inputs else y_key(flat)


def _show(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:37] + "...")


def read_text(text: str, path: Path | None = None, sha256: str | None = None) -> Property:
    """The property in a VNN-LIB 2.0 text; ``path`` is named in messages."""
    return Reader(text, path).read(sha256)
