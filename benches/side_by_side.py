"""CROWN of small transformers beside the bounds of auto_LiRPA that are kept with the shared data.

    python -m benches.side_by_side ../shared/data [--docs]

Two ViTs of VNN-COMP (batch normalisation) and random pre-norm encoders with layer normalisation,
64 wide, 8 tokens, every entry of the embeddings perturbed. The peer's seconds are wall time on two
Zen 4 cores, ours processor seconds of this machine. ``--docs`` writes docs/transformers.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import gamma
from benches.report import replace_block

PAGE = Path(__file__).resolve().parents[1] / "docs" / "transformers.md"
TINY = (("relu", 1e-3), ("std", 1e-4), ("std", 1e-3), ("std", 1e-2))
PEER = {"std": "std20"}  # the peer refuses erf-GELU; this variant has an operator of its own for it


def measured(net: Any, box: gamma.Box) -> tuple[float, float]:
    """Mean width of CROWN's bounds, processor seconds."""
    begun = time.process_time()
    out = gamma.bounds(net, box, method="crown")
    width = np.asarray(out.upper, np.float64) - np.asarray(out.lower, np.float64)
    return float(width.mean()), time.process_time() - begun


def vision(data: Path) -> Iterator[tuple[str, float, float, dict[str, Any]]]:
    """Name, width, seconds and the peer's record of each ViT and box."""
    for path in sorted((data / "reference").glob("vit*.json")):
        record = json.loads(path.read_text())
        net = gamma.load(data / f"{record['onnx']}.gz")
        ends = (np.array(record[f"box_{end}b"]).reshape(net.input_shape) for end in "lu")
        (peer,) = (r for r in record["records"] if r["method"] == "CROWN")
        yield (path.stem, *measured(net, gamma.Box(*ends)), peer)


def tiny(data: Path) -> Iterator[tuple[str, float, float, dict[str, Any]]]:
    """The same of the random encoders."""
    folder = data / "reference" / "transformers"
    known = json.loads((folder / "results.json").read_text())
    for variant, epsilon in TINY:
        net = gamma.load(folder / f"tiny_{variant}.onnx")
        x = json.loads((folder / f"tiny_{variant}.reference.json").read_text())["x"]
        peer = next(
            r
            for r in known
            if (r["variant"], r["method"], r["dtype"], r["eps"])
            == (PEER.get(variant, variant), "CROWN", "f32", epsilon)
        )
        box = gamma.Box.linf(np.array(x).reshape(net.input_shape), epsilon)
        yield (f"tiny_{variant} ± {epsilon:g}", *measured(net, box), peer)


def table(data: Path) -> list[str]:
    """Lines of the page."""
    lines = [
        "| network | width | of auto_LiRPA's | of what attacks reach | processor s | its s |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for source in (vision, tiny):
        for name, width, seconds, peer in source(data):
            reached = peer.get("attack_width_mean")
            share = f"{width / reached:.3f}" if reached else ""
            ratio, theirs = width / peer["width_mean"], peer["t_min"]
            cells = (name, f"{width:.4g}", f"{ratio:.4f}", share, f"{seconds:.1f}", f"{theirs:.1f}")
            lines.append("| " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--docs", action="store_true")
    asked = parser.parse_args()
    lines = table(asked.data)
    if asked.docs:
        replace_block(PAGE, "side by side", "\n".join(lines))


if __name__ == "__main__":
    main()
