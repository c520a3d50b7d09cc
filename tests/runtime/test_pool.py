"""TensorPool: memory comes back once nobody can see it, is bounded, and belongs to one thread."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest

from gamma import tuning
from gamma.errors import UsageError
from gamma.runtime import heap, pool
from gamma.runtime.pool import block_elements
from gamma.tensor import PooledBuffer, TensorPool


def in_thread(work: Callable[[], None]) -> None:
    """Run ``work`` in another thread and raise here what it raised there."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 129, 1000, 4096, 4097, 10**6])
def test_block_sizes(count: int) -> None:
    size = block_elements(count)
    assert size >= max(count, 64)
    assert size == 64 or size // 2 < count
    assert size & (size - 1) == 0


@pytest.mark.parametrize("shape", [(), 5, 0, (3, 0), (7, 11), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16, np.bool_])
def test_arrays_are_ordinary(shape: int | tuple[int, ...], dtype: type) -> None:
    with TensorPool().acquire(shape, dtype) as array:
        assert type(array) is np.ndarray
        assert array.shape == np.zeros(shape).shape
        assert array.dtype == dtype
        assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned
        assert array.__array_interface__["data"][0] % 64 == 0
        assert not array.any()


def test_memory_is_used_again_and_zeroed() -> None:
    mine = TensorPool()
    with mine.acquire(1000) as first:
        place = first.__array_interface__["data"][0]
        first.fill(7)
        del first
    with mine.acquire((10, 90)) as second:  # another shape of the same class
        assert second.__array_interface__["data"][0] == place
        assert not second.any()
        second.fill(3)
        del second
    with mine.acquire(512, np.float64, zero=False) as third:  # the same bytes, another class
        assert third.__array_interface__["data"][0] == place
        assert third.view(np.float32)[0] == 3
    del third
    found = mine.statistics()
    assert (found.hits, found.misses, found.hit_rate) == (2, 1, 2 / 3)
    assert (found.held_bytes, found.lent_bytes) == (4096, 0)
    assert found.requested_bytes == 4000 + 3600 + 4096
    assert found.waste == 1 - found.requested_bytes / (3 * 4096)


def test_a_view_that_outlives_its_block_keeps_the_memory() -> None:
    mine = TensorPool()
    with mine.acquire((8, 8)) as array:
        row = array[3:4].T.reshape(8)  # a view of a view of a view
        assert np.shares_memory(row, array)
        del array
    row.fill(5)
    with mine.acquire((8, 8)) as other:
        assert not np.shares_memory(row, other)
        other.fill(1)
        assert (row == 5).all()
        assert mine.statistics().lent_bytes == 512
        del other
    other_view = memoryview(row)
    del row
    assert mine.statistics().held_bytes == 256
    del other_view
    assert mine.statistics().held_bytes == 512


def test_release_is_final_and_repeatable() -> None:
    buffer = TensorPool().acquire(10)
    buffer.release()
    buffer.release()
    assert buffer.released
    with pytest.raises(UsageError, match="released"):
        _ = buffer.array
    with pytest.raises(UsageError, match="released"):
        buffer.into_array()


def test_collected_buffers_come_back() -> None:
    mine = TensorPool()
    buffer = mine.acquire(100)
    assert mine.statistics().lent_bytes == 512
    del buffer
    assert mine.statistics().held_bytes == 512
    cycle: list[object] = [mine.acquire(100)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert mine.statistics().held_bytes == 512
    x = mine.empty((4, 4), np.float64)
    x += 1 - x
    del x
    assert mine.statistics().lent_bytes == 0


def test_a_block_that_raises_gives_the_memory_back() -> None:
    mine = TensorPool()
    with pytest.raises(ZeroDivisionError), mine.acquire(100) as array:
        del array
        _ = 1 / 0
    gc.collect()
    assert mine.statistics().lent_bytes == 0


def test_an_array_can_leave_for_good() -> None:
    mine = TensorPool()
    buffer = mine.acquire(100)
    array = buffer.into_array()
    assert buffer.released
    array.fill(9)
    found = mine.statistics()
    assert (found.left, found.lent_bytes, found.held_bytes) == (1, 0, 0)
    with mine.acquire(100) as other:
        assert not np.shares_memory(array, other)
    del array
    assert mine.statistics().held_bytes == 0
    del other
    assert mine.statistics().held_bytes == 512


def test_the_cap_holds_and_frees_what_was_not_used_lately() -> None:
    mine = TensorPool(cap_bytes=10_000)
    for count in (64, 128, 1024):  # 256, 512 and 4096 bytes
        mine.acquire(count).release()
    assert mine.statistics().held_bytes == 4864
    mine.acquire(64).release()
    mine.acquire(2048).release()  # 8192: over the cap together
    found = mine.statistics()
    assert found.held_bytes == 256 + 8192
    assert found.trimmed == 2
    mine.acquire(10**5).release()  # larger than the cap: never kept
    assert mine.statistics().held_bytes == 256 + 8192
    mine.cap_bytes = 300
    assert mine.statistics().held_bytes <= 300
    mine.trim()
    assert mine.statistics().held_bytes == 0
    with pytest.raises(UsageError, match="cap"):
        mine.cap_bytes = -1
    with pytest.raises(UsageError, match="cap"):
        TensorPool(-1)


def test_steady_state_hits_and_does_not_grow() -> None:
    """Ten thousand rounds of the same requests need the memory of one."""
    mine = TensorPool()
    rng = np.random.default_rng(0)
    shapes = [tuple(int(n) for n in rng.integers(1, 40, 2)) for _ in range(7)]
    held = set()
    for _ in range(10_000 // len(shapes)):
        arrays = [mine.empty(shape) for shape in shapes]
        del arrays
        held.add(mine.statistics().held_bytes)
    found = mine.statistics()
    assert len(held) == 1
    assert found.misses <= len(shapes)
    assert found.hit_rate >= 0.95


def test_each_thread_has_its_own_pool() -> None:
    here = TensorPool.current()
    assert TensorPool.current() is here

    def work() -> None:
        assert TensorPool.current() is not here
        with pytest.raises(UsageError, match="another thread"):
            here.acquire(10)
        with pytest.raises(UsageError, match="another thread"):
            here.trim()
        assert here.statistics().misses >= 0

    in_thread(work)


def test_returned_from_another_thread() -> None:
    mine = TensorPool()
    lent = [mine.acquire(1000) for _ in range(20)]
    in_thread(lent.clear)
    found = mine.statistics()
    assert (found.held_bytes, found.lent_bytes) == (20 * 4096, 0)
    with mine.acquire(1000):
        assert mine.statistics().hits == 1


def test_a_flood_from_another_thread_is_bounded() -> None:
    mine = TensorPool()
    lent = [mine.empty(1) for _ in range(2000)]
    in_thread(lent.clear)
    found = mine.statistics()
    assert found.lent_bytes == 0
    assert found.held_bytes == pool.QUEUE_LIMIT * 256


def test_a_pool_whose_thread_ended() -> None:
    lent: list[PooledBuffer] = []
    in_thread(lambda: lent.append(TensorPool.current().acquire(100)))
    assert not lent[0].array.any()
    lent.clear()


def test_threads_that_trade_arrays_never_share_memory() -> None:
    """Each array keeps the numbers its thread wrote, whoever lets go of it."""
    handed: list[np.ndarray] = []

    def work(mark: int) -> None:
        mine = TensorPool.current()
        for round_ in range(300):
            array = mine.empty(200)
            array.fill(mark)
            handed.append(array[5:])
            if round_ % 3 == 0:
                try:
                    other = handed.pop(0)
                except IndexError:
                    continue
                assert other.min() == other.max()
            assert (array == mark).all()

    failed: list[BaseException] = []

    def guarded(mark: int) -> None:
        try:
            work(mark)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(mark,)) for mark in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert all(array.min() == array.max() for array in handed)


def test_the_easy_entry_and_its_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(heap._process, "kept", False)
    before = TensorPool.current().statistics()
    x = pool.empty((300, 300), np.float64)
    assert TensorPool.current().statistics().lent_bytes == before.lent_bytes + (1 << 20)
    y = pool.zeros((300, 300), np.float64)
    assert not y.any()
    del x, y
    small = pool.empty(3)
    assert small.base is None
    monkeypatch.setitem(tuning.GATES, "pool", "memory of arrays is used again")
    with tuning.disabled("pool"):
        assert pool.empty((300, 300)).base is None
    monkeypatch.setitem(heap._process, "kept", True)
    assert pool.empty((300, 300), np.float64).base is None
    assert pool.empty((400, 400), np.float64).base is not None
    assert TensorPool.current().statistics().lent_bytes == before.lent_bytes


@pytest.mark.parametrize(
    ("shape", "dtype", "word"), [((-1, 2), np.float32, "shape"), (3, object, "dtype")]
)
def test_wrong_requests(shape: tuple[int, ...], dtype: type, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        TensorPool().acquire(shape, dtype)


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults")
def test_it_pays_by_pages_that_are_not_taken_anew() -> None:
    """In a process of its own: where memory was kept before, the C library takes no page anew."""
    code = """if True:
        import resource
        import numpy as np
        from gamma import tuning
        from gamma.runtime import pool

        def faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(4):
                pool.empty((40 << 20,), np.uint8).fill(1)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        with tuning.disabled("pool"):
            plain = faults()
        faults()  # the pool's first block
        print(plain, faults())
    """
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    plain, pooled = map(int, done.stdout.split())
    if plain == 0:
        pytest.skip("this system counts no page faults")
    assert plain >= 4 and pooled <= plain / 4
