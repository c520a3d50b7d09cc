"""VNN-LIB 2.0: equal to the 1.0 files of the same properties, exact literals, clear refusals."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gamma.errors import FormatError, GammaError, PropertyError, UnsupportedError
from gamma.formats.vnnlib import read_string, read_vnnlib
from gamma.network.property import LinearConstraint

F = Fraction
HEAD = """(vnnlib-version <2.0>)
(declare-network net
  (declare-input X Real [1,2])
  (declare-output Y Real [2])
)
"""
BOX = "(assert (>= X[0,0] -1))(assert (<= X[0,0] 1.0))"
BOX += "(assert (>= X[0,1] 0.0))(assert (<= X[0,1] 0.5))\n"


def read(body: str, head: str = HEAD):
    return read_string(head + BOX + body)


def test_literals_are_exact():
    digits = "0.1000000000000000055511151231257827021181583404541015625"
    (region,) = read(f"(assert (<= Y[0] {digits}))").regions
    assert region.unsafe[0][0].bound == F(digits)
    assert F(digits) == F(0.1)
    shorter = read("(assert (<= Y[0] 0.1))").regions[0]
    assert shorter.unsafe[0][0].bound == F(1, 10)
    assert region.lower == (F(-1), F(0))


def test_arithmetic_on_reals():
    condition = "(<= (- (* 1.5 X[0,1]) (+ Y[0] 2.0) (- Y[1])) -5.0)"
    expected = LinearConstraint(((0, F(-1)), (1, F(1))), ((1, F(3, 2)),), F(-3))
    assert read(f"(assert {condition})").regions[0].unsafe == ((expected,),)


def test_integers_in_arithmetic():
    prop = read("(assert (<= (+ (* 2 Y[0]) 3 (* -1.5 Y[ 1 ])) 1))")
    expected = LinearConstraint(((0, F(2)), (1, F(-3, 2))), (), F(-2))
    assert prop.regions[0].unsafe == ((expected,),)


def test_equal_unequal_and_strict():
    assert len(read("(assert (== Y[0] Y[1]))").regions[0].unsafe[0]) == 2
    unequal = read("(assert (!= Y[0] 1.0))")
    assert unequal.is_unsafe([0.0, 0.0], [1.0, 0.0]) is None
    assert unequal.is_unsafe([0.0, 0.0], [1.5, 0.0]) == (0, 1)
    assert read("(assert (< Y[0] Y[1]))").regions[0].unsafe[0][0].strict


REFUSED = [
    ("(assert (<= Y[0] 1e3))", FormatError, ":7:19: syntax error at 'e3': VNN-LIB 2.0 has no exp"),
    ("(assert (<= Y[0] 1.0)", FormatError, "ends too early"),
    ("(assert (<= Y[0] 99999999999999999999999))", FormatError, "too large"),
    ("(assert (<= Y[2] 1.0))", FormatError, ":7: Index out of bounds for variable 'Y[2]'"),
    ("(assert (<= X[-1,0] 1.0))", FormatError, ":7: 'X'[-1, 0] is no element"),
    ("(assert (<= X[0] 1.0))", FormatError, ":7: "),
    ("(assert (<= Z[0] 1.0))", FormatError, ":7: Undeclared variable 'Z'"),
    ("(assert (<= (* X[0,0] Y[0]) 1.0))", UnsupportedError, ":7: a product of variables"),
    ("(declare-const X_0 Real)", FormatError, ":7:1: declare-const has no place here"),
    ("(assert (>= X[0,0] 2.0))(assert (<= Y[0] 1.0))", PropertyError, ":7: X_0 is at least 2.0"),
    ("(assert (<= X[0,0] 0.5))", PropertyError, "no condition names an output"),
    ("(assert (<= Y[0] 1.0))\0(assert (<= Y[1] 1.0))", FormatError, ":7: a NUL character"),
    ("(assert " + "(and " * 5000 + "(<= Y[0] 1.0)", FormatError, ":7: parentheses nested deeper"),
]


@pytest.mark.parametrize(("body", "kind", "message"), REFUSED)
def test_refused_with_a_place(body, kind, message):
    with pytest.raises(kind) as error:
        read(body)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "kind", "message"),
    [
        ("<2.0>", "<2.1>", UnsupportedError, ":1: VNN-LIB version '2.1'"),
        ("<2.0>", "<3.0>", UnsupportedError, ":1: VNN-LIB version '3.0'"),
        ("[1,2]", "[0]", GammaError, ":3"),
        ("[1,2]", "[4611686018427387904,2]", GammaError, ":"),
        ("X Real", "X int8", FormatError, "type 'I8'"),
        (
            "[1,2])",
            '[1,2])\n (declare-hidden H Real [3] "h")',
            UnsupportedError,
            ":4: hidden node 'H'",
        ),
        (
            "[1,2])",
            "[1,2])\n (declare-input Z Real [3])",
            UnsupportedError,
            "2 input tensors",
        ),
        (
            ")\n)\n",
            ")\n)\n(declare-network b (equal-to net) (declare-input A Real [1,2])"
            "(declare-output B Real [2]))\n",
            UnsupportedError,
            ":6: 2 networks",
        ),
    ],
)
def test_declarations_refused(old, new, kind, message):
    assert old in HEAD
    with pytest.raises(kind) as error:
        read("(assert (<= Y[0] 1.0))", HEAD.replace(old, new, 1))
    assert message in str(error.value)


def test_a_scalar_output_needs_no_index():
    prop = read("(assert (<= Y 1.0))", HEAD.replace("[2]", "[]"))
    assert prop.outputs == 1
    assert prop.regions[0].unsafe[0][0].y == ((0, F(1)),)


WORDS = ["(", ")", "(assert", "(and", "(or", "(<=", "X[0,0]", "Y[0]", "1.5", "(+", "(*", "(- "]
WORDS += ["(assert (<= Y[0] 1.0))", ";c\n", '"', "\n", "1e5", "[", "X"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=25), st.booleans())
def test_random_words_raise_only_gamma_errors(words, headed):
    head = HEAD + BOX if headed else "(vnnlib-version <2.0>)"
    try:
        read_string(head + " ".join(words))
    except GammaError as error:
        assert "\n" not in str(error)


def test_equal_to_version_one(shared: Path):
    files = sorted((shared / "vnncomp").glob("*/vnnlib2/*"))
    assert len(files) == 83
    for path in files:
        plain = path.parent.parent / "vnnlib" / path.name.removesuffix(".gz")
        assert read_vnnlib(path) == read_vnnlib(plain), path.name


def test_nonconforming_files_are_refused(shared: Path):
    files = sorted((shared / "vnncomp" / "ACC" / "vnnlib2_nonconforming").iterdir())
    assert files
    for path in files:
        with pytest.raises(FormatError, match=r":7:1: declare-fun has no place here"):
            read_vnnlib(path)


SYNTAX = {
    "acc": (3, 1),
    "cartpole": (4, 2),
    "drones": (12, 1),
    "dubinsrejoin": (8, 8),
    "lunarlander": (8, 4),
    "single_network": (3, 4),
    "initialized": "version '2.1'",
    "intermediate_nodes": ":4: hidden node 'N'",
    "multiple_networks": "3 networks",
    "mnist": "X_1 has no lower bound",
    "test_linearise": "X_0 is at least 5.0 and at most 2.0",
}


@pytest.mark.parametrize("name", SYNTAX)
def test_examples_of_the_standard(shared: Path, name):
    path = shared / "vnncomp" / "vnnlib2_syntax" / f"{name}.vnnlib"
    expected = SYNTAX[name]
    if isinstance(expected, tuple):
        prop = read_vnnlib(path)
        assert (prop.inputs, prop.outputs) == expected
        return
    with pytest.raises(GammaError) as error:
        read_vnnlib(path)
    assert expected in str(error.value)
