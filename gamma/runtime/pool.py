"""TensorPool: memory of arrays, used again instead of asked from the system each time.

    x = pool.empty((rows, n), np.float32)         instead of np.empty: back by itself, see below
    with TensorPool.current().acquire((rows, n)) as x:
        ...                                       zeroed, back at the end of the block

Memory goes back to the pool when the last NumPy view of it is gone, never earlier: a view that
outlives its block delays that and cannot come to show another array's numbers. Each thread has its
own pool, so nothing is locked; what another thread lets go of returns through a queue.

Blocks have 64·2^b elements, aligned to 64 bytes, and are kept up to a limit in bytes.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, deque
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.errors import ResourceError, UsageError
from gamma.frozen import Frozen
from gamma.runtime import choices, heap

Array = npt.NDArray[Any]
Shape = int | tuple[int, ...]

SMALLEST = 64
"""Elements of the smallest block."""
ALIGNMENT = 64
CAP_BYTES = 256 << 20
"""Bytes a thread's pool keeps for later, by default."""
KEPT_BYTES = 1 << 20
"""Bytes of an array that the C library gives, ten times as fast, where it keeps what is freed."""
QUEUE_LIMIT = 1024
"""Blocks that wait for their thread at most; more are freed."""


class _Memory(np.ndarray[Any, Any]):
    """One block; it owns the bytes. A type of its own keeps NumPy from skipping the lease."""

    start: int


class _Lease(np.ndarray[Any, Any]):
    """What all views of a block hang on: when the last one goes, this goes, and the block is back.

    NumPy makes an array the base of its views, and keeps this object as the base of the first one
    because its own base is of another type.
    """

    pool: TensorPool | None
    memory: _Memory

    def __del__(self) -> None:
        # Arrays derived from a lease have no pool of their own.
        pool = getattr(self, "pool", None)
        if pool is not None:
            pool._return(self.memory)


class PoolStatistics(Frozen, eq=True):
    """What a pool did since it was made, and what it holds.

    Attributes:
        hits, misses: requests answered from the pool, and by new memory.
        requested_bytes, allocated_bytes: sizes asked for, and of the blocks given for them.
        held_bytes: idle, ready for the next request. lent_bytes: in use.
        left: blocks that left for good through ``into_array``. trimmed: blocks freed.
    """

    hits: int
    misses: int
    requested_bytes: int
    allocated_bytes: int
    held_bytes: int
    lent_bytes: int
    left: int
    trimmed: int

    @property
    def hit_rate(self) -> float:
        """Share of the requests that needed no new memory."""
        total = self.hits + self.misses
        return self.hits / total if total else 0.0

    @property
    def waste(self) -> float:
        """Share of the blocks' bytes that nobody asked for."""
        return 1.0 - self.requested_bytes / self.allocated_bytes if self.allocated_bytes else 0.0


class PooledBuffer:
    """An array on loan; a context manager that gives the array.

    ``array`` is the array, C-contiguous, without a copy. The loan ends at the end of the block, by
    ``release()``, or when the buffer is collected, and with the last view of the array.
    """

    __slots__ = ("__weakref__", "_array", "_lease")

    def __init__(self, array: Array, lease: _Lease) -> None:
        self._array: Array | None = array
        self._lease: _Lease | None = lease

    @property
    def array(self) -> Array:
        """The array. Raises UsageError once it was released."""
        if self._array is None:
            raise UsageError("the pooled buffer was released, acquire another")
        return self._array

    @property
    def released(self) -> bool:
        """Whether the loan is over."""
        return self._array is None

    def release(self) -> None:
        """End the loan; more than once is fine."""
        self._array = self._lease = None

    def into_array(self) -> Array:
        """The array, for good: its memory leaves the pool and this buffer is released."""
        array, lease = self.array, self._lease
        assert lease is not None and lease.pool is not None
        pool, lease.pool = lease.pool, None
        pool._leave(lease.memory.nbytes)
        self.release()
        return array

    def __enter__(self) -> Array:
        return self.array

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class TensorPool:
    """Idle blocks of one thread, by size; ``TensorPool.current()`` is the thread's own.

    Args:
        cap_bytes: idle bytes kept at most; sizes used least recently are freed first.
    """

    def __init__(self, cap_bytes: int = CAP_BYTES) -> None:
        if cap_bytes < 0:
            raise UsageError(f"cap of {cap_bytes} bytes: expected zero or more")
        self._cap = cap_bytes
        self._owner = threading.get_ident()
        self._idle: OrderedDict[int, list[_Memory]] = OrderedDict()
        # Finalizers run anywhere, even inside these methods: they only append here.
        self._queue: deque[tuple[_Memory | None, int]] = deque()
        self._busy = False
        self._hits = self._misses = self._left = self._trimmed = 0
        self._requested = self._allocated = self._held = self._lent = 0

    @staticmethod
    def current() -> TensorPool:
        """The pool of the calling thread."""
        pool: TensorPool | None = getattr(_local, "pool", None)
        if pool is None:
            pool = _local.pool = TensorPool()
        return pool

    def acquire(
        self, shape: Shape, dtype: npt.DTypeLike = np.float32, zero: bool = True
    ) -> PooledBuffer:
        """Borrow an array of ``shape`` and ``dtype``, filled with zeros unless ``zero`` is False.

        Raises UsageError in another thread than the pool's and for shapes and types that cannot
        be, ResourceError when the system has no more memory.
        """
        self._check_thread()
        array, lease = self._lend(shape, np.dtype(dtype))
        if zero:
            array.fill(0)
        return PooledBuffer(array, lease)

    def empty(self, shape: Shape, dtype: npt.DTypeLike = np.float32) -> Array:
        """An uninitialised array whose memory comes back when its last view is gone."""
        self._check_thread()
        return self._lend(shape, np.dtype(dtype))[0]

    @property
    def cap_bytes(self) -> int:
        """Idle bytes kept at most; what exceeds a lower cap is freed when it is set."""
        return self._cap

    @cap_bytes.setter
    def cap_bytes(self, value: int) -> None:
        if value < 0:
            raise UsageError(f"cap of {value} bytes: expected zero or more")
        self._cap = value
        self.trim(value)

    def trim(self, to_bytes: int = 0) -> None:
        """Free idle blocks until at most ``to_bytes`` are held."""
        self._check_thread()
        self._settle()
        self._busy = True
        try:
            self._shrink(to_bytes)
        finally:
            self._busy = False

    def statistics(self) -> PoolStatistics:
        """Counts since the pool was made, and what it holds now."""
        if threading.get_ident() == self._owner:
            self._settle()
        return PoolStatistics(
            self._hits,
            self._misses,
            self._requested,
            self._allocated,
            self._held,
            self._lent,
            self._left,
            self._trimmed,
        )

    def _check_thread(self) -> None:
        if threading.get_ident() != self._owner:
            raise UsageError("this pool belongs to another thread: use TensorPool.current()")

    def _lend(self, shape: Shape, dtype: np.dtype[Any]) -> tuple[Array, _Lease]:
        if self._queue:
            self._settle()
        count = _count(shape, dtype)
        size = block_elements(count) * dtype.itemsize
        self._busy = True
        try:
            memory = self._take(size)
            self._requested += count * dtype.itemsize
            self._allocated += size
            self._lent += size
        finally:
            self._busy = False
        lease = _Lease((size,), np.uint8, memory.data, memory.start)
        lease.pool, lease.memory = self, memory
        return np.ndarray(shape, dtype, buffer=lease), lease

    def _take(self, size: int) -> _Memory:
        blocks = self._idle.get(size)
        if blocks:
            self._idle.move_to_end(size)
            self._hits += 1
            self._held -= size
            return blocks.pop()
        self._misses += 1
        try:
            memory = _Memory((size + ALIGNMENT,), np.uint8)
        except MemoryError:
            self._shrink(0)
            raise ResourceError(f"no memory for an array of {size} bytes") from None
        memory.start = -int(memory.__array_interface__["data"][0]) % ALIGNMENT
        return memory

    def _return(self, memory: _Memory) -> None:
        """Called by finalizers, in any thread and at any moment."""
        size = memory.nbytes - ALIGNMENT
        mine = threading.get_ident() == self._owner
        kept = memory if mine or len(self._queue) < QUEUE_LIMIT else None
        self._queue.append((kept, size))
        if mine and not self._busy:
            self._settle()

    def _leave(self, nbytes: int) -> None:
        self._left += 1
        self._queue.append((None, nbytes - ALIGNMENT))

    def _settle(self) -> None:
        """Sort what came back into the idle blocks, within the cap."""
        self._busy = True
        try:
            while self._queue:
                memory, size = self._queue.popleft()
                self._lent -= size
                if memory is None or size > self._cap:
                    self._trimmed += memory is not None
                    continue
                self._idle.setdefault(size, []).append(memory)
                self._idle.move_to_end(size)
                self._held += size
            if self._held > self._cap:
                self._shrink(self._cap)
        finally:
            self._busy = False

    def _shrink(self, limit: int) -> None:
        while self._held > limit:
            size, blocks = next(iter(self._idle.items()))
            if blocks:
                blocks.pop()
                self._held -= size
                self._trimmed += 1
            if not blocks:
                del self._idle[size]


_local = threading.local()


def block_elements(count: int) -> int:
    """Elements of the block for ``count`` of them: 64·2^b, the least that holds them."""
    return SMALLEST << max((count - 1).bit_length() - 6, 0) if count > SMALLEST else SMALLEST


def _count(shape: Shape, dtype: np.dtype[Any]) -> int:
    if dtype.hasobject or not dtype.itemsize:
        raise UsageError(f"dtype {dtype}: expected numbers")
    count = 1
    for size in shape if isinstance(shape, tuple) else (shape,):
        if size < 0:
            raise UsageError(f"shape {shape}: expected sizes from 0")
        count *= size
    return count


def empty(shape: Shape, dtype: npt.DTypeLike = np.float32) -> Array:
    """``np.empty`` from this thread's pool, where that pays; gate ``pool``.

    The memory goes back by itself when the last view of the array is gone.
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) if isinstance(shape, tuple) else shape
    small = KEPT_BYTES if heap.keeps() else choices.limit("memory.array")
    if size * kind.itemsize <= small or not tuning.enabled("pool"):
        return np.empty(shape, kind)
    return TensorPool.current()._lend(shape, kind)[0]


def zeros(shape: Shape, dtype: npt.DTypeLike = np.float32) -> Array:
    """``np.zeros`` from this thread's pool, where that pays; gate ``pool``."""
    array = empty(shape, dtype)
    array.fill(0)
    return array
