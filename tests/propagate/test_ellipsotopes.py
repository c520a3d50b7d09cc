"""Walks in which ellipsotopes go forward: no point outside a bound, questions, boxes, balls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma import tuning
from gamma.formats.model import open_model
from gamma.ops.evaluate import gradient
from gamma.propagate import StreamingConfig, bounds, walks
from gamma.propagate.alpha import alpha_walk
from gamma.propagate.ellipsotopes import SET_BYTES, Ellipsotopes, memory_needed
from gamma.propagate.memory.planning import plan_memory
from gamma.propagate.options import Options
from gamma.propagate.walks import walk
from gamma.runtime import workers
from gamma.runtime.threads import limit_blas
from gamma.tensor.box import Box
from gamma.verification.bounding import bound_outputs
from tests.architectures import small_models
from tests.architectures.small_models import CONFIGS
from tests.architectures.test_soundness import points

Array = Any
IDS = [3, 7, 30]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sets alone bound every node, however small the network; nodes that had one."""
    monkeypatch.setattr(walks, "ROWS_UP_TO", 0.0)
    seen: list[int] = []
    visit = Ellipsotopes.visit

    def counted(self: Ellipsotopes, index: int, known: Any) -> Any:
        found = visit(self, index, known)
        seen.extend([index] if found is not None else [])
        return found

    monkeypatch.setattr(Ellipsotopes, "visit", counted)
    return seen


def small(kind: str, path: Path, scale: float = 0.25) -> tuple[Any, Array]:
    model = open_model(small_models.folder(path / kind, CONFIGS[kind], scale=scale).path)
    return model.network(3), model.embed(IDS)


def ball_points(net: Any, x: Array, epsilon: float, norm: str) -> Array:
    at = points(net, Box.linf(x, epsilon), 10_000)
    if norm == "2":
        step = at - x
        size = np.sqrt(np.square(step).sum(axis=(1, 2), keepdims=True))
        at = x + step * np.minimum(1.0, 0.999999 * epsilon / np.maximum(size, 1e-300))
    return at


@pytest.mark.parametrize(
    ("kind", "norm", "epsilon"),
    (("bert", "inf", 1e-3), ("bert", "2", 1e-5), ("qwen3", "inf", 1e-5), ("gpt2", "2", 1e-3)),
)
def test_no_point_leaves_a_bound(
    alone: list[int], kind: str, norm: str, epsilon: float, tmp_path: Path
) -> None:
    net, x = small(kind, tmp_path)
    box = Box.linf(x, epsilon) if norm == "inf" else Box.l2(x, epsilon)
    y = net.forward(ball_points(net, x, epsilon, norm), np.float64)
    for guarantee in ("real", "float32"):
        found = bounds(net, box, method="crown", guarantee=guarantee)
        assert (y >= found.lower - 1e-12).all() and (y <= found.upper + 1e-12).all()
    assert net.output in alone


def test_width_is_that_of_first_order(alone: list[int], tmp_path: Path) -> None:
    """Two blocks at a radius where the network is all but linear; a batch is its boxes."""
    net, x = small("bert", tmp_path)
    radius = np.zeros((2, 3, 1))
    radius[0, 1], radius[1, :] = 1e-7, 1e-8
    found = bounds(net, Box.linf(np.stack((x, x)), radius), method="crown")
    n = int(np.prod(net.output_shape))
    seeds = np.eye(n).reshape(n, *net.output_shape)
    _, slope = gradient(net, np.repeat(x[None].astype(np.float64), n, axis=0), seeds)
    for b in range(2):
        first = 2 * (abs(slope) * radius[b]).sum(axis=(1, 2))
        width = (found.upper[b] - found.lower[b]).reshape(-1)
        assert (width < 1.01 * first + 1e-12).all()
        alike = bounds(net, Box.linf(x, radius[b]), method="crown")
        assert (abs(alike.upper - alike.lower - width.reshape(found.upper[b].shape))
                <= 1e-3 * width.max()).all()  # fmt: skip


def test_bounds_are_the_same_bits_for_any_number_of_threads(
    alone: list[int], tmp_path: Path
) -> None:
    net, x = small("bert", tmp_path)
    found = []
    for count in (1, 3):
        with workers.limited(count), limit_blas(1):
            found.append(bounds(net, Box.linf(x, 1e-3), method="crown"))
    assert np.array_equal(found[0].lower, found[1].lower)
    assert np.array_equal(found[0].upper, found[1].upper)


def test_differences_are_asked_of_the_sets(alone: list[int], tmp_path: Path) -> None:
    """A question is narrower than its outputs' bounds, and holds of points."""
    net, x = small("bert", tmp_path)
    box = Box.linf(x, 1e-5).batched(net.input_shape)
    made = walk(net, box, Options("crown", dtype=np.dtype(np.float64)))
    n = int(np.prod(net.output_shape))
    rows = np.zeros((1, n))
    rows[0, 0], rows[0, 1] = 1.0, -1.0
    index = np.zeros(1, np.int64)
    low = made.rows({net.output: rows}, np.zeros(1), index)[0]
    out = made.bounds[net.output]
    at = points(net, Box.linf(x, 1e-5), 1000)
    y = net.forward(at, np.float64).reshape(len(at), n) - out.centre.reshape(1, n)
    assert (y @ rows[0] >= low - 1e-13).all()
    reach = out.radius.reshape(-1)
    assert low > -(reach[0] + reach[1])


def test_without_memory_or_with_the_gate_off_there_are_none(
    alone: list[int], tmp_path: Path
) -> None:
    net, x = small("bert", tmp_path)
    box = Box.linf(x, 1e-5)
    little = memory_needed(net, box.batched(net.input_shape)) // SET_BYTES
    walk(net, box.batched(net.input_shape), Options("crown", row_bytes=max(1, little - 1)))
    with tuning.disabled("ellipsotopes"):
        bounds(net, box, method="crown")
    assert not alone


def test_results_say_when_there_are_no_sets_and_no_caps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of every inner neuron, and a memory limit that leaves no room for caps: a note each."""
    net, x = small("bert", tmp_path)
    box = Box.linf(x, 1e-5)
    assert bound_outputs(net, box).notes == ()
    assert bound_outputs(net, box, method="ibp", guarantee="float32").notes == ()
    assert bound_outputs(net, box, method="ibp", streaming=StreamingConfig()).notes == ()
    needed = plan_memory(net, 1, 2, "ibp", np.dtype(np.float64), StreamingConfig())
    limit = StreamingConfig(max_memory_bytes=needed.predicted - 1)
    (uncut,) = bound_outputs(net, box, method="ibp", streaming=limit).notes
    assert uncut.startswith("bounds are not cut at what norms leave") and "no room" in uncut
    monkeypatch.setattr("gamma.propagate.ellipsotopes.SET_BYTES", 1e-6)
    (said,) = bound_outputs(net, box).notes
    assert said.startswith("sets through all nodes would take") and "far longer" in said
    property_ = gamma.robustness(box, 0)
    scores = open_model(tmp_path / "bert").network(len(x), output="pooler_output")
    assert said.split(" would")[0] in gamma.verify(scores, property_, method="crown").notes[0]


def test_alpha_makes_no_rows_where_sets_suffice(alone: list[int], tmp_path: Path) -> None:
    """Inner rows would take hours in a large network; no bound is wider than crown's."""
    net, x = small("bert", tmp_path)
    box = Box.linf(x, 1e-3)
    made = alpha_walk(net, box.batched(net.input_shape), Options("alpha"))
    assert alone and not any(made.unstable.get(index) for index in set(alone))
    crown, alpha = (bounds(net, box, method=method) for method in ("crown", "alpha"))
    assert (alpha.lower >= crown.lower).all() and (alpha.upper <= crown.upper).all()
    values = net.forward(points(net, box, 200).astype(np.float64), np.float64)
    assert (alpha.lower <= values).all() and (values <= alpha.upper).all()
