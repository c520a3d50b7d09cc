"""auto_LiRPA and gamma in turn on the same networks and boxes: how many times faster gamma is.

    make bench-peer                               installs the peer beside gamma, then all cases
    python -m benches.peer --cases sigmoid_6x200  some; --peer PYTHON: an interpreter that has it

Each of the two runs in processes of its own, with one and with two threads, and they take turns, so
that a machine that slows down slows both. A figure is the smaller of the least wall time with two
threads and the least processor time with one. Without the peer its recorded figures stand in, and
the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benches import made
from benches.cases import DATA, PEER, ROOT, Case, case, names
from benches.report import markdown
from gamma.cli.measuring import describe_machine

PAGE = ROOT / "docs" / "performance" / "peer.md"
INTERPRETER = ROOT / ".peer" / "bin" / "python"


@dataclass(frozen=True)
class Target:
    """Times faster than the peer that the cases of a line must and should reach."""

    name: str
    method: str
    must: float
    aim: float
    cases: tuple[str, ...]
    batch: int = 1


CONVOLUTIONAL = ("collins_rul_full_window_20", "oval21_base", "oval21_wide", "marabou_cifar10")
RESIDUAL = ("cifar10_resnet_2b", "sri_resnet_a")
DENSE = ("acasxu_1_1_p1", "mnist_fc_256x4_p0_0.05")
TARGETS = (
    Target("IBP, convolutional and residual", "ibp", 8, 15, (*CONVOLUTIONAL, *RESIDUAL)),
    Target("IBP, batch 128", "ibp", 4, 8, (*DENSE, "oval21_base"), 128),
    Target("CROWN, residual", "crown", 6, 12, RESIDUAL),
    Target("CROWN, convolutional", "crown", 8, 15, CONVOLUTIONAL),
    Target("CROWN, S-shaped", "crown", 8, 20, made.NAMES[: len(made.SMOOTH)]),
    Target(
        "CROWN, lattices", "crown", 5, 15, ("tll_n2_N8_0", *(f"lattice_{n}" for n in made.LATTICES))
    ),
    Target("CROWN, batch 128", "crown", 5, 10, ("oval21_base",), 128),
    Target("CROWN, dense", "crown", 10, 30, DENSE),
)


class Side:
    """A process that measures when told to."""

    def __init__(self, command: list[str], request: dict[str, Any], threads: int) -> None:
        limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = os.environ | dict.fromkeys(limits, str(threads))
        self.threads, self.best, self.width = threads, np.inf, np.nan
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env=environment,
        )
        pickle.dump({**request, "threads": threads}, self._in, protocol=4)

    @property
    def _in(self) -> Any:
        assert self.process.stdin is not None
        return self.process.stdin

    def round(self) -> bool:
        """One round of measurements; False when the process ended, as it does where it refuses."""
        try:
            self._in.write(b"\n")
            self._in.flush()
        except BrokenPipeError:
            return False
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            return False
        found = json.loads(line)
        took = found["cpu"] if self.threads == 1 else found["wall"]
        self.best, self.width = min(self.best, took), found["width"]
        return True

    def close(self) -> None:
        """End the process."""
        with self.process, suppress(BrokenPipeError):
            self._in.close()


def child() -> None:
    """gamma's side: the request is the case, measured for each line on stdin."""
    from gamma.propagate import bounds
    from gamma.runtime import heap

    heap.own()
    request = pickle.load(sys.stdin.buffer)
    found = read(request["case"], Path(request["data"]))
    box = found.boxes(request["batch"])
    while sys.stdin.buffer.readline():
        wall_best, cpu_best = np.inf, np.inf
        deadline = time.perf_counter() + request["seconds"]
        while time.perf_counter() < deadline or wall_best == np.inf:
            wall, cpu = time.perf_counter(), time.process_time()
            out = bounds(found.network, box, method=request["method"])
            cpu_best = min(cpu_best, time.process_time() - cpu)
            wall_best = min(wall_best, time.perf_counter() - wall)
        width = float(np.mean(out.upper[0].astype(np.float64) - out.lower[0]))
        print(json.dumps({"wall": wall_best, "cpu": cpu_best, "width": width}), flush=True)


def read(name: str, data: Path) -> Case:
    """A case of the benchmarks or a made one."""
    return made.case(name) if name in made.NAMES else case(name, data)


def exported(found: Case) -> list[dict[str, Any]]:
    """The network's nodes in plain arrays, for a process without gamma."""
    nodes = []
    for node in found.network.nodes:
        entry = {"kind": node.op.name, "inputs": node.inputs, "shape": node.shape}
        for key in ("weight", "bias", "strides", "pads", "dilations", "group", "perm"):
            if hasattr(node.op, key):
                entry[key] = getattr(node.op, key)
        nodes.append(entry)
    return nodes


@dataclass(frozen=True)
class Result:
    """Seconds and mean widths of both on one case; ``recorded``: the peer's are from its file.

    Without the peer's where it refuses the network.
    """

    gamma: float
    width: float
    peer: float | None
    peer_width: float | None
    recorded: bool


def compare(found: Case, target: Target, args: argparse.Namespace, there: bool) -> Result:
    """Both sides in turn."""
    request = {"case": found.name, "data": str(args.data), "method": target.method}
    request |= {"batch": target.batch, "seconds": args.seconds}
    box = found.boxes(target.batch)
    theirs = {"nodes": exported(found), "box": (box.lower, box.upper), "seconds": args.seconds}
    theirs["method"] = PEER[target.method]
    ours = [Side([sys.executable, "-m", "benches.peer", "--child"], request, t) for t in (1, 2)]
    script = str(ROOT / "benches" / "peer_child.py")
    peers = [Side([str(args.peer), script], theirs, t) for t in (1, 2)] if there else []
    for _ in range(args.rounds):
        if not all(side.round() for side in ours):
            raise SystemExit(f"bench: gamma ended on {found.name}")
        peers = [side for side in peers if side.round()]
    for side in (*ours, *peers):
        side.close()
    best, width = min(side.best for side in ours), ours[0].width
    if there and not peers:
        return Result(best, width, None, None, False)
    if there:
        return Result(best, width, min(side.best for side in peers), peers[0].width, False)
    known = found.peers.get((target.method, target.batch))
    if known is None:
        return Result(best, width, None, None, True)
    return Result(best, width, known.seconds, known.width, True)


def rows(args: argparse.Namespace, there: bool) -> Iterator[tuple[str, ...]]:
    """The table's rows, as they are measured."""
    known = {*names(args.data), *made.NAMES}
    for target in (t for t in TARGETS if args.only in t.name):
        for name in (n for n in target.cases if n in known):
            if not args.cases or name in args.cases.split(","):
                yield row(target, name, compare(read(name, args.data), target, args, there))


def row(target: Target, name: str, found: Result) -> tuple[str, ...]:
    """The cells of one case."""
    faster = found.peer / found.gamma if found.peer else None
    nothing = "" if found.recorded else "refused"
    theirs = nothing if found.peer is None else number(found.peer * 1e3)
    return (
        target.name,
        name,
        number(found.gamma * 1e3),
        theirs + (" (recorded)" if found.recorded and theirs else ""),
        "" if faster is None else f"{faster:.3g}×",
        "" if found.peer_width is None else f"{found.width / found.peer_width:.4f}",
        f"{target.must:g}×",
        f"{target.aim:g}×",
        "" if faster is None else _status(faster, target),
    )


def number(value: float) -> str:
    """Three digits, and no power of ten."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _status(faster: float, target: Target) -> str:
    if faster >= target.aim:
        return "aim met"
    return "met" if faster >= target.must else "not met"


HEAD = ("bounds", "case", "gamma ms", "peer ms", "times faster", "width ÷ peer's")
"""Of the page; a terminal also has what was aimed at."""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--cases", help="comma-separated; default: all")
    parser.add_argument("--only", default="", help="part of the targets' names")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="per round, side and threads")
    parser.add_argument("--peer", type=Path, default=INTERPRETER, help="interpreter with the peer")
    parser.add_argument("--docs", action="store_true", help=f"also write {PAGE.name}")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child()
        return 0
    there = installed(args.peer)
    found = []
    for cells in rows(args, there):
        print(*cells, sep="  ", file=sys.stderr, flush=True)
        found.append(cells)
    text = page(found, there)
    if args.docs:
        PAGE.write_text(text)
    print(text)
    return 0


def installed(interpreter: Path) -> bool:
    """Whether the peer can be imported there."""
    if not interpreter.exists():
        return False
    command = [str(interpreter), "-c", "import auto_LiRPA"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def page(found: list[tuple[str, ...]], there: bool) -> str:
    """The whole document."""
    about = describe_machine()
    source = (
        "Both in turn on one machine."
        if there
        else "The peer is not installed: its figures are recorded ones, of another machine."
    )
    day = time.strftime("%Y-%m-%d", time.gmtime())
    lines = [
        "# Beside auto_LiRPA",
        "",
        "Written by `make bench-peer`; do not edit. Milliseconds of one call, the smaller of the",
        "least wall time with two threads and the least processor time with one. The arithmetic of",
        "gamma is sound in floating point, the peer's is not. " + source,
        "",
        f"Measured on {day}: {about['processor']}, {about['isa']}, {about['blas']}, "
        f"load average {os.getloadavg()[0]:.1f}.",
        "",
        markdown(HEAD, [cells[: len(HEAD)] for cells in found], (False, False, *(True,) * 4)),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
