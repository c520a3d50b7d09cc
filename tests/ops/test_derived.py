"""Derived constants of operators: made once, whatever threads ask for and drop them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from gamma.ops import Gemm
from gamma.ops.affine import cast_weight


def test_threads_that_ask_at_once_make_one_copy() -> None:
    op, made = Gemm(np.eye(3)), []

    def make() -> np.ndarray:
        made.append(1)
        time.sleep(0.05)  # long enough for the others to ask
        return np.ones(1)

    found: list[np.ndarray] = []
    asking = [
        threading.Thread(target=lambda: found.append(op.cached("key", make))) for _ in range(4)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(made) == 1 and all(array is found[0] for array in found)


def test_a_constant_made_of_another_does_not_wait_for_itself() -> None:
    op = Gemm(np.eye(3))
    assert op.cached("outer", lambda: op.cached("inner", lambda: 1) + 1) == 2


@pytest.fixture
def _hasty() -> Iterator[None]:
    """Threads take turns after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_hasty")
def test_threads_that_use_and_drop_the_same_copies_never_fail() -> None:
    op, end, failures = Gemm(np.arange(64.0).reshape(8, 8)), time.monotonic() + 0.3, []

    def use() -> None:
        try:
            while time.monotonic() < end:
                assert (cast_weight(op, op.weight, "weight", np.float32, True) == op.weight).all()
                op.forget(1)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
