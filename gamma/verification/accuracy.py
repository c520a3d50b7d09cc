"""Certified accuracy: the share of a labelled set whose class nothing within a radius changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.formats.detect import load
from gamma.frames import frame
from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.network.property import robustness
from gamma.verification.radius import NORMS, norm_name
from gamma.verification.result import Result
from gamma.verification.verdict import VerifyOptions, verify


class Accuracy(Frozen):
    """Verdicts of a labelled set.

    Attributes:
        results: one for each input, in order. correct: whether the network gives the label to the
            input itself (in float32).
    """

    results: tuple[Result, ...]
    correct: npt.NDArray[np.bool_]

    def count(self, status: str) -> int:
        """How many inputs are "verified", "violated" or "unknown"."""
        return sum(result.status == status for result in self.results)

    @property
    def certified(self) -> float:
        """Share of the inputs that are verified."""
        return self.count("verified") / len(self.results)

    @property
    def clean(self) -> float:
        """Share of the inputs that the network classifies as labelled, themselves alone."""
        return float(np.mean(self.correct))

    @property
    def at_most(self) -> float:
        """Share that is not refuted: certified accuracy is no more than this."""
        return 1 - self.count("violated") / len(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __getitem__(self, index: int) -> Result:
        return self.results[index]

    def __repr__(self) -> str:
        """Both accuracies and the counts, in one line."""
        counts = ", ".join(f"{self.count(s)} {s}" for s in ("verified", "violated", "unknown"))
        return (
            f"Accuracy(certified {self.certified:.1%}, clean {self.clean:.1%}, {counts} of "
            f"{len(self)})"
        )

    def to_pandas(self) -> Any:
        """A DataFrame with a row for each input (needs pandas)."""
        rows = self.results
        return frame(
            {
                "status": [r.status for r in rows],
                "correct": self.correct,
                "worst_margin": [r.worst_margin for r in rows],
                "seconds": [r.seconds.get("total") for r in rows],
                "reason": [r.reason for r in rows],
            }
        )


def certified_accuracy(
    net: Network | str | Path,
    x: npt.ArrayLike,
    labels: npt.ArrayLike,
    epsilon: float,
    norm: str | float = "inf",
    *,
    clip: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    **options: Unpack[VerifyOptions],
) -> Accuracy:
    """Verify that no input within ``epsilon`` of any of ``x`` (inputs, *input shape) leaves its
    label (inputs,).

    Args:
        norm: "inf", "2" or "1". clip: (low, high), between which inputs lie. Other options as in
            `gamma.verify`; ``timeout`` is for each input.

    Raises:
        UsageError: shapes or options that do not fit. Errors of reading as in `gamma.load`.
    """
    network = net if isinstance(net, Network) else load(net)
    name = norm_name(norm)
    images = np.asarray(x)
    wanted = np.asarray(labels)
    if wanted.shape != images.shape[:1] or not wanted.size:
        raise UsageError(
            f"x has shape {images.shape}, labels {wanted.shape}: expected (inputs, "
            f"{', '.join(map(str, network.input_shape))}) and (inputs,), at least one"
        )
    images = images.reshape(len(images), *network.input_shape)
    properties = robustness(NORMS[name](images, epsilon, clip=clip), wanted)
    results = verify(network, properties, **options)
    outputs = network.forward(images).reshape(len(images), -1)
    return Accuracy(tuple(results), outputs.argmax(axis=1) == wanted)
