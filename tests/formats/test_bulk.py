"""Runs of plain commands read as arrays: the same property as one command at a time."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import pytest

from gamma.errors import FormatError, GammaError, PropertyError
from gamma.formats import bulk, formula
from gamma.formats.vnnlib import read_string
from gamma.formats.vnnlib1 import Reader

COUNT = 40


def numbers(seed: int) -> list[str]:
    pick = random.Random(seed)
    forms = ("{:.9f}", "{:.17g}", "{:.0f}", "{:.3f}", "{:.18f}", "{:e}", "+{:.2f}", "{:.30f}")
    return [pick.choice(forms).format(pick.uniform(0, 2)) for _ in range(2 * COUNT)]


def text1(values: list[str], separator: str = "\n") -> str:
    lines = [f"(declare-const X_{i} Real)" for i in range(COUNT)] + ["(declare-const Y_0 Real)"]
    for i in range(COUNT):
        lines += [f"(assert (>= X_{i} -{values[2 * i].lstrip('+')}))"]
        lines += [f"(assert (<= X_{i} {values[2 * i + 1]}))"]
    return separator.join([*lines, "(assert (<= Y_0 0.5))"])


def text2(values: list[str], shape: tuple[int, ...] = (1, 4, 10)) -> str:
    lines = ["(vnnlib-version <2.0>)", f"(declare-network n (declare-input X Real {list(shape)})"]
    lines += ["(declare-output Y Real [1]))"]
    for i in range(COUNT):
        index = f"0,{i // 10}, {i % 10}"
        lines += [f"(assert (>= X[{index}] -{values[2 * i].lstrip('+')}))"]
        lines += [f"(assert (<= X[{index}] {values[2 * i + 1].lstrip('+')}))"]
    return "\n".join([*lines, "(assert (<= Y[0] 0.5))"])


def one_by_one(text: str, monkeypatch: pytest.MonkeyPatch):
    """Read with no form counting as plain."""
    import re

    never = re.compile(r"(?!)")
    with monkeypatch.context() as patch:
        patch.setattr("gamma.formats.vnnlib1.DECLARATIONS", never)
        patch.setattr("gamma.formats.vnnlib1.BOUNDS", never)
        patch.setattr("gamma.formats.vnnlib1.DISJUNCTS", never)
        patch.setattr(bulk, "plain_commands", lambda body: never)
        return read_string(text)


@pytest.mark.parametrize("seed", range(6))
def test_the_same_property_in_exact_fractions(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = numbers(seed)
    text = text1(values, ("\n", " ", "")[seed % 3])
    prop = read_string(text)
    (region,) = prop.regions
    assert region.lower == tuple(-Fraction(v) for v in values[::2])
    assert region.upper == tuple(Fraction(v) for v in values[1::2])
    assert all(v == Fraction(v.numerator, v.denominator) and hash(v) == hash(Fraction(str(v)))
               for v in region.lower + region.upper)  # fmt: skip
    assert prop == one_by_one(text, monkeypatch)


def test_version_two(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [f"{float(v):.12f}" for v in numbers(9)]
    prop = read_string(text2(values))
    assert prop.regions[0].upper == tuple(Fraction(v) for v in values[1::2])
    assert prop == one_by_one(text2(values), monkeypatch)
    with pytest.raises(FormatError, match=r"text:\d+: an index of 'X' is not one of shape"):
        read_string(text2(values, (1, 10, 4)))


@pytest.mark.parametrize("seed", range(4))
def test_the_tightest_of_repeated_bounds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pick = random.Random(seed)
    # neighbours that one float64 stands for: only exact comparison tells them apart
    near = [f"0.{10**17 + pick.randrange(5)}" for _ in range(4 * COUNT)]
    bounds = [f"(assert (<= X_{pick.randrange(3)} {v}))" for v in near]
    bounds += [f"(assert (>= X_{i % 3} -{v}))" for i, v in enumerate(near)]
    text = "".join(f"(declare-const X_{i} Real)" for i in range(3)) + "(declare-const Y_0 Real)"
    text += "".join([*bounds, "(assert (<= Y_0 0))"])
    assert read_string(text) == one_by_one(text, monkeypatch)


@pytest.mark.parametrize(
    ("broken", "by"),
    [
        ("(declare-const X_3 Real)", "declared twice"),
        ("(assert (<= X_40 1))", "neither a declared name"),
        ("(assert (<= X_3 -9))", "no input satisfies both"),
        ("(assert (<= X_3 1..2))", "neither a declared name"),
    ],
)
def test_faults_are_placed(broken: str, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = text1(["1"] * (2 * COUNT)).split("\n")
    lines.insert(-20, broken)
    text = "\n".join(lines)
    with pytest.raises((FormatError, PropertyError), match=by) as caught:
        read_string(text)
    assert str(caught.value).startswith(f"text:{len(lines) - 20}:")
    with pytest.raises(GammaError) as slow:
        one_by_one(text, monkeypatch)
    assert str(slow.value) == str(caught.value)


def test_repetition_does_not_grow(tmp_path: Path) -> None:
    box = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= 0 X_0 1))"
    both = "(or (<= Y_0 1) (>= Y_0 5))", "(or (<= Y_0 2) (>= Y_0 4))"
    deep = f"(and {both[0]} {both[1]})"
    for _ in range(12):
        deep = f"(and {deep} {both[1]})"
    (region,) = read_string(f"{box}(assert {deep})").regions
    (plain,) = read_string(f"{box}(assert (and {both[0]} {both[1]}))").regions
    assert set(map(frozenset, region.unsafe)) == set(map(frozenset, plain.unsafe))
    assert len(region.unsafe) == 2  # the tightest of each side, and what it implies is left out
    implied = read_string(f"{box}(assert (and {both[0]} (or (<= Y_0 1) (<= Y_0 9))))").regions[0]
    assert len(implied.unsafe) == 2  # A or (A and B) is A


def test_limits_count_before_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formula, "MAX_WORK", 500)
    box = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= 0 X_0 1))"
    deep = "(<= Y_0 0)"
    for i in range(40):
        deep = f"(or (<= Y_0 {i}) {deep})"
    with pytest.raises(GammaError, match="written out they need over 500"):
        read_string(f"{box}(assert {deep})")


HEAD = "".join(f"(declare-const {v} Real)" for v in ("X_0", "X_1", "Y_0", "Y_1", "Y_2"))
HEAD += "(assert (<= X_0 9))(assert (>= X_0 -9))(assert (<= X_1 9))(assert (>= X_1 -9))"


def disjunction(seed: int, odd: tuple[str, ...] = ()) -> str:
    """Conjunctions of comparisons of inputs, outputs and pairs of outputs; ``odd`` in between."""
    pick, parts = random.Random(seed), []
    for _ in range(3 * COUNT):
        atoms = []
        for _ in range(pick.randint(1, 5)):
            number = f"{pick.uniform(-2, 2):.{pick.choice((0, 1, 9, 17))}f}"
            left, right = pick.sample(("Y_0", "Y_1", "Y_2"), 2)
            name = pick.choice(("X_0", "X_1", "Y_0", "Y_2"))
            pair = pick.choice((f"{name} {number}", f"{name} {number}", f"{left} {right}"))
            atoms.append(f"({pick.choice(('<=', '>='))} {pair})")
        parts.append(pick.choice(("(and {})", "(and{})", "(and {}\n)")).format(" ".join(atoms)))
    for part in odd:
        parts.insert(pick.randrange(len(parts)), part)
    return HEAD + "(assert (or " + pick.choice(("", "\n  ")).join(parts) + "))"


@pytest.mark.parametrize("seed", range(8))
def test_conjunctions(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = ("(<= Y_0 1e-3)", "(or (and (< Y_0 1)) (and (<= Y_1 2)))", "(and (= Y_0 1) (<= X_0 1))",
           "(and (<= Y_1 Y_1))", "(and (<= X_0 X_1) (<= Y_0 2))", "(and (<= (+ Y_0 Y_1) 0.5))",
           "(and ; remark\n (<= Y_0 12345.678))", "(<= Y_1 Y_2)")  # fmt: skip
    text = disjunction(seed, odd[:seed])
    prop = read_string(text)
    assert prop == one_by_one(text, monkeypatch)
    fractions = [c.bound for r in prop.regions for part in r.unsafe for c in part]
    fractions += [end for r in prop.regions for end in r.lower + r.upper]
    assert all(hash(v) == hash(Fraction(str(v))) and type(v) is Fraction for v in fractions)


@pytest.mark.parametrize("broken", ["Y_3 1", "X_2 1", "Y_0 Y_7", "Y_0 --1", "Z_0 1", "Y_0"])
def test_faults_in_conjunctions_are_placed(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = disjunction(1).replace("(and", "\n(and").replace("Y_2 ", "Y_1 ")
    at = text.index("(and", len(text) // 2)
    text = text[:at] + f"(and (<= Y_0 1) (<= {broken}))" + text[at:]
    with pytest.raises(GammaError) as slow:
        one_by_one(text, monkeypatch)
    with pytest.raises(GammaError) as caught:
        read_string(text)
    assert str(caught.value) == str(slow.value)


def test_conjunctions_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formula, "MAX_LITERALS", 50)
    with pytest.raises(GammaError, match="gamma takes 50"):
        read_string(disjunction(0))


def test_conjunctions_are_read_as_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which way was taken shows in no result: the words of a long run are never seen."""
    heads, slow = [], Reader._connective
    monkeypatch.setattr(Reader, "_connective", lambda *a: heads.append(a[1]) or slow(*a))
    assert len(read_string(disjunction(0)).regions) > COUNT
    assert heads == ["or"]
