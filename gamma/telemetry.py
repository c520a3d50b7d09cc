"""Where the time goes: spans and counters, recorded only while somebody listens.

    with telemetry.recording() as recorder:
        gamma.bounds(net, box)
    print(telemetry.render(recorder))                   a tree of spans, merged by name
    json.dump(recorder.trace(), file)                   for chrome://tracing and Perfetto

``measure`` is for work of some milliseconds. In a loop over nodes, test ``telemetry.recorder`` and
call ``record`` with the clock readings at hand: off, that is one comparison. A span lies inside
another when its time does, thread by thread, so nothing has to be passed along.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from msgspec import Struct, field

from gamma.errors import missing

Value = int | float | str
P = ParamSpec("P")
R = TypeVar("R")

HELPER = "helping threads"
"""Name of the spans of threads that share another thread's work."""


class Span(Struct):
    """One stretch of work: seconds of ``time.perf_counter``, and what it counted."""

    name: str
    start: float
    end: float
    thread: int
    counts: dict[str, Value]


class Branch(Struct):
    """Spans of one name below one parent, merged.

    Attributes:
        calls: how many. seconds: their sum. counts: numbers summed, words joined by a comma.
    """

    name: str
    calls: int = 0
    seconds: float = 0.0
    counts: dict[str, Value] = field(default_factory=dict)
    children: dict[str, Branch] = field(default_factory=dict)

    @property
    def own(self) -> float:
        """Seconds that no child accounts for."""
        return self.seconds - sum(child.seconds for child in self.children.values())

    def child(self, name: str) -> Branch:
        """The child called ``name``, made when it is not there yet."""
        return self.children.setdefault(name, Branch(name))

    def add(self, span: Span) -> None:
        """Merge one span."""
        self.calls += 1
        self.seconds += span.end - span.start
        for key, value in span.counts.items():
            self.counts[key] = _merged(self.counts.get(key), value)


def _merged(before: Value | None, value: Value) -> Value:
    if before is None:
        return value
    if isinstance(before, str) or isinstance(value, str):
        words = str(before).split(",")
        return ",".join(words if str(value) in words else [*words, str(value)])
    return before + value


class Recorder:
    """Collects spans of every thread while it is the active one."""

    def __init__(self) -> None:
        self.origin = time.perf_counter()
        self.spans: list[Span] = []
        self.counters: dict[str, Value] = {}
        self._lock = threading.Lock()

    def record(self, name: str, start: float, end: float, counts: dict[str, Value]) -> None:
        """Keep one finished span; appending to a list is atomic, so threads need no lock."""
        self.spans.append(Span(name, start, end, threading.get_ident(), counts))

    def count(self, name: str, value: Value) -> None:
        """Add to a counter of the whole recording."""
        with self._lock:
            self.counters[name] = _merged(self.counters.get(name), value)

    def tree(self) -> Branch:
        """The spans as a tree; the root's time is the sum of the outermost ones of callers."""
        root = Branch("total", calls=1)
        open_spans: dict[int, list[tuple[float, Branch]]] = {}
        # Of two spans that start together the longer one is outside.
        for span in sorted(self.spans, key=lambda s: (s.thread, s.start, -s.end)):
            stack = open_spans.setdefault(span.thread, [])
            while stack and span.start >= stack[-1][0]:
                stack.pop()
            parent = stack[-1][1] if stack else root
            branch = parent.child(span.name)
            branch.add(span)
            stack.append((span.end, branch))
        # What helping threads do happens while somebody waits for it.
        outermost = (child for child in root.children.values() if child.name != HELPER)
        root.seconds = sum(child.seconds for child in outermost)
        root.counts = dict(self.counters)
        return root

    def trace(self) -> dict[str, Any]:
        """Chrome trace events (microseconds since the recording began)."""
        numbers: dict[int, int] = {}
        events = [
            {
                "name": span.name,
                "cat": span.name.partition(".")[0],
                "ph": "X",
                "ts": (span.start - self.origin) * 1e6,
                "dur": (span.end - span.start) * 1e6,
                "pid": 1,
                "tid": numbers.setdefault(span.thread, len(numbers) + 1),
                "args": span.counts,
            }
            for span in sorted(self.spans, key=lambda s: s.start)
        ]
        return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": dict(self.counters)}


recorder: Recorder | None = None
"""The active recorder; None, the usual state, makes everything here free."""


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record what the process does inside the block (every thread); blocks may nest."""
    global recorder
    before, mine = recorder, Recorder()
    recorder = mine
    try:
        yield mine
    finally:
        recorder = before


_NOTHING: AbstractContextManager[None] = nullcontext()


def measure(name: str, **counts: Value) -> AbstractContextManager[None]:
    """A span around a block: ``with measure("crown.backward.conv", rows=512): ...``."""
    return _NOTHING if recorder is None else _measured(recorder, name, counts)


def spanned(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function whose every call is a span: ``@spanned("load")``."""

    def around(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def measured(*args: P.args, **kwargs: P.kwargs) -> R:
            with measure(name):
                return function(*args, **kwargs)

        return measured

    return around


@contextmanager
def _measured(active: Recorder, name: str, counts: dict[str, Value]) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        active.record(name, start, time.perf_counter(), counts)


def record(name: str, start: float, end: float, **counts: Value) -> None:
    """Keep a span whose clock (``time.perf_counter``) was read by the caller."""
    if recorder is not None:
        recorder.record(name, start, end, counts)


def count(name: str, value: Value = 1) -> None:
    """Add to a counter: numbers are summed, words collected."""
    if recorder is not None:
        recorder.count(name, value)


# --- the tree as text -----------------------------------------------------------------------------


def renderer() -> tuple[Any, Any]:
    """rich's Console and Tree. Raises UsageError where rich is not installed."""
    try:
        from rich.console import Console
        from rich.tree import Tree
    except ImportError:
        raise missing("a profile as a tree", "rich", "profile") from None
    return Console, Tree


def render(source: Recorder, width: int = 100) -> str:
    """The tree of spans, slowest first: calls, seconds, share, own time and what was counted."""
    from io import StringIO

    console, tree_of = renderer()

    root = source.tree()
    total = root.seconds or 1e-12
    tree = tree_of(_line(root, total))
    _grow(tree, root, total)
    stream = StringIO()
    console(file=stream, width=width, no_color=True, highlight=False, markup=False).print(tree)
    return stream.getvalue()


def _grow(tree: Any, branch: Branch, total: float) -> None:
    for child in sorted(branch.children.values(), key=lambda b: -b.seconds):
        _grow(tree.add(_line(child, total)), child, total)


def _line(branch: Branch, total: float) -> str:
    parts = [branch.name, f"{_seconds(branch.seconds)}  {branch.seconds / total:.0%}"]
    if branch.calls > 1:
        parts.append(f"{branch.calls} calls")
    if branch.children and branch.calls:
        parts.append(f"own {_seconds(branch.own)}")
    parts += [f"{key} {_amount(key, value)}" for key, value in sorted(branch.counts.items())]
    return "  ".join(parts)


def _seconds(value: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def _amount(key: str, value: Value) -> str:
    if isinstance(value, str):
        return value
    if key == "bytes":
        for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
            if value >= scale:
                return f"{value / scale:.3g} {unit}"
    return f"{value:,.6g}"
