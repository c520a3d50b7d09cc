"""``gamma suite`` as a program: killed at any moment and resumed, without room, without rights."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import gamma
from gamma.errors import FormatError
from gamma.verification.suite import read_list, worker_count
from tests.cli import program
from tests.verify.known import dense

ROOT = Path(__file__).resolve().parents[2]
ENV = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
COUNT = 16


def command(*args: object) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "gamma", "suite", *map(str, args)]


def run(folder: Path, *args: object) -> program.Done:
    return program.run("suite", *args, cwd=folder)


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list in a folder of its own; instance k asks whether Y_0 >= k/8 on the unit square."""
    path = tmp_path_factory.mktemp("suite")
    weight = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    gamma.save(dense((weight, [0.0, 0.0, -2.0])), path / "net.safetensors")
    declare = "".join(f"(declare-const X_{i} Real)\n" for i in range(2))
    declare += "".join(f"(declare-const Y_{i} Real)\n" for i in range(3))
    box = "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))\n" for i in range(2))
    lines = []
    for k in range(COUNT):
        (path / f"p{k}.vnnlib").write_text(declare + box + f"(assert (>= Y_0 {k / 8}))")
        lines.append(f"net.safetensors,p{k}.vnnlib,20\n")
    (path / "list.csv").write_text("".join(lines))
    return path / "list.csv"


def verdicts(path: Path) -> dict[str, str]:
    """Verdict by property; every instance has exactly one record."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(found) == COUNT
    return {record["property"]: record["verdict"] for record in found}


EXPECTED = {f"p{k}.vnnlib": "violated" if k <= 8 else "verified" for k in range(COUNT)}


def _screen(terminal: int) -> bytes:
    """What a terminal shows next, nothing at its end."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""


def test_a_run_shows_progress_and_a_table(instances: Path, tmp_path: Path) -> None:
    screen, terminal = os.openpty()
    done = subprocess.run(
        command(instances, "-o", "out"), stdout=subprocess.PIPE, stderr=terminal, text=True,
        env=ENV, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    os.close(terminal)
    progress = b"".join(iter(partial(_screen, screen), b"")).decode()
    assert done.returncode == 0, progress
    # One line that changes, and is gone at the end; none at all where a second was enough.
    assert "\n" not in progress and (not progress or progress.endswith("\r\x1b[K"))
    for line in progress.split("\r\x1b[K")[1:-1]:
        assert len(line) < 80 and re.match(rf" *[\d.]+ s  \d+/{COUNT}", line), line
    assert done.stdout.startswith("verdict ")
    assert "16 run in" in done.stdout
    assert verdicts(tmp_path / "out") == EXPECTED
    again = run(tmp_path, instances, "-o", "out")
    assert (again.returncode, again.stdout) == (2, "")
    assert "--resume" in again.stderr
    resumed = run(tmp_path, instances, "-o", "out", "--resume")
    assert (resumed.returncode, resumed.stderr) == (0, "")  # no terminal, no progress
    assert "0 run in" in resumed.stdout and "16 kept" in resumed.stdout


@pytest.mark.slow
def test_jobs_give_the_same_verdicts(instances: Path, tmp_path: Path) -> None:
    done = run(tmp_path, instances, "--jobs", 2, "-o", "out")
    assert done.returncode == 0, done.stderr
    assert verdicts(tmp_path / "out") == EXPECTED


def test_many_jobs_for_few_instances(instances: Path, tmp_path: Path) -> None:
    few = instances.parent / "few.csv"
    few.write_text("net.safetensors,p1.vnnlib,20\nnet.safetensors,p9.vnnlib,20\n")
    done = run(tmp_path, few, "--jobs", 100_000)
    assert done.returncode == 0
    assert done.stderr == "--jobs 100000: 2 for 2 instances on this machine\n"
    assert worker_count(10**9, 10**9) <= 4 * (os.cpu_count() or 1)
    assert (worker_count(8, 1), worker_count(8, 0), worker_count(1, 9)) == (1, 1, 1)


def test_a_list_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list.csv")
    for name in ("list.csv", "n" * 5000, "a\0b"):
        with pytest.raises(FormatError):
            read_list(tmp_path / name)


def alive(process: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def killed_at(folder: Path, size: int, delay: float, *args: object) -> list[int]:
    """Start a run and kill it without warning once its file has ``size`` bytes, or is complete.

    Returns the processes it had started, where the system tells.
    """
    out = folder / "out"
    child = subprocess.Popen(
        command(*args, "-o", out),
        env=ENV,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while child.poll() is None and (not out.exists() or out.stat().st_size < size):
            time.sleep(0.0005)
        time.sleep(delay)
        listed = Path(f"/proc/{child.pid}/task/{child.pid}/children")
        children = listed.read_text().split() if listed.exists() else []
        return [int(process) for process in children]
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


KILLS = int(os.environ.get("GAMMA_TEST_KILLS", "5"))
"""`make nightly` asks for 20."""


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(instances: Path, tmp_path: Path) -> None:
    chance = random.Random(4)
    whole = tmp_path / "whole"
    assert run(tmp_path, instances, "-o", whole).returncode == 0
    cut_short = 0
    for trial in range(KILLS):
        folder = tmp_path / str(trial)
        folder.mkdir()
        target = chance.randrange(whole.stat().st_size)
        killed_at(folder, target, chance.random() * 0.01, instances)
        before = (folder / "out").read_text().count("\n") if (folder / "out").exists() else 0
        cut_short += before < COUNT
        done = run(folder, instances, "--resume", "-o", "out")
        assert done.returncode == 0, done.stderr
        assert f"{COUNT - before} run in" in done.stdout
        assert verdicts(folder / "out") == EXPECTED == verdicts(whole)
    assert cut_short >= KILLS / 2


@pytest.mark.slow
def test_killed_with_workers_and_resumed(instances: Path, tmp_path: Path) -> None:
    children = killed_at(tmp_path, 3000, 0.0, instances, "--jobs", 2)
    deadline = time.monotonic() + 20
    while any(alive(child) for child in children):  # they end with the run that started them
        assert time.monotonic() < deadline
        time.sleep(0.1)
    done = run(tmp_path, instances, "--resume", "--jobs", 2, "-o", "out")
    assert done.returncode == 0, done.stderr
    assert verdicts(tmp_path / "out") == EXPECTED


def test_no_room_is_one_line_and_can_be_resumed(instances: Path, tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    done = subprocess.run(
        command(instances, "-o", "out"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=ENV,
        cwd=tmp_path,
        preexec_fn=small_files,
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 5, done.stderr
    assert last.startswith("gamma: out: no room for results") and "--resume" in last
    assert (tmp_path / "out").read_bytes().endswith(b"\n")
    assert run(tmp_path, instances, "--resume", "-o", "out").returncode == 0
    assert verdicts(tmp_path / "out") == EXPECTED


def test_bad_requests_are_one_line(instances: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b,c\n")
    for args, word in (
        (("absent.csv",), "no such file"),
        (("bad.csv",), "line 1"),
        ((instances, "-o", "no/out"), "cannot be written"),
        ((instances, "-o", tmp_path), "regular file"),
        ((instances, "--jobs", 0), "at least 1"),
        ((instances, "--threads", 0), "at least 1"),
        ((instances, "--method", "guess"), "expected auto"),
        ((instances, "--backend", "dask"), "go together"),
        ((instances, "--scheduler", "tcp://here:1"), "go together"),
        ((instances, "--backend", "dask", "--scheduler", "a:1", "--jobs", 2), "leave it out"),
    ):
        done = run(tmp_path, *args)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert word in done.stderr
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o500)
        done = run(tmp_path, instances, "-o", "closed/out")
        assert done.returncode == 2 and "cannot be written" in done.stderr


def test_errors_of_instances_show_in_the_status(instances: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"{instances.parent}/net.safetensors,absent.vnnlib\n")
    done = run(tmp_path, "list.csv", "-o", "out")
    assert done.returncode == 2
    assert "absent.vnnlib" in done.stderr and "Traceback" not in done.stderr
    assert "error" in done.stdout


def test_a_missing_model_is_named_off_a_terminal(instances: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"absent.onnx,{instances.parent}/net.safetensors\n")
    done = run(tmp_path, "list.csv", "-o", "out")
    assert done.returncode == 2
    assert "absent.onnx" in done.stderr and "does not exist" in done.stderr
