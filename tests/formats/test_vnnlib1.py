"""VNN-LIB 1.0: what is read, what is refused and where, and agreement with naive evaluation."""

from __future__ import annotations

import gzip
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gamma.errors import (
    FormatError,
    GammaError,
    PropertyError,
    UnsupportedError,
)
from gamma.formats.vnnlib import read_string, read_vnnlib
from gamma.network.property import LinearConstraint

F = Fraction
HEAD = "(declare-const X_0 Real)\n(declare-const X_1 Real)\n(declare-const Y_0 Real)\n"
HEAD += "(declare-const Y_1 Real)\n"
BOX = "(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 0))(assert (<= X_1 0.5))\n"


def read(body: str, box: str = BOX):
    return read_string(HEAD + box + body)


def test_simple_file_is_exact():
    prop = read("; a comment (with parentheses\n(assert (<= Y_0 -0.1e-1))")
    (region,) = prop.regions
    assert (prop.inputs, prop.outputs) == (2, 2)
    assert region.lower == (F(-1), F(0))
    assert region.upper == (F(1), F(1, 2))
    assert region.unsafe == ((LinearConstraint(((0, F(1)),), (), F(-1, 100)),),)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", F(1, 10)),
        ("-.5", F(-1, 2)),
        ("+3.", F(3)),
        ("12", F(12)),
        ("1e-3", F(1, 1000)),
        ("2.5E+2", F(250)),
        ("0.10000000000000000000000000000001", F(10**31 + 1, 10**32)),
        ("1e-1000", F(1, 10**1000)),
    ],
)
def test_decimals(text, value):
    assert read(f"(assert (<= Y_0 {text}))").regions[0].unsafe[0][0].bound == value


@pytest.mark.parametrize(
    ("condition", "y", "x", "bound", "strict"),
    [
        ("(<= Y_0 Y_1)", {0: 1, 1: -1}, {}, 0, False),
        ("(>= Y_0 Y_1)", {0: -1, 1: 1}, {}, 0, False),
        ("(> Y_1 Y_0)", {0: 1, 1: -1}, {}, 0, True),
        ("(< 3 Y_1)", {1: -1}, {}, -3, True),
        ("(<= (+ Y_0 (* 2 X_1) 1) (- X_1 Y_1))", {0: 1, 1: 1}, {1: 1}, -1, False),
        ("(<= (- (* 1.5 X_1) Y_0 X_0) -5.0)", {0: -1}, {0: -1, 1: F(3, 2)}, -5, False),
        ("(<= (* (- 2) (+ Y_0 (* 3 (- 1 Y_1))) 0.5) 0)", {0: -1, 1: 3}, {}, 3, False),
        ("(<= (+ Y_0 (- X_0 X_0)) 0)", {0: 1}, {}, 0, False),
        ("(<= 0.25 (- Y_0))", {0: 1}, {}, F(-1, 4), False),
    ],
)
def test_linear_terms(condition, y, x, bound, strict):
    expected = LinearConstraint(
        tuple((k, F(v)) for k, v in y.items()),
        tuple((k, F(v)) for k, v in x.items()),
        F(bound),
        strict,
    )
    assert read(f"(assert {condition})").regions[0].unsafe == ((expected,),)


def test_scaled_inputs_are_divided_exactly_and_linear_ones_stay():
    box = "(assert (<= (* -1.0 X_0) 0.3))(assert (<= (* 3 X_0) 1))"
    box += "(assert (<= (* -1.0 X_1) 50.0))(assert (<= X_1 50.0))"
    prop = read("(assert (<= (- (* 1.5 X_1) X_0) -5.0))(assert (or (<= Y_0 0) (>= Y_0 1)))", box)
    (region,) = prop.regions
    assert region.lower == (F(-3, 10), F(-50))
    assert region.upper == (F(1, 3), F(50))
    between = LinearConstraint((), ((0, F(-1)), (1, F(3, 2))), F(-5))
    assert [between in part for part in region.unsafe] == [True, True]
    assert prop.is_unsafe([0.0, -10.0], [0.0, 0.0]) == (0, 0)
    assert prop.is_unsafe([0.0, 0.0], [0.0, 0.0]) is None


def test_two_disjunctions_give_regions_by_box():
    outputs = "(assert (or (and (<= Y_0 0)) (and (<= Y_1 0))))"
    inputs = "(assert (or (and (<= X_0 -0.5) (>= X_1 0.25)) (and (>= X_0 0.5))))"
    prop = read(inputs + outputs)
    assert [len(region.unsafe) for region in prop.regions] == [2, 2]
    assert prop.regions[0].lower == (F(-1), F(1, 4))
    assert prop.regions[0].upper == (F(-1, 2), F(1, 2))
    assert prop.regions[1].lower == (F(1, 2), F(0))


def test_the_tightest_of_equal_left_sides_stays():
    """40 disjunctions of two thresholds each: 2^40 conjunctions, 41 of them different."""
    prop = read("".join(f"(assert (or (<= Y_0 {i}) (< Y_0 {i})))" for i in range(40)))
    assert prop.regions[0].unsafe == ((LinearConstraint(((0, F(1)),), (), F(0)),),) or (
        len(prop.regions[0].unsafe) == 2
    )
    prop = read("".join(f"(assert (or (<= Y_0 {i}) (>= Y_1 {-i})))" for i in range(40)))
    found = {tuple(c.bound for c in part) for part in prop.regions[0].unsafe}
    for a in range(-2, 42):
        for b in range(-2, 42):
            truth = all(a <= i or b >= -i for i in range(40))
            point = prop.is_unsafe([0.0, 0.25], [float(a), float(b)])
            assert (point is not None) == truth
    assert len(found) <= 41 * 41


def test_boxes_in_one_disjunction_merge_by_box():
    parts = "".join(
        f"(and (>= X_0 {k}) (<= X_0 {k + 1}) (>= X_1 0) (<= X_1 1) ({op} Y_0 {k}))"
        for k in range(5)
        for op in ("<=", ">=")
    )
    prop = read(f"(assert (or {parts}))", box="")
    assert [region.lower[0] for region in prop.regions] == [0, 1, 2, 3, 4]
    assert all(len(region.unsafe) == 2 for region in prop.regions)


def test_empty_regions_are_left_out():
    prop = read("(assert (or (and (>= X_0 2) (<= Y_0 0)) (and (<= X_0 0) (<= Y_1 0))))")
    assert len(prop.regions) == 1
    assert prop.regions[0].unsafe[0][0].y == ((1, F(1)),)


def test_strict_input_bounds_keep_the_box_closed_and_the_constraint():
    prop = read("(assert (< X_0 0.5))(assert (<= Y_0 0))")
    assert prop.regions[0].upper[0] == F(1, 2)
    assert prop.is_unsafe([0.5, 0.0], [0.0, 0.0]) is None
    assert prop.is_unsafe([0.25, 0.0], [0.0, 0.0]) == (0, 0)
    implied = read("(assert (< X_0 3))(assert (<= Y_0 0))")
    assert implied == read("(assert (<= Y_0 0))")


def test_equalities_chains_and_constants():
    assert read("(assert (= X_0 0.25))(assert (<= Y_0 0))").regions[0].lower[0] == F(1, 4)
    assert len(read("(assert (= Y_0 Y_1))").regions[0].unsafe[0]) == 2
    assert len(read("(assert (<= 0 Y_0 Y_1))").regions[0].unsafe[0]) == 2
    assert read("(assert (<= 1 2))(assert (<= Y_0 0))") == read("(assert (<= Y_0 0))")
    both = read("(assert (or (<= 2 1) (<= Y_0 0)))")
    assert both == read("(assert (<= Y_0 0))")


def test_declare_fun_int_line_ends_and_byte_order_mark(tmp_path: Path):
    text = "\ufeff(declare-fun X_0 () Int)\r\n(declare-fun Y_0 () Real)\r\n"
    text += "(assert (<= X_0 2))\r\n(assert (>= X_0 0)) ; caf\u00e9\r\n(assert (<= Y_0 1))"
    path = tmp_path / "p.vnnlib.gz"
    path.write_bytes(gzip.compress(text.encode()))
    prop = read_vnnlib(tmp_path / "p.vnnlib")
    assert prop.source == path
    assert prop.integers == {0}
    assert prop.is_unsafe([1.0], [0.0]) == (0, 0)
    assert prop.is_unsafe([0.5], [0.0]) is None


REFUSED = [
    ("(assert (<= Y_0 1)", FormatError, ":6:1: '(' is never closed"),
    ("(assert (<= Y_0 1)))", FormatError, ":6:20: ')' without '('"),
    ("hello", FormatError, ":6:1: found 'hello', expected '('"),
    ("(set-logic QF_LRA)", UnsupportedError, ":6:2: unknown command 'set-logic'"),
    ("(check-sat)", UnsupportedError, ":6:2: unknown command"),
    ("()", FormatError, ":6:2: expected a command"),
    ("((assert))", FormatError, "inside an expression"),
    ("(assert (not (<= Y_0 1)))", UnsupportedError, ":6:10: unknown operator 'not'"),
    ("(assert (<= Y_0 Z_3))", FormatError, ":6:17: 'Z_3' is neither"),
    ("(assert (<= Y_0 X_7))", FormatError, ":6:17: 'X_7' is neither"),
    ("(assert (<= Y_0 nan))", FormatError, ":6:17: 'nan' is neither"),
    ("(assert (<= Y_0 1_0))", FormatError, ":6:17:"),
    ("(assert (<= Y_0 \u0661))", FormatError, ":6:17:"),
    ("(assert (<= Y_0 1e999999999))", FormatError, ":6:17: exponent of 1e999999999"),
    ("(assert (<= Y_0 1" + "0" * 3000 + "))", FormatError, ":6:17: a number of 3001"),
    ("(assert (<= Y_0))", FormatError, ":6:9: <= needs two terms"),
    ("(assert (<= (* Y_0 Y_1) 1))", UnsupportedError, ":6:13: a product of variables"),
    ("(assert (<= (* X_0 X_0) 1))", UnsupportedError, ":6:13: a product of variables"),
    ("(assert (<= (<= Y_0 1) 1))", FormatError, "expected a number or a term"),
    ("(assert (and Y_0))", FormatError, ":6:14: and takes comparisons"),
    ("(assert (or))", FormatError, ":6:9: (or) without an operand"),
    ("(assert (<= () 1))", FormatError, "expected a number or a term"),
    ("(assert Y_0)", FormatError, ":6:1: assert takes one condition"),
    ("(assert (<= Y_0 1) (<= Y_1 1))", FormatError, ":6:1: assert takes one condition"),
    ("(assert (assert (<= Y_0 1)))", FormatError, ":6:9: assert inside"),
    ("(declare-const X_0 Real)", FormatError, ":6:16: X_0 is declared twice"),
    ("(declare-const X_3 Real)", PropertyError, ":6:16: X_3 is declared but X_2 is not"),
    ("(declare-const X_9999999999999999 Real)", PropertyError, "X_2 is not"),
    ("(declare-const X_01 Real)", FormatError, ":6:16: variable 'X_01'"),
    ("(declare-const Z Real)", FormatError, ":6:16: variable 'Z'"),
    ("(declare-const Y_2 Int)", UnsupportedError, ":6:16: Y_2 has sort 'Int'"),
    ("(declare-const X_2 Bool)", UnsupportedError, ":6:16: X_2 has sort 'Bool'"),
    ("(declare-const X_2)", FormatError, ":6:1: declare-const takes"),
    ("(declare-fun X_2 (Real) Real)", GammaError, ":6:19: unknown operator 'Real'"),
    ("(declare-const X_2 Real)(assert (<= Y_0 1))", PropertyError, ":6:16: X_2 has no lower"),
    ("(assert (>= X_0 2))(assert (<= Y_0 1))", PropertyError, ":6:9: X_0 is at least 2.0 and"),
    ("(assert (or (>= X_0 2) (<= X_1 -1)))(assert (<= Y_0 1))", PropertyError, "contradict"),
    ("(assert (<= 2 1))", PropertyError, ":6:9: this condition is false"),
    ("(assert (<= X_0 0))", PropertyError, "no condition names an output"),
    ("", PropertyError, "no condition names an output"),
    ("(assert " + "(and " * 5000 + "(<= Y_0 1)", FormatError, "nested deeper than 1000"),
    (
        "".join(f"(assert (or (<= Y_0 (* {i} Y_1)) (>= Y_1 (* {i} X_0))))" for i in range(2, 42)),
        UnsupportedError,
        "comparisons as a disjunction",
    ),
    ("(assert (<= (* " + "1e2000 " * 100 + "Y_0) 1))", UnsupportedError, "bits to be exact"),
]


@pytest.mark.parametrize(("body", "kind", "message"), REFUSED)
def test_refused_by_line_and_column(body, kind, message):
    with pytest.raises(kind) as error:
        read(body)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_no_declaration_and_missing_file(tmp_path: Path):
    with pytest.raises(PropertyError, match="no input X_0"):
        read_string("(declare-const Y_0 Real)")
    with pytest.raises(PropertyError, match="no output Y_0"):
        read_string("(declare-const X_0 Real)")
    with pytest.raises(FormatError, match="does not exist"):
        read_vnnlib(tmp_path / "absent.vnnlib")
    with pytest.raises(FormatError, match="is a folder, expected a regular file"):
        read_vnnlib(tmp_path)


# --- agreement with naive evaluation ------------------------------------------------------------

NAMES = ("X_0", "X_1", "Y_0", "Y_1")
numbers = st.integers(-8, 8).map(lambda k: F(k, 4))


def terms(depth: int = 2):
    leaf = st.sampled_from(NAMES) | numbers
    if depth == 0:
        return leaf
    inner = terms(depth - 1)
    several = st.lists(inner, min_size=1, max_size=3)
    return (
        leaf
        | several.map(lambda parts: ("+", *parts))
        | several.map(lambda parts: ("-", *parts))
        | st.tuples(numbers, inner).map(lambda pair: ("*", *pair))
    )


def conditions(depth: int = 3):
    compare = st.tuples(st.sampled_from(("<=", "<", ">=", ">", "=")), terms(), terms())
    if depth == 0:
        return compare
    several = st.lists(conditions(depth - 1), min_size=1, max_size=3)
    return compare | st.tuples(st.sampled_from(("and", "or")), several).map(
        lambda pair: (pair[0], *pair[1])
    )


def text_of(node) -> str:
    if isinstance(node, tuple):
        return "(" + " ".join(text_of(part) for part in node) + ")"
    return node if isinstance(node, str) else str(float(node))


def value_of(node, point):
    if isinstance(node, str):
        return point[node]
    if isinstance(node, F):
        return node
    values = [value_of(part, point) for part in node[1:]]
    match node[0]:
        case "+":
            return sum(values)
        case "-":
            return -values[0] if len(values) == 1 else values[0] - sum(values[1:])
        case "*":
            return values[0] * values[1]
        case "and":
            return all(values)
        case "or":
            return any(values)
        case "<=":
            return values[0] <= values[1]
        case "<":
            return values[0] < values[1]
        case ">=":
            return values[0] >= values[1]
        case ">":
            return values[0] > values[1]
    return values[0] == values[1]


points = st.lists(numbers, min_size=4, max_size=4)


@settings(max_examples=400, deadline=None)
@given(st.lists(conditions(), min_size=1, max_size=3), st.lists(points, min_size=1, max_size=12))
def test_agrees_with_naive_evaluation(parts, samples):
    box = "(assert (>= X_0 -1.5))(assert (<= X_0 1.25))(assert (>= X_1 -1))(assert (<= X_1 2))"
    body = "".join(f"(assert {text_of(part)})\n" for part in parts)
    try:
        prop = read(body, box)
    except PropertyError as error:
        prop = None
        refused = str(error)
    for sample in samples:
        point = dict(zip(NAMES, sample, strict=True))
        inside = F(-3, 2) <= sample[0] <= F(5, 4) and -1 <= sample[1] <= 2
        truth = inside and all(value_of(part, point) for part in parts)
        if prop is None:
            assert not truth or "no condition names an output" in refused
            continue
        x, y = [float(v) for v in sample[:2]], [float(v) for v in sample[2:]]
        assert (prop.is_unsafe(x, y) is not None) == truth


# --- nothing but GammaError ---------------------------------------------------------------------

WORDS = ["(", ")", "(", ")", "assert", "and", "or", "<=", "=", "+", "-", "*", "X_0", "Y_0", "1.5"]
WORDS += ["declare-const", "declare-fun", "Real", "()", ";c\n", "1e9", "(assert (<= X_0 1))", "\0"]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_raise_only_gamma_errors(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "random.vnnlib"
    path.write_bytes(data)
    with pytest.raises(GammaError):
        read_vnnlib(path)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=30))
def test_random_words_raise_only_gamma_errors(words):
    for text in (" ".join(words), HEAD + BOX + " ".join(words)):
        try:
            read_string(text)
        except GammaError as error:
            assert "\n" not in str(error)


# --- the benchmark files ------------------------------------------------------------------------


@pytest.mark.slow
def test_every_benchmark_property_is_read(shared: Path):
    files = sorted((shared / "vnncomp").glob("*/vnnlib/**/*.vnnlib*"))
    assert len(files) == 262
    for path in files:
        prop = read_vnnlib(path)
        lower, upper = prop.region_arrays("float32")
        assert lower.shape == (len(prop.regions), prop.inputs)
        assert (lower <= upper).all()


@pytest.mark.parametrize(
    ("name", "regions", "unsafe"),
    [
        ("acasxu/vnnlib/prop_6.vnnlib", 2, 4),
        ("nn4sys/vnnlib/lindex_1000.vnnlib", 1000, 2),
        ("ACC/vnnlib/prop_far0_eps0.vnnlib", 1, 2),
        ("mnist_fc/vnnlib/prop_0_0.03.vnnlib", 1, 9),
    ],
)
def test_structure_of_known_files(shared: Path, name, regions, unsafe):
    prop = read_vnnlib(shared / "vnncomp" / name)
    assert [len(region.unsafe) for region in prop.regions] == [unsafe] * regions
