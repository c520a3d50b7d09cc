"""One hostile file given to the command line, in a process of its own that is measured.

The child is forked from a process that has imported gamma, so that a case costs milliseconds.
"""

from __future__ import annotations

import functools
import json
import math
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

from gamma.cli import bounds, inspect, suite, verify
from gamma.cli.main import main
from gamma.formats import onnx, safetensors, spelled, vnnlib
from gamma.formats.save import save
from gamma.network.graph import Builder
from gamma.ops import Input, Relu

WARM = (bounds, inspect, suite, verify, onnx, safetensors, spelled, vnnlib)
USAGE, RESOURCE = 2, 5
REFUSED_SECONDS, ANSWERED_SECONDS = 4.0, 20.0  # of the processor: shared machines are slow
TIMEOUT = 3  # given to commands
KILLED_AFTER = 60  # of the processor
BLOCKED_AFTER = 600  # of the clock
MOST_BYTES = 1_500_000_000
NEURON_BYTES = 64  # of a network that is bounded, inputs too: bounds, rows of it, its report
BASE_BYTES = 400 << 20  # the interpreter, its libraries, a small network
ADDRESS_SPACE = 6 << 30  # saves the machine where a promise is broken


@dataclass(frozen=True)
class Case:
    """``write`` puts files into a folder and returns the commands to run on them.

    ``answer``: "refused", "answered", or "either" for files that damage may have left readable.
    """

    name: str
    write: Callable[[Path], list[list[str]]]
    answer: str = "refused"
    quick: bool = True


@dataclass(frozen=True)
class Outcome:
    """What became of one case."""

    status: list[int]
    errors: list[str]
    seconds: float
    peak: int
    neurons: int = 0
    trouble: str = ""


def fault(case: Case, folder: Path) -> str:
    """What is wrong with gamma's handling of a case; empty when all is well."""
    commands = case.write(folder)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    found = _forked(commands)
    if found.trouble:
        return found.trouble
    refused = USAGE in found.status
    if RESOURCE in found.status[: len(commands) > 1]:
        return f"a file is no question of time or memory: {found.errors}"
    for status, line in zip(found.status, found.errors, strict=True):
        if status not in (0, USAGE, 3, 4, 5):
            return f"status {status}: {line}"
        if status == USAGE and line and (line.count("\n") != 1 or len(line) > 2500):
            return f"not one line: {line[:500]!r}"
        if status == USAGE and line and not line.strip().isprintable():
            return f"unreadable: {line[:500]!r}"
    if case.answer != "either" and refused != (case.answer == "refused"):
        return f"expected {case.answer}, status {found.status}: {found.errors}"
    limit = REFUSED_SECONDS if refused else ANSWERED_SECONDS
    if found.seconds > limit:
        return f"{found.seconds:.1f} s, {found.status}: {found.errors}"
    allowed = BASE_BYTES + 10 * size + NEURON_BYTES * found.neurons
    if found.peak > (min(MOST_BYTES, allowed) if refused else allowed):
        return f"{found.peak / 1e6:.0f} MB for {size} bytes, {found.status}: {found.errors}"
    return ""


def model_commands(path: Path) -> list[list[str]]:
    """Look at a model, then bound it around zero (whatever its shape: see `_expanded`)."""
    limit = ["--timeout", str(TIMEOUT), "--threads", "1"]
    return [["inspect", str(path)], ["BOUNDS", str(path), "--method", "crown", *limit]]


@functools.cache
def _warm_up() -> None:
    """What a first run imports and probes is done once, in the parent of all."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        model, point = Path(folder) / "warm.safetensors", Path(folder) / "zeros.npy"
        x = Builder(Input(), (2,))
        save(x.build(x.add(Relu(), 0)), model)
        np.save(point, np.zeros(2))
        for command in ("inspect", "bounds", "verify"):
            question = ["--input", str(point), "--epsilon", "1", "--threads", "1"]
            main([command, str(model), *(question if command != "inspect" else [])])


def _forked(commands: list[list[str]]) -> Outcome:
    _warm_up()
    sys.stdout.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            with os.fdopen(writer, "w") as stream:
                stream.write(json.dumps(_measured(commands)))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    if not text:
        return Outcome([], [], 0.0, 0, 0, f"killed: over {KILLED_AFTER} s, or a crash")
    return Outcome(**json.loads(text))


def _measured(commands: list[list[str]]) -> dict[str, object]:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(BLOCKED_AFTER)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, KILLED_AFTER)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, resource.RLIM_INFINITY))
    status, errors, trouble, neurons = [], [], "", 0
    start = time.process_time()
    held = max(0, _status("VmRSS") - (BASE_BYTES >> 1))  # by the tests' own process
    for command in commands:
        out, err = StringIO(), StringIO()
        try:
            with redirect_stdout(out), redirect_stderr(err):
                command, known = _expanded(command)
                neurons = max(neurons, known)
                status.append(main(command))
        except BaseException:
            trouble = traceback.format_exc()
            break
        errors.append(err.getvalue()[:4000])
        if status[-1] and command[0] == "inspect":
            break
    seconds = time.process_time() - start
    return {"status": status, "errors": errors, "seconds": seconds, "peak": _peak() - held,
            "neurons": neurons, "trouble": trouble}  # fmt: skip


def _expanded(command: list[str]) -> tuple[list[str], int]:
    """BOUNDS stands for ``bounds`` around zeros of the shape that ``inspect`` states; neurons."""
    if command[0] != "BOUNDS":
        return command, 0
    out = StringIO()
    with redirect_stdout(out):
        main(["inspect", command[1], "--json"])
    point = Path(command[1]).parent / "zeros.npy"
    known = json.loads(out.getvalue())
    np.save(point, np.zeros(known["input_shape"], np.float32))
    asked = ["bounds", command[1], "--input", str(point), "--epsilon", "0.5", *command[2:]]
    return asked, known["neurons"] + math.prod(known["input_shape"])


def _status(field: str) -> int:
    """Bytes of a field of this process's status; 0 where there is none."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    lines = status.read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def _peak() -> int:
    if found := _status("VmHWM"):  # ru_maxrss would count what the parent holds
        return found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
