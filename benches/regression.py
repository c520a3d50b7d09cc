"""What must not get worse, measured so that a busy machine does not matter.

    python -m benches.regression                compare with benches/baseline.json
    python -m benches.regression --record       write it: after an intended change, with its reason

Three kinds of figures: instructions of each kernel under callgrind (valgrind offers AVX2; ± 1 %,
only for a compiler the baseline knows), peak allocations of whole cases by tracemalloc (10 %), and
processor time as a ratio to a calibration loop of the same run (a factor of 2). Exit status 1 when
something got worse; figures that got better are named, so that they are recorded.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benches.cases import ROOT

BASELINE = ROOT / "benches" / "baseline.json"
SIMD = ROOT / "csrc" / "simd"
DRIVER = ROOT / "benches" / "count_kernels.c"
METHODS = ("ibp", "crown-ibp", "crown")
CASES = ("made_0", "made_1", "made_3", "digits_mlp", "digits_cnn")
MORE = (
    ("digits_cnn", "ibp", 128),
    ("digits_cnn", "crown", 16),
    ("digits_mlp", "alpha", 1),
    ("lattice_8", "crown", 1),
    ("gelu_6x200", "crown", 1),
)
"""Batches, ascents, sparse weights, smooth functions: what the cases above have not."""
BRANCHING = {"acasxu": 9, "mnist_fc 256x4": 4}
"""Rounds of branch and bound on made networks: the time of a fixed number of sub-problems."""
MARGINS = {"instructions": 1.01, "allocations": 1.10, "ratios": 2.0}
"""Factor above the baseline that fails, per kind."""

Figures = dict[str, dict[str, float]]


class AbsentError(Exception):
    """A tool or a baseline is missing: the message says which; the part is skipped."""


# --- instructions ---------------------------------------------------------------------------------


def compiler() -> tuple[str, str]:
    """Path and version of the C compiler. Raises AbsentError."""
    found = shutil.which(os.environ.get("CC", "cc"))
    if found is None:
        raise AbsentError("no C compiler")
    done = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    return found, done.stdout.splitlines()[0].strip()


def build(target: Path) -> None:
    """The driver with the shipped sources and flags. Raises AbsentError without a compiler."""
    path, _ = compiler()
    spec = importlib.util.spec_from_file_location("csrc_builder", ROOT / "csrc" / "builder.py")
    assert spec is not None and spec.loader is not None
    builder: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    objects = []
    for name, own in builder.sources(platform.machine()).items():
        objects.append(str(target.with_suffix(f".{name}.o")))
        flags = [*builder.FLAGS, *own, "-c", str(SIMD / name), "-o", objects[-1]]
        subprocess.run([path, *flags], check=True)
    link = [*builder.FLAGS, f"-I{SIMD}", str(DRIVER), *objects, "-lm", "-o", str(target)]
    subprocess.run([path, *link], check=True)


def instructions() -> dict[str, float]:
    """Instructions of one call of each kernel with all it calls.

    Raises AbsentError without valgrind.
    """
    _need_valgrind()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "count"
        build(program)
        return counted(program)


def _need_valgrind() -> None:
    for tool in ("valgrind", "callgrind_annotate"):
        if shutil.which(tool) is None:
            raise AbsentError(f"{tool} is not installed")


def counted(program: Path) -> dict[str, float]:
    """What `instructions` counts, of a driver that is built. AbsentError without valgrind."""
    _need_valgrind()
    record = program.with_name("callgrind.out")
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={record}", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise AbsentError(f"valgrind cannot run the driver: {done.stderr[-300:]}")
    annotate = ["callgrind_annotate", "--inclusive=yes", "--threshold=100", str(record)]
    listed = subprocess.run(annotate, capture_output=True, text=True, check=True).stdout
    isa = done.stdout.split()[0]
    return {f"{name} {isa}": count for name, count in _counts(listed).items()}


def kernel_entries() -> set[str]:
    """The functions of api.h, and of what it includes, that do work."""
    text = "".join(path.read_text() for path in sorted(SIMD.glob("api*.h")))
    declared = set(re.findall(r"\b(gamma_\w+)\(", text))
    return {
        name
        for name in declared
        if not re.search("_(available|select|(block|room)(_f32|_f64)?)$", name)
    }


def _counts(listing: str) -> dict[str, float]:
    """Inclusive instruction counts of the entry points. Raises ValueError for one without."""
    entries = kernel_entries()
    found: dict[str, float] = {}
    for line in listing.splitlines():
        match = re.match(r"\s*([\d,]+)\s.*:(gamma_\w+)(?:\s|$)", line)
        if match and match.group(2) in entries:
            found[match.group(2)] = float(match.group(1).replace(",", ""))
    if set(found) != entries:
        raise ValueError(f"{DRIVER.name} does not call {sorted(entries - set(found))}")
    return found


# --- allocations and time ratios: in a child with one BLAS thread ---------------------------------


def measured() -> Figures:
    """Peak allocations (bytes) and time ratios of the shipped cases."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "benches.regression", "--child"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | one, stdout=subprocess.PIPE, text=True, check=True
    )
    found: Figures = json.loads(done.stdout)
    return found


def bounded() -> dict[str, tuple[str, str, int]]:
    """Figure -> case, method and batch whose bounds are measured."""
    every = (*((name, method, 1) for name in CASES for method in METHODS), *MORE)
    return {f"{n} {m}" + (f", {b} boxes" if b > 1 else ""): (n, m, b) for n, m, b in every}


def _child() -> Figures:
    import tracemalloc

    from benches.branching import rounds
    from benches.cases import DATA
    from benches.peer import read
    from gamma.propagate import bounds

    allocations: dict[str, float] = {}
    ratios: dict[str, float] = {}
    for title, (name, method, batch) in bounded().items():
        chosen = read(name, DATA)
        call = partial(bounds, chosen.network, chosen.boxes(batch), method=method)
        ratios[title] = _ratio(call)
        tracemalloc.start()
        call()
        allocations[title] = float(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    for name, count in BRANCHING.items():
        ratios[f"branching {name}"] = _ratio(rounds(name, count))
    return {"allocations": allocations, "ratios": ratios}


def _ratio(call: Any, turns: int = 5) -> float:
    """Least processor time of ``call`` over that of the calibration, measured in turns."""
    from gamma.cli.measuring import timed

    pairs = [
        (timed(call, 0.02, least=2).cpu, timed(_calibration, 0.02, least=2).cpu)
        for _ in range(turns)
    ]
    return min(p[0] for p in pairs) / min(p[1] for p in pairs)


def _calibration() -> None:
    """About what a walk does, half of it products and half of it calls from Python.

    Machines differ by a factor of two in the speed of the one against the other.
    """
    import numpy as np

    a = np.full((64, 128), 0.5, np.float32)
    w = np.full((128, 128), 0.01, np.float32)
    for _ in range(10):
        a = np.maximum(a @ w, 0) + np.float32(0.1)
        a *= np.float32(0.5)
    small = np.full(64, 0.5)
    for _ in range(60):
        small = np.maximum(small * 0.5, 0.1) + small.reshape(8, 8).sum(axis=0).repeat(8)
        small = np.minimum(small, 1.0)


# --- comparison -----------------------------------------------------------------------------------


def collect(kinds: list[str]) -> tuple[Figures, list[str]]:
    """Every figure that can be had here, and what was left out and why."""
    figures: Figures = {}
    skipped = []
    if "instructions" in kinds:
        try:
            figures["instructions"] = instructions()
        except AbsentError as reason:
            skipped.append(f"instructions: {reason}")
    if "allocations" in kinds or "ratios" in kinds:
        figures |= {kind: f for kind, f in measured().items() if kind in kinds}
    return figures, skipped


def compare(kind: str, now: dict[str, float], before: dict[str, float]) -> tuple[list[str], ...]:
    """(worse, better): one line per figure that left the margin; new figures are no news."""
    worse, better = [], []
    margin = MARGINS[kind]
    for name, value in now.items():
        if name not in before:
            continue
        line = f"{kind}: {name}: {value:,.6g}, recorded {before[name]:,.6g}"
        if value > before[name] * margin:
            worse.append(line)
        elif value * margin < before[name]:
            better.append(line)
    return worse, better


def baseline(kind: str, recorded: dict[str, Any]) -> dict[str, float]:
    """The recorded figures; instruction counts belong to one compiler. Raises AbsentError."""
    if kind != "instructions":
        found: dict[str, float] = recorded.get(kind, {})
        return found
    _, version = compiler()
    counts: dict[str, dict[str, float]] = recorded.get(kind, {})
    if version not in counts:
        raise AbsentError(f"nothing recorded for {version}")
    return counts[version]


def record(figures: Figures, recorded: dict[str, Any]) -> None:
    """Write the baseline, keeping other compilers' counts."""
    for kind, values in figures.items():
        if kind == "instructions":
            recorded.setdefault(kind, {})[compiler()[1]] = values
        else:
            recorded[kind] = values
    BASELINE.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")


def main() -> int:
    """Measure, then compare or record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--kinds", nargs="+", default=list(MARGINS), choices=list(MARGINS))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        json.dump(_child(), sys.stdout)
        return 0
    recorded = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    figures, skipped = collect(args.kinds)
    if args.record:
        record(figures, recorded)
    worse: list[str] = []
    for kind, now in figures.items():
        try:
            bad, good = compare(kind, now, baseline(kind, recorded))
        except AbsentError as reason:
            skipped.append(f"{kind}: {reason}")
            continue
        worse += bad
        for line in good:
            print(f"better  {line}: record it (--record)")
        print(f"compared {len(now)} {kind}, {len(bad)} worse")
    for line in skipped:
        print(f"skipped {line}")
    for line in worse:
        print(f"WORSE   {line}")
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
