"""Language models, one process a row: seconds, processors in use, memory; optimisations off and on.

    python benches/models.py qwen3-0.6b --type Q6_K -o qwen3-0.6b.gguf
    python -m benches.language FILE.gguf [--only ranges|ibp] [--runs N] [--name TITLE] [--docs]

Every row is the command as a user gives it, start-up included. The floor is what decoding all
weights of the file once takes, in this session and on one processor. ``--docs`` writes the table of
the model into docs/performance.md. Of 0.6 billion weights, one run a row takes three minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benches.report import replace_block

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
IBP = ("verify", "--ids", "1,2,3,4", "--epsilon", "0.001", "--method", "ibp", "--native")
IBP += ("--timeout", "3600")
COMMANDS = {"ranges": ("ranges",), "ibp": IBP}


@dataclass(frozen=True)
class Variant:
    """One way to run a command: what is switched off or on."""

    title: str
    more: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    methods: tuple[str, ...] = ("ranges", "ibp")


def gate(name: str, *methods: str) -> Variant:
    environment = (("GAMMA_DISABLE", name),)
    return Variant(f"without `{name}`", (), environment, methods or ("ranges", "ibp"))


VARIANTS = (
    Variant("as it is"),
    Variant("one thread", ("--threads", "1"), (("OPENBLAS_NUM_THREADS", "1"),)),
    Variant("scalar kernels", (), (("GAMMA_ISA", "scalar"),)),
    Variant("AVX2 kernels", (), (("GAMMA_ISA", "avx2"),)),
    gate("pool"),
    gate("kept_memory"),
    gate("norm_caps", "ibp"),
    Variant("`--stream`", ("--stream",), (), ("ibp",)),
    Variant("`--guarantee float32`", ("--guarantee", "float32"), (), ("ibp",)),
)


@dataclass(frozen=True)
class Run:
    """What one process took."""

    wall: float
    cpu: float
    peak: int
    status: int


def run(model: Path, command: str, variant: Variant) -> Run:
    """One command in a process of its own."""
    name, *rest = COMMANDS[command]
    line = [sys.executable, "-m", "gamma.cli.main", name, str(model), *rest, *variant.more]
    environment = {**os.environ, **dict(variant.environment)}
    begin = time.perf_counter()
    with subprocess.Popen(
        line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begin
    if process.returncode not in (0, 4):
        raise SystemExit(f"{' '.join(line)}: exit {process.returncode}: {said.decode()[-300:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return Run(wall, cpu, usage.ru_maxrss * 1024, process.returncode)


def floor(model: Path) -> tuple[int, float]:
    """Weights of the file, and processor seconds for decoding each once."""
    import numpy as np

    from gamma.formats.gguf import open_gguf

    file = open_gguf(model)
    count, begin = 0, time.process_time()
    for name in file:
        weight = file[name]
        count += weight.rows * weight.columns
        for start in range(0, weight.rows, 256):
            weight.panel(start, min(start + 256, weight.rows), np.float32)
    return count, time.process_time() - begin


def variants(command: str) -> list[Variant]:
    """Those of one command, without kernels that are in use anyway or cannot be."""
    from gamma.tensor.kernels import backend

    others = {name for name in backend.available() if name != backend.isa}
    found = [v for v in VARIANTS if command in v.methods]
    return [v for v in found if others.issuperset(x for k, x in v.environment if k == "GAMMA_ISA")]


def table(model: Path, commands: list[str], runs: int) -> list[str]:
    """Rows of the table, least processor time of some runs."""
    count, seconds = floor(model)
    lines = [
        f"{count / 1e6:.0f} million weights, decoded once in {seconds:.2f} s on one processor "
        f"({count / seconds / 1e9:.2f} G weights/s).",
        "",
        "| command | | processor s | wall s | processors in use | peak MB |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for command in commands:
        for variant in variants(command):
            best = min((run(model, command, variant) for _ in range(runs)), key=lambda r: r.cpu)
            lines.append(
                f"| `{command}` | {variant.title} | {best.cpu:.1f} | {best.wall:.1f} "
                f"| {best.cpu / best.wall:.2f} | {best.peak / 1e6:.0f} |"
            )
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--only", choices=COMMANDS)
    parser.add_argument("--runs", type=int, default=2, metavar="N", help="of a row, default: 2")
    parser.add_argument("--name", help="of the section in docs/performance.md")
    parser.add_argument("--docs", action="store_true", help="write the table there")
    arguments = parser.parse_args()
    commands = [arguments.only] if arguments.only else list(COMMANDS)
    lines = table(arguments.model, commands, arguments.runs)
    print("\n".join(lines[:2]))
    if arguments.docs:
        replace_block(PAGE, f"language {arguments.name or arguments.model.stem}", "\n".join(lines))


if __name__ == "__main__":
    main()
