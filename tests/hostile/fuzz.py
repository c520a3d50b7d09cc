"""Changed files of every format given to its reader: each is read, or refused in one line.

    python -m tests.hostile.fuzz [--seconds 60] [--seed 0] [FORMAT ...]

The files to change are the hostile cases and good files of each format. tests/hostile/guided.py
lets the branches that are reached choose among the changes.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import gamma
from gamma.errors import GammaError, InternalError
from gamma.formats import tokens
from gamma.formats.detect import load
from gamma.formats.folder import INDEX, open_folder
from gamma.formats.gguf import open_gguf
from gamma.formats.gguf.tokenizer import TOKENS, encode
from gamma.formats.model import open_model
from gamma.formats.npy import read_npy
from gamma.formats.vnnlib import read_vnnlib
from gamma.network.graph import Network
from gamma.verification.suite import read_list
from tests.architectures import small_models
from tests.hostile import changes, models, stored, texts, weights

PROCESSOR_SECONDS, SECONDS = 4.0, 30  # for one small file
MEMORY = 2_000_000_000  # beyond what the process has at the start
LARGEST = 1 << 14  # bytes of a file that is changed
SMALL = 300  # neurons of a network that is bounded as well


@dataclass(frozen=True)
class Target:
    """A format: its reader, the rule by which its files change, and good files to start from."""

    read: Callable[[Path], object]
    change: changes.Change
    name: str
    """Of the file; what its suffix is, hostile cases of this suffix are changed as well."""
    good: Callable[[Path], list[bytes]] = lambda _: []
    belongs: Callable[[bytes], bool] = lambda _: True
    """Whether a hostile case is of this format."""


def _network(path: Path) -> None:
    _bound(load(path))


def _safetensors(path: Path) -> None:
    """As a graph, or else as the weights of an MLP."""
    try:
        _bound(load(path))
    except (gamma.UsageError, gamma.UnsupportedError):
        _bound(load(path, activation="relu"))


def _bound(net: Network) -> None:
    if sum(node.size for node in net.nodes) <= SMALL:
        box = gamma.Box(-np.ones(net.input_shape), np.ones(net.input_shape))
        gamma.bounds(net, box, method="ibp")


def _gguf(path: Path) -> None:
    """The text of a file with a tokenizer, the network of three positions of any other."""
    file = open_gguf(path)
    if TOKENS in file.metadata:
        encode(file, "ab c")
    else:
        _bound(open_model(path).network(3))


@functools.cache
def _weights(kind: str) -> Path:
    """The weights of a small model of this kind."""
    folder = Path(tempfile.mkdtemp(prefix="gamma-fuzz-weights-"))
    atexit.register(shutil.rmtree, folder)
    return small_models.folder(folder, small_models.CONFIGS[kind]).path / "model.safetensors"


def _config(path: Path) -> None:
    """A config.json with the weights of the model it names."""
    kinds = [kind for kind in small_models.CONFIGS if kind.encode() in path.read_bytes()]
    open_model(_weights([*kinds, "bert"][0]), path).network(3)


def _index(path: Path) -> None:
    """An index with two shards beside it."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in stored.sharded().items():
            (Path(folder) / name).write_bytes(data)
        (Path(folder) / INDEX).write_bytes(path.read_bytes())
        opened = open_folder(folder)
        for name in opened:
            opened[name].panel(0, 1)


def _version(data: bytes) -> int:
    return 2 if b"vnnlib-version" in data else 1


TARGETS = {
    "onnx": Target(_network, changes.in_protobuf, "x.onnx"),
    "safetensors": Target(_safetensors, changes.in_header, "x.safetensors"),
    "gguf": Target(_gguf, changes.in_gguf, "x.gguf", stored.models),
    "vnnlib1": Target(read_vnnlib, changes.in_property, "x.vnnlib",
                      belongs=lambda data: _version(data) == 1),
    "vnnlib2": Target(read_vnnlib, changes.in_property, "x.vnnlib", texts.two,
                      belongs=lambda data: _version(data) == 2),
    "npy": Target(functools.partial(read_npy, wanted=(2,)), changes.in_array, "x.npy"),
    "csv": Target(read_list, changes.in_list, "x.csv"),
    "config": Target(_config, changes.in_json, "config.json", stored.configs),
    "index": Target(_index, changes.in_json, INDEX, lambda _: [stored.sharded()[INDEX]]),
    "tokenizer": Target(functools.partial(tokens.encode, text="ab c"), changes.in_json,
                        "tokenizer.json", lambda _: stored.tokenizers()),
}  # fmt: skip


@functools.cache
def corpus() -> dict[str, list[bytes]]:
    """Per format its good files and what the hostile cases of an instant hold."""
    found: dict[str, list[bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        found |= {name: target.good(Path(folder)) for name, target in TARGETS.items()}
    by_suffix: dict[str, list[bytes]] = {}
    for case in (*models.cases(), *weights.cases(), *stored.cases(), *texts.cases()):
        if not case.quick:
            continue
        with tempfile.TemporaryDirectory() as folder:
            case.write(Path(folder))
            for path in sorted(Path(folder).rglob("*.*")):
                if path.is_file() and not path.is_symlink() and path.stat().st_size < LARGEST:
                    by_suffix.setdefault(path.suffix, []).append(path.read_bytes())
    for name, target in TARGETS.items():
        hostile = by_suffix.get(Path(target.name).suffix, []) if target.name[0] == "x" else []
        found[name] += [data for data in hostile if target.belongs(data)]
    return {name: list(dict.fromkeys(files)) for name, files in found.items()}


def read(target: Target, path: Path) -> None:
    """Read a file; what is not one clear line, soon, escapes."""
    signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        target.read(path)
    except InternalError:
        raise
    except GammaError as error:
        if not str(error).isprintable() or len(str(error)) > 3000:
            raise
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


class LateError(BaseException):
    """No reader catches it."""


def _late(*_: object) -> None:
    raise LateError(f"one file took over {PROCESSOR_SECONDS} s of the processor")


def limited() -> None:
    """Time and memory of this process end with an exception that is a find."""
    signal.signal(signal.SIGPROF, _late)
    signal.signal(signal.SIGALRM, _late)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def run(name: str, seconds: float, seed: int, folder: Path) -> int:
    """Read changed files of a format for so long; how many. A fault is left in ``folder``."""
    target, files, count = TARGETS[name], corpus()[name], 0
    rng = random.Random(f"{name} {seed}")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        path = folder / target.name
        path.write_bytes(changes.changed(target.change, rng.choice(files), rng))
        try:
            read(target, path)
        except BaseException:
            path.rename(folder / f"fault-{name}-{seed}-{count}{path.suffix}")
            raise
        path.unlink()  # file systems write a file that is overwritten to the disk at once
        count += 1
    return count


def main() -> int:
    """1 when a changed file broke something; it is kept, its place printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", choices=[*TARGETS, []], metavar="FORMAT")
    parser.add_argument("--seconds", type=float, default=60, help="for each format")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gamma-fuzz-"))
    faults = 0
    limited()
    for name in options.formats or TARGETS:
        try:
            count = run(name, options.seconds, options.seed, folder)
            print(f"{name}: {count} changed files, seed {options.seed}: each read or refused")
        except BaseException:
            traceback.print_exc()
            print(f"{name}: a fault, the file is in {folder}", flush=True)
            faults += 1
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
