"""Where results go: files, links, FIFOs, and standard streams that do not work."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from gamma.cli import bounds, report
from gamma.cli.main import main
from gamma.cli.output import check_writable, write_text
from gamma.errors import UsageError
from gamma.formats.save import save
from gamma.network.graph import Builder
from gamma.ops import Input, Relu
from tests.verify.known import ramp

ROOT = Path(__file__).resolve().parents[2]
ENV = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def test_a_fifo_is_written_into(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()))
    reader.start()
    check_writable(str(fifo))
    write_text(fifo, "x" * 200_000)
    reader.join(10)
    assert read == ["x" * 200_000]
    assert fifo.is_fifo()


def test_a_link_is_followed_and_stays_one(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    link, target = tmp_path / "link", folder / "target"
    link.symlink_to(target)
    for text in ("made", "replaced"):  # also where the target is not there yet
        write_text(link, text)
        assert link.is_symlink() and target.read_text() == text
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["link", "target", "there"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_permissions_are_kept(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "r.json"
    path.write_text("old")
    path.chmod(mode)
    write_text(path, "new")
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == mode


def test_impossible_names_are_refused_before_the_work(tmp_path: Path) -> None:
    for name, word in (
        ("", "empty"),
        (f"{tmp_path}/r.json/", "folder"),
        (str(tmp_path), "folder"),
        (f"{tmp_path}/no/r", "does not exist"),
        (f"{tmp_path}/{'n' * 5000}", "cannot be written"),
    ):
        with pytest.raises(UsageError, match=word) as caught:
            check_writable(name)
        assert len(str(caught.value)) < 400


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_protected_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("old")
    path.chmod(0o400)
    with pytest.raises(UsageError, match="may not be written"):
        check_writable(str(path))


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Arguments of a verification that ends verified."""
    folder = tmp_path_factory.mktemp("streams")
    save(ramp(), folder / "net.safetensors")
    text = "(declare-const X_0 Real)(declare-const Y_0 Real)"
    text += "(assert (>= X_0 0))(assert (<= X_0 1))(assert (>= Y_0 2))"
    (folder / "p.vnnlib").write_text(text)
    return f"{folder}/net.safetensors --property {folder}/p.vnnlib"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command.replace("gamma", f"{sys.executable} -m gamma", 1)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=ENV | environment,
    )


def test_closed_and_full_streams(question: str, tmp_path: Path) -> None:
    out = tmp_path / "r.txt"
    done = shell(f"gamma verify {question} -o {out} >&-")
    assert (done.returncode, done.stderr) == (0, "") and out.read_text().startswith("VERIFIED")
    for stdout in (">&-", ">/dev/full"):
        done = shell(f"gamma verify {question} {stdout}")
        assert done.returncode == 5 and "stdout cannot be written" in done.stderr
        assert done.stderr.count("\n") == 1 and "bug" not in done.stderr
    for stderr in ("2>&-", "2>/dev/full"):
        done = shell(f"gamma verify {question} --profile {stderr}")
        assert done.returncode == 0 and done.stdout.startswith("VERIFIED")


def test_plain_terminals_get_plain_signs(question: str) -> None:
    for command in (f"gamma inspect {question.split()[0]}", f"gamma verify {question} --explain"):
        done = shell(command, PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.isascii() and "\\x" not in done.stdout


def test_millions_of_outputs_take_little_time_and_memory() -> None:
    """The axis is theirs, not of lists of their numbers: those took 2 GB and 18 s of 2^24."""
    low = np.linspace(-3, 5, 1 << 20, dtype=np.float32)[None]
    high = low + np.float32(1)
    low[0, 7], high[0, 9] = -np.inf, np.inf
    tracemalloc.start()
    lines = report.outputs(low, high)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < low.nbytes  # two masks and what is printed
    assert len(lines) == report.ROWS + 1
    assert "-inf" in lines[7]


def test_bounds_that_are_all_infinite_are_drawn() -> None:
    end = np.full((1, 2), np.inf)
    assert len(report.outputs(-end, end)) == 2


def test_numbers_by_the_gigabyte_are_not_spelled_out(tmp_path, monkeypatch, capsys) -> None:
    model, point = tmp_path / "model.safetensors", tmp_path / "x.npy"
    x = Builder(Input(), (2,))
    save(x.build(x.add(Relu(), 0)), model)
    np.save(point, np.zeros(2))
    asked = ["bounds", str(model), "--input", str(point), "--epsilon", "1"]
    monkeypatch.setattr(bounds, "MOST_WRITTEN", 3)
    assert main([*asked, "--json"]) == 0
    assert main([*asked, "--json", "--all-layers"]) == 2
    assert "--npz FILE" in capsys.readouterr().err
    assert main([*asked, "--all-layers", "--npz", str(tmp_path / "all.npz")]) == 0
