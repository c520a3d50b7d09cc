"""Gates: names are checked, contexts nest, and bounds stay true and as tight whatever is on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma import tuning
from gamma.cli.bench import dense_network, image_network
from gamma.errors import UsageError
from tests.exact import families
from tests.exact.checking import exact_values
from tests.exact.oracle import violations

ROOT = Path(__file__).resolve().parents[1]
GATES = tuple(tuning.GATES)
Context = Callable[[], AbstractContextManager[None]]

CONTEXTS: dict[str, Context] = {
    "all off": lambda: tuning.only(),
    **{f"only {gate}": lambda gate=gate: tuning.only(gate) for gate in GATES},
    **{f"without {gate}": lambda gate=gate: tuning.disabled(gate) for gate in GATES},
}


# --- names and contexts ---------------------------------------------------------------------------


def test_everything_is_on_by_default() -> None:
    assert all(tuning.enabled(gate) for gate in GATES)


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_is_off_inside_the_block_only(gate: str) -> None:
    with tuning.disabled(gate):
        assert not tuning.enabled(gate)
        assert [name for name in GATES if tuning.enabled(name)] == [g for g in GATES if g != gate]
    assert tuning.enabled(gate)
    with tuning.only(gate):
        assert [name for name in GATES if tuning.enabled(name)] == [gate]
    assert tuning.off() == frozenset()


def test_blocks_nest_and_end_with_errors() -> None:
    first, second = GATES[:2]
    with pytest.raises(ZeroDivisionError), tuning.disabled(first):
        with tuning.disabled(second):
            assert tuning.off() == {first, second}
        assert tuning.off() == {first}
        raise ZeroDivisionError
    assert tuning.off() == frozenset()


def test_a_block_concerns_its_own_thread() -> None:
    seen: list[bool] = []
    with tuning.disabled(GATES[0]):
        thread = threading.Thread(target=lambda: seen.append(tuning.enabled(GATES[0])))
        thread.start()
        thread.join()
    assert seen == [True]


@pytest.mark.parametrize("context", [tuning.disabled, tuning.only])
def test_an_unknown_name_is_an_error_that_lists_the_known(context: Any) -> None:
    with pytest.raises(UsageError, match="'warp'.*" + ".*".join(GATES)), context("warp"):
        pass


def test_environment_variable() -> None:
    code = "from gamma import tuning; print(sorted(tuning.off()))"

    def run(value: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"GAMMA_DISABLE": value, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=60
        )

    done = run(f" {GATES[1]}, {GATES[0]},")
    assert done.stdout.strip() == str(sorted(GATES[:2])), done.stderr
    assert "no optimisation is called 'warp'" in run("warp").stderr


# --- bounds with gates on and off -----------------------------------------------------------------


@cache
def hard_cases(shape: str) -> list[tuple[str, Any, Any, Any]]:
    """Label, network, boxes and exact values for hard weights and boxes of every size."""
    rng = np.random.default_rng(len(shape))
    builder = next(f for label, f in families.SHAPES.items() if label.startswith(shape))
    found = []
    for family, kind in (("plain", "wide"), ("biased", "small"), ("cancelling", "tiny")):
        network = builder(families.Draw(family, rng))
        box = families.box(kind, network.input_shape, rng)
        found.append((family, network, box, exact_values(network, box, rng, 1)))
    return found


@pytest.mark.parametrize("name", CONTEXTS)
@pytest.mark.parametrize("shape", ["mlp", "pictures", "residual", "line", "repeated", "Sigmoid"])
def test_bounds_enclose_exact_values(shape: str, name: str) -> None:
    for family, network, box, truths in hard_cases(shape):
        for dtype in ("float32", "float64"):
            with CONTEXTS[name]():
                found = gamma.bounds(network, box, dtype=dtype)
            for b, values in enumerate(truths):
                for _, truth in values:
                    wrong = violations(found.lower[b], found.upper[b], truth[network.output])
                    assert wrong == 0, (family, dtype)


NETWORKS = {
    "dense": dense_network((12, 40, 40, 40, 5)),
    "image": image_network(12, (2, 6, 8)),
}


def boxes(network: Any, batch: int) -> gamma.Box:
    rng = np.random.default_rng(3)
    return gamma.Box.linf(rng.random((batch, *network.input_shape)), 0.02)


@pytest.mark.parametrize("name", CONTEXTS)
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_bounds_agree_within_the_charges(kind: str, method: str, batch: int, name: str) -> None:
    """The charges of float32 rows add about a thousandth to a width (docs/numerics)."""
    network = NETWORKS[kind]
    box = boxes(network, batch)
    for dtype, share in (("float32", 2e-3), ("float64", 1e-9)):
        usual = gamma.bounds(network, box, method=method, dtype=dtype)
        with CONTEXTS[name]():
            found = gamma.bounds(network, box, method=method, dtype=dtype)
        # Bounding neurons that decide nothing may tighten a charge, never the relaxation.
        slack = share * (usual.upper - usual.lower)
        assert (abs(found.lower - usual.lower) <= slack).all()
        assert (abs(found.upper - usual.upper) <= slack).all()


@pytest.mark.parametrize("gate", GATES)
def test_the_same_gate_gives_the_same_bits(gate: str) -> None:
    network = NETWORKS["image"]
    box = boxes(network, 3)
    with tuning.disabled(gate):
        first = gamma.bounds(network, box)
        again = gamma.bounds(network, box)
    assert (first.lower == again.lower).all() and (first.upper == again.upper).all()
