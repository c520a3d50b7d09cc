"""Verdicts of method auto against exact decisions; `make nightly` asks ten thousand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from flint import fmpq

from gamma.verification import suite
from gamma.verification.records import Record, Records
from gamma.verification.suite import Options, read_list
from tests.exact.cells import cells, reachable
from tests.exact.patterns import Pieces, minimise, value
from tests.verify.branching.drawn import conjunctions, network, region
from tests.verify.decisions import ask
from tests.verify.test_resume import written


def test_no_verdict_is_wrong() -> None:
    tally = ask(seed=0, count=48)
    assert tally["decided owed"] > 15 and tally["decided beside"] > 7, tally
    assert not tally["open owed"], tally


def test_patterns_and_polygons_agree() -> None:
    """Two oracles that share nothing."""
    rng = np.random.default_rng(5)
    seen = set()
    for _ in range(15):
        net = network(rng)
        low, high = region(rng)
        found, pieces = cells(net, low, high), Pieces(net, low, high)
        for conjunction in conjunctions(rng, found, net.output_shape[0]):
            answer = reachable(found, conjunction)
            assert pieces.reachable(conjunction) == answer
            seen.add(answer)
    assert seen == {True, False}


def test_programmes_with_many_optima_and_none() -> None:
    zero, one = fmpq(0), fmpq(1)
    low, high = [zero] * 3, [one] * 3
    plane = ((-one, -one, -one), fmpq(3, 2))  # x + y + z >= 3/2
    x = minimise((one, one, one), [plane, plane], low, high)
    assert x is not None and value(plane, x) == 0 and all(0 <= v <= 1 for v in x)
    assert minimise((one, zero, zero), [((one, one, one), fmpq(1, 9))], low, high) is None
    assert minimise((), [((), one)], [], []) is None and minimise((), [((), zero)], [], []) == []


def test_order_and_threads_change_nothing(tmp_path: Path) -> None:
    """Verdicts, sub-problems and witnesses of a suite, forwards on one thread and backwards on two:
    proofs by branching, a witness that the quick search finds and one that is hard to find."""
    written(tmp_path, "input")
    text = (tmp_path / "p.vnnlib").read_text()
    for k, bound in enumerate(("-0.7", "-0.4578", "0.0", "-3.5")):
        (tmp_path / f"p{k}.vnnlib").write_text(text.replace("-0.4679", bound))
    lines = [f"net.safetensors,p{k}.vnnlib,60\n" for k in range(4)]
    runs = []
    for threads, order in ((1, lines), (2, lines[::-1])):
        (tmp_path / "list.csv").write_text("".join(order))
        with Records(tmp_path / f"{threads}.jsonl") as records:
            done = suite.run(read_list(tmp_path / "list.csv"), records, Options(), threads=threads)
        runs.append(sorted(map(_said, done)))
    assert runs[0] == runs[1]
    assert {said[1] for said in runs[0]} == {"verified", "violated"}


def _said(record: Record) -> tuple[str, str, str]:
    branched, found = record["branching"], record["counterexample"]
    return record["property"], record["verdict"], repr((branched, found))
