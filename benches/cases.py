"""The macro cases: networks, boxes, and what another verifier reached on them.

The benchmark data is not part of the project: ``data`` is the folder that holds ``vnncomp/`` and
``reference/``. Without it the cases are the networks of ``gamma bench`` and of examples/digits.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import gamma
from gamma.network.graph import Network
from gamma.tensor.box import Box

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
DIGITS = ROOT / "examples" / "digits"

PEER = {
    "ibp": "IBP",
    "crown-ibp": "CROWN-IBP",
    "crown": "CROWN",
    "alpha": "CROWN-Optimized",
}
"""Names of the methods in the reference files."""

REFERENCE = {
    "acasxu_1_1_p1": "dense, tiny",
    "reach_gcas": "dense, tiny",
    "reach_robot": "dense, tiny",
    "rl_cartpole": "dense, tiny",
    "rl_lunarlander": "dense, tiny",
    "rl_dubinsrejoin": "dense",
    "mnist_fc_256x2_p0_0.03": "dense",
    "mnist_fc_256x4_p0_0.05": "dense",
    "mnist_fc_256x6_p0_0.03": "dense",
    "tll_n2_N8_0": "lattice",
    "collins_rul_full_window_20": "convolutional",
    "oval21_base": "convolutional",
    "oval21_deep": "convolutional",
    "oval21_wide": "convolutional",
    "cifar10_resnet_2b": "residual",
    "sri_resnet_a": "residual",
}
"""Reference file -> network family."""

BATCHED = ("acasxu_1_1_p1", "mnist_fc_256x4_p0_0.05", "oval21_base")
"""Cases with recorded batches of 16 and 128 boxes."""


@dataclass(frozen=True)
class Peer:
    """Seconds, mean output width and memory (bytes above the imports) of the recorded verifier."""

    seconds: float | None = None
    width: float | None = None
    memory: int | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """One network and one box (flat, float64), with what is known about it.

    Attributes:
        reached: (least, greatest) output values an attack reached in the box, or None.
        peers: (method, batch) -> what the peer needed and found.
    """

    name: str
    family: str
    network: Network
    lower: Any
    upper: Any
    reached: tuple[Any, Any] | None = None
    peers: dict[tuple[str, int], Peer] = field(default_factory=dict)

    def boxes(self, batch: int) -> Box:
        """The box, and ``batch`` − 1 copies of it shifted by up to a tenth of its radius."""
        shape = (batch, *self.network.input_shape)
        rng = np.random.default_rng(0)
        shift = rng.uniform(-0.05, 0.05, (batch, self.lower.size)) * (self.upper - self.lower)
        shift[0] = 0
        return Box((self.lower + shift).reshape(shape), (self.upper + shift).reshape(shape))


def load(path: Path) -> Network:
    """The network in ``path`` or in ``path.gz``."""
    network: Network = gamma.load(path if path.exists() else path.with_name(path.name + ".gz"))
    return network


def names(data: Path) -> list[str]:
    """The cases that can be made here, small networks first."""
    own = ["digits_mlp", "digits_cnn"] if DIGITS.is_dir() else []
    made = [f"made_{i}" for i in range(4)] if not data.is_dir() else []
    there = [n for n in REFERENCE if (data / "reference" / f"{n}.json").exists()]
    marabou = data / "vnncomp" / "marabou_cifar10"
    return [*own, *made, *there, *(["marabou_cifar10"] if marabou.is_dir() else [])]


def case(name: str, data: Path) -> Case:
    """Read one case. Raises KeyError for an unknown name, GammaError for an unreadable file."""
    if name.startswith("digits_"):
        return _digits(name)
    if name.startswith("made_"):
        from gamma.cli.bench import cases as made

        found = made()[int(name[5:])]
        box = found.box
        return Case(found.name, "made", found.network, box.lower[0].ravel(), box.upper[0].ravel())
    if name == "marabou_cifar10":
        return _instance(data / "vnncomp" / name)
    record = json.loads((data / "reference" / f"{name}.json").read_text())
    network = load(data / record["onnx"])
    reached = record["soundness"]
    return Case(
        name,
        REFERENCE[name],
        network,
        np.array(record["box_lb"]),
        np.array(record["box_ub"]),
        (np.array(reached["attack_min"]), np.array(reached["attack_max"])),
        dict(_peers(name, record, data)),
    )


def _peers(name: str, record: dict[str, Any], data: Path) -> Iterator[tuple[tuple[str, int], Peer]]:
    ours = {theirs: method for method, theirs in PEER.items()}
    exact = {r["method"]: r["width_mean"] for r in record["records"] if r["dtype"] == "f64"}
    for entry in record["records"]:
        method = ours.get(entry["method"])
        # "patches" is the peer's default for convolutions, and the faster mode.
        if method is None or entry["dtype"] != "f32" or entry.get("conv_mode") == "matrix":
            continue
        width = exact.get(entry["method"], entry["width_mean"])
        yield (method, 1), Peer(_seconds(entry), width, _memory(entry))
    path = data / "reference" / "batch.json"
    for entry in json.loads(path.read_text()) if path.exists() else []:
        method = ours.get(entry["method"])
        if entry["case"] == name and method is not None:
            yield (method, entry["batch"]), Peer(_seconds(entry), None, _memory(entry))


def _seconds(entry: dict[str, Any]) -> float | None:
    """The smaller of wall time with two threads and processor time with one."""
    known = [entry[key] for key in ("t_min", "t1_cpu_min") if entry.get(key) is not None]
    return min(known) if known else None


def _memory(entry: dict[str, Any]) -> int | None:
    if "rss_peak_kb" not in entry:
        return None
    return int(entry["rss_peak_kb"] - entry["rss_base_kb"]) * 1024


def _digits(name: str) -> Case:
    kind = name.partition("_")[2]
    network = load(DIGITS / f"{kind}.safetensors")
    image = np.load(DIGITS / "images" / "digit0.npy").astype(np.float64).ravel()
    lower, upper = np.clip(image - 0.03, 0, 1), np.clip(image + 0.03, 0, 1)
    return Case(name, "shipped", network, lower, upper)


def _instance(folder: Path) -> Case:
    """The first instance of a VNN-COMP folder."""
    with (folder / "instances.csv").open(newline="") as stream:
        onnx, vnnlib, _ = next(csv.reader(stream))
    file = folder / vnnlib
    prop = gamma.read_vnnlib(file if file.exists() else file.with_name(file.name + ".gz"))
    region = prop.regions[0]
    lower, upper = (np.array([float(v) for v in e]) for e in (region.lower, region.upper))
    return Case(folder.name, "convolutional", load(folder / onnx), lower, upper)
