"""Whole cases: time, processor time, memory, share of the floor, ratio to the recorded peer.

    python -m benches.macro                     the plan of `make bench`, about four minutes
    python -m benches.macro --full              every case, batch, method, dtype, threads
    python -m benches.macro --cases acasxu_1_1_p1,oval21_base --methods crown --batches 1
    python -m benches.macro --docs              also write docs/performance.md's tables

Each case and thread count runs in a child process of its own, so that BLAS threads are set before
NumPy is loaded. Results are checked: bounds must enclose what an attack reached and be no wider
than the peer's: by 0.05 % with float64 rows, by 0.5 % with what float32 rows are charged for their
rounding. The exit status is 1 when a check fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benches import report
from benches.cases import BATCHED, DATA, ROOT, names

HISTORY = ROOT / "benches" / "history"
METHODS = ("ibp", "crown-ibp", "crown", "alpha")
LONG = 1.0
"""Seconds of a call that is measured once, when it is warm."""
WIDER, CHARGED = 1.0005, 1.005
"""How much wider than the peer's the mean output width may be: by the rules alone, with float64
rows; and with what float32 rows are charged for their rounding, which the peer does not pay."""


@dataclass(frozen=True)
class Task:
    """One measurement."""

    case: str
    method: str
    batch: int
    dtype: str
    threads: int


def plan(args: argparse.Namespace) -> Iterator[Task]:
    """What to measure: everything, or a plan of a few minutes."""
    known = names(args.data)
    for case in args.cases.split(",") if args.cases else known:
        for threads in args.threads:
            for method in args.methods.split(","):
                for batch in args.batches:
                    for dtype in args.dtypes.split(","):
                        task = Task(case, method, batch, dtype, threads)
                        if args.full or args.cases or _short(task, args.threads):
                            yield task


def _short(task: Task, threads: list[int]) -> bool:
    """Batches where the peer has them, but for alpha; other dtypes for CROWN at batch 1 and all
    threads only."""
    if task.batch > 1 and (task.case not in BATCHED or task.dtype != "auto"):
        return False
    if task.batch > 1 and task.method == "alpha":
        return False
    if task.dtype == "auto":
        return True
    return task.method == "crown" and task.threads == max(threads)


# --- the child: measurements of one case ----------------------------------------------------------


def measure_tasks(tasks: list[Task], data: Path, seconds: float) -> dict[str, Any]:
    """Machine limits, and one record per task of one case."""
    import onnx  # noqa: F401  (imports are no part of a case's memory)

    import gamma.formats.onnx
    import gamma.propagate  # noqa: F401
    from benches.cases import case as read
    from benches.memory import resident
    from gamma.cli.measuring import describe_machine, measure_machine

    base = resident()
    found = read(tasks[0].case, data)
    machine = measure_machine(0.1)
    records = [_record(task, found, machine, seconds, base) for task in tasks]
    return {
        "environment": describe_machine(),
        "machine": machine.to_dict(),
        "load": os.getloadavg()[0],
        "records": records,
    }


def _record(task: Task, case: Any, machine: Any, seconds: float, base: int) -> dict[str, Any]:

    from benches.cases import Peer
    from benches.floors import least_work
    from benches.memory import peak_of
    from gamma.cli.measuring import timed
    from gamma.propagate import bounds

    box = case.boxes(task.batch)

    def call() -> Any:
        return bounds(case.network, box, method=task.method, dtype=task.dtype)

    began = time.perf_counter()
    out, peak = peak_of(call)
    long = time.perf_counter() - began > LONG
    timing = timed(call, seconds, least=1 if long else 3, most=2000)
    work = least_work(case.network, case.boxes(1), task.method, task.dtype)
    floor = work.seconds(machine, task.dtype, task.batch)
    peer = case.peers.get((task.method, task.batch), Peer())
    width = _width(out)
    ruled = None
    if peer.width is not None:
        ruled = _width(bounds(case.network, box, method=task.method, dtype="float64"))
    return {
        **asdict(task),
        "family": case.family,
        "neurons": sum(node.size for node in case.network.nodes[1:]),
        "parameters": case.network.parameters,
        **timing.to_dict(),
        "peak": None if peak is None else max(0, peak - base),
        "floor": floor,
        "operations": work.operations * task.batch,
        "peer": peer.seconds,
        "peer_memory": peer.memory,
        "width": width,
        "peer_width": peer.width,
        "failures": [
            *_failures(case, out, task.batch),
            *_wider(ruled, WIDER, peer.width, "with float64 rows "),
            *_wider(width, CHARGED, peer.width, ""),
        ],
    }


def _width(out: Any) -> float:
    """The mean width of the first box's outputs."""
    import numpy as np

    return float(np.mean(out.upper[0].astype(np.float64) - out.lower[0]))


def _wider(width: float | None, most: float, peer: float | None, how: str) -> Iterator[str]:
    if width is not None and peer is not None and not width <= most * peer:
        yield f"mean width {how}{width:.6g}, the peer's is {peer:.6g}"


def _failures(case: Any, out: Any, batch: int) -> Iterator[str]:
    """What is wrong with the bounds: the bench must not time a wrong answer."""
    import numpy as np

    shape = (batch, -1)
    lower, upper = out.lower.reshape(shape), out.upper.reshape(shape)
    if not (lower <= upper).all():
        yield "bounds cross or are NaN"
    if case.reached is not None:
        least, greatest = (e.ravel() for e in case.reached)
        # The attack's values are float64 evaluations: exact to far less than this.
        slack = 1e-9 * (1 + abs(least) + abs(greatest))
        if not ((lower[0] <= least + slack).all() and (greatest - slack <= upper[0]).all()):
            yield "an attack reached outputs outside the bounds"
    boxes = case.boxes(batch)
    y = case.network.forward((boxes.lower + boxes.upper) / 2, np.float64).reshape(shape)
    slack = 1e-9 * (1 + abs(y))
    if not ((lower - slack <= y).all() and (y <= upper + slack).all()):
        yield "the output of a box's centre lies outside the bounds"


# --- the parent -----------------------------------------------------------------------------------


def run_child(tasks: list[Task], args: argparse.Namespace) -> dict[str, Any]:
    """The records of one case at one thread count, from a child process."""
    threads = str(tasks[0].threads)
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(limits, threads)
    request = json.dumps([asdict(task) for task in tasks])
    command = [sys.executable, "-m", "benches.macro", "--child", "--data", str(args.data)]
    done = subprocess.run(
        [*command, "--seconds", str(args.seconds)],
        input=request,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"bench: the child for {tasks[0].case} ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def cold_start(data: Path) -> dict[str, Any]:
    """Seconds from the start of a process to its first CROWN bound; the best of three."""
    known = [name for name in ("acasxu_1_1_p1", "digits_mlp", "made_0") if name in names(data)]
    code = (
        "from pathlib import Path\nfrom benches.cases import case\nimport gamma\n"
        f"c = case({known[0]!r}, Path({str(data)!r}))\ngamma.bounds(c.network, c.boxes(1))"
    )
    found = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        found.append(time.perf_counter() - start)
    return {"case": known[0], "seconds": min(found)}


def collect(args: argparse.Namespace) -> dict[str, Any]:
    """Run the plan; the whole document."""
    groups: dict[tuple[str, int], list[Task]] = {}
    for task in plan(args):
        groups.setdefault((task.case, task.threads), []).append(task)
    records: list[dict[str, Any]] = []
    machines: dict[str, list[dict[str, Any]]] = {}
    environment: dict[str, Any] = {}
    for (case, threads), tasks in groups.items():
        print(f"{case}, {threads} threads: {len(tasks)} measurements", file=sys.stderr)
        found = run_child(tasks, args)
        records += found["records"]
        environment = found["environment"]
        machines.setdefault(str(threads), []).append({**found["machine"], "load": found["load"]})
    return {
        "schema": "gamma.macro/1",
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "environment": environment,
        "machine": {threads: _best(seen) for threads, seen in machines.items()},
        "cold": cold_start(args.data),
        "records": records,
    }


def _best(seen: list[dict[str, Any]]) -> dict[str, Any]:
    """The machine at its fastest, and the highest load average met."""
    best = {key: max(m[key] for m in seen) for key in ("copy", "gemm32", "gemm64", "load")}
    return {**best, "call": min(m["call"] for m in seen)}


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with vnncomp/, reference/")
    parser.add_argument("--cases", help="comma-separated; default: all")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 128])
    parser.add_argument("--dtypes", default="auto,float32,float64")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=0.3, help="per measurement")
    parser.add_argument("--full", action="store_true", help="every combination")
    parser.add_argument("--out", type=Path, help="the JSON document (default: benches/history/)")
    parser.add_argument("--docs", action="store_true", help="write the generated documentation")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


def main() -> int:
    """Measure, store, print; 1 when a check failed."""
    args = _arguments().parse_args()
    if args.child:
        tasks = [Task(**task) for task in json.load(sys.stdin)]
        json.dump(measure_tasks(tasks, args.data, args.seconds), sys.stdout)
        return 0
    document = collect(args)
    stamp = document["when"].replace(":", "").replace("-", "")
    out = args.out or HISTORY / f"macro-{stamp}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n")
    print(report.text(document))
    print(f"written: {os.path.relpath(out)}", file=sys.stderr)
    if args.docs:
        report.write_docs(document)
    failed = [r for r in document["records"] if r["failures"]]
    for record in failed:
        where = f"{record['case']}, {record['method']}, {record['batch']}, {record['dtype']}"
        print(f"WRONG {where}: {'; '.join(record['failures'])}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    from gamma.runtime import heap

    heap.own()
    sys.exit(main())
