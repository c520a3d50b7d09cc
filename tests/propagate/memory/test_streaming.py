"""Streamed walks against ordinary ones: the same bits, or a container of them; and the plan."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from benches.streaming import child, make
from gamma import tuning
from gamma.errors import ResourceError, UsageError
from gamma.methods import IN_MEMORY
from gamma.network.graph import Builder, Network
from gamma.ops import Add, Gemm, Input, Relu, Sigmoid
from gamma.propagate import (
    METHODS,
    CheckpointedBounds,
    Specification,
    StreamingConfig,
    StreamingVerifier,
    estimate_memory_savings,
    lower_bounds,
)
from gamma.propagate.interval import interval_pass
from gamma.propagate.memory.planning import parse_size, plan_memory
from gamma.propagate.memory.store import checkpoints, cut_nodes
from gamma.propagate.rows.tables import chosen
from gamma.runtime import resident
from gamma.tensor.box import Box
from tests.propagate.test_pooled_walks import residual

SINGLE = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def _in_the_order_of_a_walk() -> Iterator[None]:
    """The pass of a whole network adds a dense layer's terms in another order."""
    with tuning.disabled("fused_pass"):
        yield


def deep(layers: int, width: int, seed: int = 0, relu: Any = Relu) -> Network:
    rng = np.random.default_rng(seed)
    builder, node = Builder(Input(), (5,)), 0
    for k in range(layers):
        n = 5 if k == 0 else width
        weight = (rng.standard_normal((width, n)) * np.sqrt(1.6 / n)).astype(np.float32)
        bias = (rng.standard_normal(width) * 0.1).astype(np.float32)
        node = builder.add(relu(), builder.add(Gemm(weight, bias), node))
    last = rng.standard_normal((3, width)).astype(np.float32) / np.sqrt(width)
    return builder.build(builder.add(Gemm(last), node))


def skipping() -> Network:
    """Blocks whose inner nodes cannot be cut."""
    rng = np.random.default_rng(1)
    builder, node = Builder(Input(), (6,)), 0
    for _ in range(4):
        inner = builder.add(Gemm(rng.standard_normal((6, 6)).astype("f") / 4), node)
        inner = builder.add(Sigmoid(), inner)
        inner = builder.add(Gemm(rng.standard_normal((6, 6)).astype("f") / 4), inner)
        node = builder.add(Relu(), builder.add(Add(), inner, node))
    return builder.build(builder.add(Gemm(rng.standard_normal((2, 6)).astype("f")), node))


def boxes(network: Network, count: int) -> Box:
    rng = np.random.default_rng(count)
    x = rng.random((count, *network.input_shape))
    return Box(x - 0.03, x + 0.03)


NETWORKS = {
    "deep": lambda: deep(12, 40),
    "wide": lambda: deep(3, 150),
    "sigmoid": lambda: deep(6, 30, relu=Sigmoid),
    "skipping": skipping,
    "residual": residual,
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", ("ibp", "crown-ibp", "crown"))
@pytest.mark.parametrize("count", (1, 6))
def test_exact_stores_give_the_same_bits(name: str, method: str, count: int) -> None:
    network = NETWORKS[name]()
    region = boxes(network, count)
    # One call takes other lines of smooth functions.
    with tuning.disabled(*(["fused_network"] if name == "sigmoid" else [])):
        plain = gamma.bounds(network, region, method=method)
    for config in (
        StreamingConfig(checkpoint_interval=1),
        StreamingConfig(checkpoint_interval=4),
        StreamingConfig(spill=True),
    ):
        streamed = gamma.bounds(network, region, method=method, streaming=config)
        assert streamed.lower.dtype == plain.lower.dtype
        # Between parallel lines a row bounds both ends where it goes down in one call alone.
        size = 1e-6 * (plain.upper - plain.lower).max() if name == "sigmoid" else 0.0
        assert (abs(streamed.lower - plain.lower) <= size).all()
        assert (abs(streamed.upper - plain.upper) <= size).all()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", ("ibp", "crown-ibp"))
def test_float16_checkpoints_contain_the_bounds(name: str, method: str) -> None:
    network = NETWORKS[name]()
    region = boxes(network, 3)
    exact = gamma.bounds(network, region, method=method, dtype="float64")
    config = StreamingConfig(checkpoint_interval=2, use_f16_checkpoints=True)
    rounded = gamma.bounds(network, region, method=method, dtype="float64", streaming=config)
    width = exact.upper - exact.lower
    if method == "ibp":  # CROWN may choose other slopes for other bounds
        assert (rounded.lower <= exact.lower).all() and (exact.upper <= rounded.upper).all()
    assert ((rounded.upper - rounded.lower).mean(axis=-1) <= 1.02 * width.mean(axis=-1)).all()
    values = network.forward((region.lower + region.upper) / 2, np.float64)
    assert (rounded.lower <= values + 1e-12).all() and (values - 1e-12 <= rounded.upper).all()


@pytest.mark.parametrize("f16", (False, True))
@pytest.mark.parametrize("method", ("crown-ibp", "crown"))
def test_sound_at_many_points_in_float16(f16: bool, method: str) -> None:
    network = NETWORKS["skipping"]()
    region = boxes(network, 2)
    config = StreamingConfig(checkpoint_interval=1, use_f16_checkpoints=f16)
    found = gamma.bounds(network, region, method=method, streaming=config)
    rng = np.random.default_rng(0)
    for b in range(2):
        t = rng.integers(0, 2, (4000, 6))
        points = np.where(t, region.lower[b], region.upper[b])
        values = network.forward(points, np.float64)
        assert (found.lower[b] <= values + 1e-9).all() and (values - 1e-9 <= found.upper[b]).all()


def test_cut_nodes_and_checkpoints() -> None:
    network = skipping()
    cuts = cut_nodes(network)
    behind = [i for i, node in enumerate(network.nodes) if isinstance(node.op, Relu)]
    assert set(behind) < set(cuts) and network.output in cuts and 0 in cuts
    inside = [i for i, node in enumerate(network.nodes) if isinstance(node.op, Sigmoid)]
    assert not set(inside) & set(cuts)
    for interval in (1, 2, 5, 1000):
        ends = checkpoints(network, interval)
        assert ends[0] == 0 and ends[-1] == network.output and set(ends) <= set(cuts)
    assert checkpoints(network, 1000) == [0, network.output]


def test_one_extra_forward_pass_in_all() -> None:
    network = deep(20, 10)
    region = boxes(network, 1)
    store = CheckpointedBounds(network, region, 4)
    nodes = network.output
    assert store.computed == nodes
    reference = interval_pass(network, region)
    for index in range(nodes, -1, -1):
        known = store[index]
        assert (known.lower == reference[index].lower).all()
        assert (known.centre == reference[index].centre).all()
    # The last segment was still there; ends of segments come from their checkpoints.
    assert nodes < store.computed <= 2 * nodes
    full = sum(8 * 5 * node.size for node in network.nodes)
    assert store.nbytes < 0.1 * full


@pytest.mark.parametrize("method", ("ibp", "crown-ibp", "crown"))
def test_questions_are_answered_alike(method: str) -> None:
    network = deep(8, 25)
    region = boxes(network, 2)
    rows = np.array([[1.0, -1, 0], [0, 1, -1], [-1, 0, 1]])
    asked = Specification(rows, None, np.zeros(3), np.array([0, 1, 1]))
    plain = lower_bounds(network, region, asked, method=method)
    config = StreamingConfig(checkpoint_interval=2)
    streamed = lower_bounds(network, region, asked, method=method, streaming=config)
    assert (plain.lower == streamed.lower).all()
    assert plain.plan is None and streamed.plan is not None


def test_the_verifier_by_its_known_names() -> None:
    network = deep(9, 30)
    region = boxes(network, 5)
    verifier = StreamingVerifier(StreamingConfig(checkpoint_interval=3))
    for method in ("crown-ibp", "crown"):
        plain = gamma.bounds(network, region, method=method)
        many = verifier.propagate_crown_batched_streaming(network, region, method)
        parts = [region.slice(b, b + 1) for b in range(5)]
        listed = verifier.propagate_crown_batched_streaming(network, parts, method)
        one = verifier.propagate_crown_streaming(
            network, Box(region.lower[0], region.upper[0]), method
        )
        assert (many.lower == plain.lower).all() and (listed.upper == plain.upper).all()
        assert one.lower.shape == (3,)
        single = gamma.bounds(network, Box(region.lower[0], region.upper[0]), method=method)
        assert (one.lower == single.lower).all()
    assert verifier.plan(network).predicted > 0
    with pytest.raises(UsageError, match="crown-ibp"):
        verifier.propagate_crown_streaming(network, region, "ibp")
    off = StreamingVerifier(StreamingConfig(enable_crown_streaming=False))
    assert (off.propagate_crown_streaming(network, region).lower.shape) == (5, 3)


def test_presets_and_refusals() -> None:
    assert StreamingConfig.balanced().checkpoint_interval == 10
    assert StreamingConfig.min_memory().use_f16_checkpoints
    assert StreamingConfig.with_memory_limit(5).max_memory_bytes == 5
    with pytest.raises(UsageError, match="checkpoint_interval: found 0"):
        StreamingConfig(checkpoint_interval=0)
    with pytest.raises(UsageError, match="max_memory_bytes: found -1"):
        StreamingConfig(max_memory_bytes=-1)


def test_estimates() -> None:
    """A hundred layers of a thousand neurons, a checkpoint every ten: nine tenths are saved."""
    known = estimate_memory_savings(100, 1000, 10)
    assert known.full == 100 * 1000 * 72
    assert known.checkpoints == 9 * 1000 * 16 and known.segment == 10 * 1000 * 72
    assert 0.87 < known.saving < 0.9
    assert estimate_memory_savings(100, 1000, 10, f16=True).saving > known.saving
    more = estimate_memory_savings(100, 1000, 10, outputs=10, weight_bytes=4_000_000)
    assert more.streamed == known.streamed + 4_000_000 + 3 * 20 * 1000 * 4
    with pytest.raises(UsageError, match="layers: found 0"):
        estimate_memory_savings(0, 1, 1)


def test_the_plan_spaces_checkpoints_and_says_the_least() -> None:
    network = deep(40, 300)
    free = plan_memory(network, 64, 6, "crown-ibp", SINGLE, StreamingConfig())
    assert free.limit == 0 and free.config.checkpoint_interval == 10
    tight = StreamingConfig(max_memory_bytes=int(free.predicted * 0.8))
    kept = plan_memory(network, 64, 6, "crown-ibp", SINGLE, tight)
    assert kept.predicted <= tight.max_memory_bytes
    assert kept.config.checkpoint_interval < 10 or kept.boxes < 64
    with pytest.raises(ResourceError, match="MiB with method crown-ibp"):
        plan_memory(network, 64, 6, "crown-ibp", SINGLE, StreamingConfig(max_memory_bytes=1000))
    with pytest.raises(ResourceError, match="at least"):
        gamma.bounds(network, boxes(network, 2), max_memory_bytes=1 << 20)
    described = json.dumps(kept.to_dict())
    assert "predicted_bytes" in described and "checkpoint_interval" in described


@pytest.mark.parametrize(
    ("text", "count"),
    (
        ("200MB", 200_000_000),
        ("1.5GiB", 3 << 29),
        ("4096", 4096),
        (" 2 k", 2000),
        ("1MiB", 1 << 20),
    ),
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    "text", ("0", "abc", "-3MB", "1e400", "nan", "MB", "3XB", "0.1", "9999999TB")
)
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


def test_mapped_weights_are_given_back(tmp_path: Path) -> None:
    network = deep(2, 300)
    path = tmp_path / "deep.safetensors"
    gamma.save(network, path)
    loaded = gamma.load(path)
    mapped = [node.op.weight for node in loaded.nodes if isinstance(node.op, Gemm)]
    assert all(resident.mapping_of(weight) is not None for weight in mapped)
    before = mapped[1].copy()
    assert resident.release(mapped[1]) >= mapped[1].nbytes - 8192
    assert (mapped[1] == before).all()
    assert resident.mapping_of(before) is None and resident.release(before) == 0


@pytest.mark.parametrize("turned", (False, True))
def test_copies_and_checks_give_mapped_pages_back(tmp_path: Path, turned: bool) -> None:
    rng = np.random.default_rng(0)
    stored = rng.standard_normal((700, 900), np.float32)
    path = tmp_path / "w.bin"
    stored.tofile(path)
    mapped = np.memmap(path, np.float32, "r", shape=stored.shape)
    view, truth = (mapped.T, stored.T) if turned else (mapped, stored)
    for dtype in (np.float32, np.float64):
        copy = resident.contiguous(view, dtype)
        assert copy.flags.c_contiguous and copy.dtype == dtype and (copy == truth).all()
        assert resident.mapping_of(copy) is None
    assert resident.all_finite(view) and resident.all_finite(view[::2, 1:])
    for bad in (np.nan, np.inf):
        stored[699, 899] = bad
        stored.tofile(path)
        spoiled = np.memmap(path, np.float32, "r", shape=stored.shape)
        assert not resident.all_finite(spoiled.T if turned else spoiled)


@pytest.mark.parametrize("method", ("ibp", "crown-ibp", "crown"))
@pytest.mark.parametrize("count", (1, 6))
def test_external_weights_give_the_same_bits(tmp_path: Path, method: str, count: int) -> None:
    """Both ways a file may hold a matrix; every other one is copied in C order when it is used."""
    path = tmp_path / "dense.onnx"
    make(path, 6, 150)
    network = gamma.load(path)
    orders = [n.op.weight.flags.c_contiguous for n in network.nodes if isinstance(n.op, Gemm)]
    assert orders == [True, False] * 3
    region = boxes(network, count)
    plain = gamma.bounds(network, region, method=method)
    config = StreamingConfig(checkpoint_interval=2)
    streamed = gamma.bounds(network, region, method=method, streaming=config)
    assert (streamed.lower == plain.lower).all() and (streamed.upper == plain.upper).all()
    saved = tmp_path / "dense.safetensors"
    gamma.save(network, saved)
    stored = [n.op.weight for n in gamma.load(saved).nodes if isinstance(n.op, Gemm)]
    weights = [n.op.weight for n in network.nodes if isinstance(n.op, Gemm)]
    assert all(np.array_equal(a, b) for a, b in zip(stored, weights, strict=True))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Files of dense layers of width 1024, each written once."""

    @cache
    def file(suffix: str, layers: int) -> Path:
        path = tmp_path_factory.mktemp("large") / f"dense{suffix}"
        make(path, layers, 1024)
        return path

    return file


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize("suffix", (".safetensors", ".onnx"))
def test_weights_stream_from_the_file(large: Callable[[str, int], Path], suffix: str) -> None:
    """A file of 92 MB is bounded in a third of that, by IBP and CROWN-IBP."""
    path = large(suffix, 24)
    size = sum(file.stat().st_size for file in path.parent.iterdir())
    assert size > 88 << 20
    for method in ("ibp", "crown-ibp"):
        record = child(path, method, 5, False, size // 3)
        assert record["peak"] <= size // 3 and record["finite"], record
        assert record["peak"] <= 1.1 * record["predicted"], record


def test_weights_without_dead_columns_are_copied_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((900, 1100), np.float32)
    rows, columns = np.arange(0, 900, 2), np.flatnonzero(rng.random(1100) < 0.9)
    assert (chosen(weight, rows, columns) == weight[rows][:, columns]).all()
    assert (chosen(weight, None, columns) == weight[:, columns]).all()
    assert (chosen(weight, rows, None) == weight[rows]).all() and chosen(
        weight, None, None
    ) is weight


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize(("interval", "f16"), ((50, False), (1, True)))
def test_predictions_are_near_the_peak(
    large: Callable[[str, int], Path], interval: int, f16: bool
) -> None:
    path = large(".safetensors", 12)
    record = child(path, "crown-ibp", interval, f16, boxes=100)
    # The allowance for libraries covers what BLAS packs on any machine, little or much.
    peak, predicted = record["peak"], record["predicted"]
    assert predicted - record["parts"]["libraries"] <= 1.1 * peak, record
    assert peak <= 1.1 * predicted, record


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_the_prediction_of_crown_is_not_exceeded(large: Callable[[str, int], Path]) -> None:
    """It takes every neuron for unstable and every weight for worth a copy without dead columns."""
    path = large(".onnx", 24)
    record = child(path, "crown", 10, False)
    assert record["predicted"] / 1.5 <= record["peak"] <= record["predicted"], record


@pytest.mark.parametrize("method", sorted(set(METHODS) - IN_MEMORY))
@pytest.mark.parametrize("config", [StreamingConfig(), StreamingConfig.min_memory()])
def test_a_network_of_its_input_alone_is_streamed(method: str, config: StreamingConfig) -> None:
    net = Builder(Input(), (2,)).build(0)
    box = Box(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([[1.0, 2.0], [5.0, 6.0]]))
    out = gamma.bounds(net, box, method=method, streaming=config)
    assert (out.lower <= box.lower).all() and (out.upper >= box.upper).all()
    assert (out.upper - out.lower <= 4).all()


@pytest.mark.parametrize("method", sorted(IN_MEMORY))
def test_methods_that_keep_all_bounds_are_not_streamed(method: str) -> None:
    net = Builder(Input(), (2,)).build(0)
    box = Box(np.zeros(2), np.ones(2))
    for options in ({"streaming": StreamingConfig()}, {"memory": "1GB"}):
        with pytest.raises(UsageError, match=f"{method.replace('+', '.')} keeps all bounds"):
            gamma.bounds(net, box, method=method, **options)
    with pytest.raises(UsageError, match="keeps all bounds"):
        StreamingVerifier(StreamingConfig()).plan(net, 1, method)
