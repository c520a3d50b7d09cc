"""Runs that were cut short go on: same verdict, same sub-problems; other files are refused."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.errors import FormatError, UsageError
from gamma.verification import frontier_file
from gamma.verification.result import Result
from tests.verify.known import dense

BOUNDS = {"input": "-0.4679", "relu": "-2.95"}
"""What the output must not reach: some thousand boxes, or some turns, are needed to prove it."""


def written(folder: Path, branch: str) -> list[str]:
    """Files of a network and a property of it, as arguments."""
    rng = np.random.default_rng(0)
    sizes = (5, 24, 24, 1)
    layers = [
        ((rng.normal(size=(m, n)) * 1.5 / np.sqrt(n)).tolist(), (rng.normal(size=m) / 2).tolist())
        for n, m in zip(sizes, sizes[1:], strict=False)
    ]
    gamma.save(dense(*layers), folder / "net.safetensors")
    text = "".join(f"(declare-const X_{i} Real)\n" for i in range(5))
    text += "(declare-const Y_0 Real)\n"
    text += "".join(f"(assert (>= X_{i} -1))(assert (<= X_{i} 1))\n" for i in range(5))
    (folder / "p.vnnlib").write_text(f"{text}(assert (<= Y_0 {BOUNDS[branch]}))")
    return [str(folder / "net.safetensors"), "--property", str(folder / "p.vnnlib")]


def verify(folder: Path, branch: str, **options: Any) -> Result:
    net = gamma.load(folder / "net.safetensors")
    prop = gamma.read_vnnlib(folder / "p.vnnlib")
    how: dict[str, Any] = {"branch": branch, "attack": False, "threads": 1, "timeout": 300}
    return gamma.verify(net, prop, **how | options)


def outcome(result: Result) -> tuple[Any, ...]:
    """What a resumed run has in common with one that was left alone.

    Cases over bounds of hidden neurons by splitting begin anew at their root.
    """
    branched = result.branched
    assert branched is not None
    same = (branched.domains, branched.depth) if branched.on == "input" else ()
    return result.verdict, branched.on, *same


def check_killed(folder: Path, branch: str, kills: int, seed: int) -> None:
    """Runs that are killed at random moments and resumed against one that is left alone."""
    chance, kept = random.Random(seed), folder / "open.npz"
    command = [sys.executable, "-m", "gamma", "verify", *written(folder, branch), "--json"]
    command += ["--branch", branch, "--no-attack", "--threads", "1", "--timeout", "300"]
    command += ["--open", str(kept)]
    whole = outcome(verify(folder, branch))
    left, compared = kills, 0
    while left or not compared:
        resume = ["--resume", str(kept)] if kept.exists() else []
        with subprocess.Popen([*command, *resume], stdout=subprocess.PIPE, text=True) as child:
            if left and _kill(child, kept, chance):
                left -= 1
                continue
            record = json.loads(child.communicate(timeout=300)[0])
        kept.unlink()
        assert record["verdict"] == "verified"
        if (found := record["branching"]) is not None:  # else killed when all was written
            same = (found["on"], found["domains"], found["depth"])
            assert same[: len(whole) - 1] == whole[1:], (branch, seed)
            compared += 1


def _kill(child: subprocess.Popen[str], kept: Path, chance: random.Random) -> bool:
    """Kill it some time after it wrote something, or, now and then, at any moment; unless it ends
    first."""
    before, anyway = _stamp(kept), chance.random() < 0.1
    while not anyway and child.poll() is None and _stamp(kept) == before:
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 0.5))
    if child.poll() is None:
        child.kill()
        return True
    return False


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def test_killed_and_resumed(tmp_path: Path) -> None:
    check_killed(tmp_path, "input", 1, seed=1)


class StoppedError(Exception):
    pass


def stopped(
    folder: Path, branch: str, rounds: int, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> None:
    """A run that writes after every round, and ends in the middle of nothing after so many."""
    monkeypatch.setattr(frontier_file, "PAUSE", 0.0)
    monkeypatch.setattr(frontier_file, "SHARE", 0.0)
    left = rounds

    def told(message: str) -> None:
        nonlocal left
        left -= message.startswith("branching")
        if left == 0:
            raise StoppedError

    with pytest.raises(StoppedError):
        verify(folder, branch, progress=told, **options)


@pytest.mark.parametrize("branch", ["input", "relu"])
def test_stopped_between_any_rounds(
    branch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, branch)
    whole, kept = outcome(verify(tmp_path, branch)), tmp_path / "open.npz"
    for stop in range(2):
        resume = kept if stop else None
        stopped(tmp_path, branch, 4 - stop, monkeypatch, save_open=kept, resume=resume)
    result = verify(tmp_path, branch, save_open=kept, resume=kept)
    assert outcome(result) == whole
    again = verify(tmp_path, branch, resume=kept)
    assert again.verdict == "verified" and again.branched is None


def test_what_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "input")
    kept = tmp_path / "open.npz"
    stopped(tmp_path, "input", 4, monkeypatch, save_open=kept)
    with pytest.raises(FormatError, match=r"open.npz: was written for another guarantee \(real"):
        verify(tmp_path, "input", resume=kept, guarantee="float32")
    written(tmp_path, "relu")
    with pytest.raises(FormatError, match="another property"):
        verify(tmp_path, "input", resume=kept)
    written(tmp_path, "input")
    net = dense(([[1.0] * 5], [0.0]))
    with pytest.raises(UsageError, match="read from a file"):
        gamma.verify(net, gamma.read_vnnlib(tmp_path / "p.vnnlib"), save_open=kept)
    with pytest.raises(UsageError, match="resume="):
        verify(tmp_path, "input", resume=kept, method="crown")
    for name, change in CHANGES.items():
        other = tmp_path / f"{name}.npz"
        other.write_bytes(change(kept.read_bytes()))
        with pytest.raises(FormatError, match=name):
            verify(tmp_path, "input", resume=other)
    with pytest.raises(FormatError, match="no such file"):
        verify(tmp_path, "input", resume=tmp_path / "none.npz")


def _changed(**columns: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    """The file with some arrays changed."""

    def change(data: bytes) -> bytes:
        with np.load(io.BytesIO(data)) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        for name, function in columns.items():
            where = name if name in found else f"0/{name.replace('_', '.')}"
            found[where] = function(found[where])
        stream = io.BytesIO()
        np.savez(stream, **found)
        return stream.getvalue()

    return change


def _compressed(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.npy", b"0" * 1000)
    return stream.getvalue()


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "short": lambda data: data[: len(data) // 2],
    "flipped": lambda data: data[:3000] + bytes([data[3000] ^ 1]) + data[3001:],
    "squeezed": _compressed,
    "objects": _changed(proved=lambda a: np.array([{}], object)),
    "header": _changed(header=lambda a: a[:-1]),
    "proved": _changed(proved=lambda a: np.append(a, True)),
    "lower": _changed(open_lower=lambda a: a - 1),
    "region": _changed(open_region=lambda a: a + 1),
    "rows": _changed(open_bound=lambda a: a[1:]),
    "target": _changed(target=lambda a: a - 1),
    "counts": _changed(counts=lambda a: -a),
}
