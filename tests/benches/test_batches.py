"""The table of batches: what is counted for a batch, and what a row says."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from benches import batches, floors
from benches.cases import DATA, case
from gamma.cli.measuring import Machine
from gamma.tensor.box import Box


def test_the_work_of_a_batch_is_that_of_its_boxes() -> None:
    """A wide box starts rows that a point does not: each counts as it is."""
    found = case("digits_mlp", DATA)
    shape = 2, *found.network.input_shape
    upper = np.stack([found.lower, found.upper]).reshape(shape)
    boxes = Box(np.stack([found.lower] * 2).reshape(shape), upper)
    each = [floors.least_work(found.network, boxes.slice(b, b + 1), "crown") for b in range(2)]
    assert each[0].operations < each[1].operations
    both = batches.work_of(found.network, boxes, "crown")
    assert both.operations == pytest.approx(sum(w.operations for w in each))
    assert both.fixed == each[0].fixed
    assert both.bytes == pytest.approx(sum(w.bytes for w in each))


def test_rows_leave_out_what_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """One box of a quarter of the limit: 16 boxes are measured, no more."""

    class Slow:
        def __init__(self, *_: object) -> None:
            pass

        def measure(self, asked: batches.Asked, seconds: float) -> dict[str, float]:
            return {"wall": asked.batch * batches.LONGEST / 100, "used": 1.0, "others": 0.0}

        def close(self) -> None:
            pass

    monkeypatch.setattr(batches, "Side", Slow)
    args = argparse.Namespace(cases="digits_mlp", data=DATA, patience=1.0)
    machine = Machine(1e9, 1e9, 1e9, 1e-6)
    found = list(batches.rows(args, [machine] * 2))
    assert [(row[1], row[2], *row[-2:]) for row in found] == [
        (method, "16", "1.00", "yes") for method in batches.METHODS
    ]
    assert "| digits_mlp | crown | 16 |" in batches.page(found, [machine] * 2)
