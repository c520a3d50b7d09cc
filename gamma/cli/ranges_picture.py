"""The picture of ``gamma ranges``: proved range and observed maxima of every activation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gamma.cli.figure import blank, saved

if TYPE_CHECKING:
    from gamma.verification.ranges import Range, Ranges

FORMAT_LIMITS = {"f16": 65504.0, "int8 at scale 1": 127.0}
PROVED, SEEN, GREY = "#1f6feb", "#d9730d", "#6b7785"


def draw(found: Ranges, kind: str) -> bytes:
    """The sizes of all activations that compute something, in order: svg or png.

    Raises UsageError when matplotlib is not installed.
    """
    shown = [r for r in found.tensors if not r.moved]
    figure, axes = blank(min(max(7.0, 0.05 * len(shown)), 16.0), 4.6)
    _bars(axes, shown)
    for name, limit in FORMAT_LIMITS.items():
        axes.axhline(limit, color=GREY, linewidth=0.9, linestyle="--")
        axes.annotate(name, (len(shown) - 0.5, limit), color=GREY, ha="right", va="bottom")
    axes.set_yscale("log")
    axes.set_xlim(-0.7, len(shown) - 0.3)
    axes.set_ylabel("largest size of an entry")
    axes.set_xlabel("activation, in the order of evaluation")
    axes.set_title(f"Proved ranges for {found.about}", loc="left", fontsize=11, pad=26)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return saved(figure, kind)


def _bars(axes: Any, shown: list[Range]) -> None:
    finite = [(i, r) for i, r in enumerate(shown) if 0 < r.largest < float("inf")]
    places, sizes = [i for i, _ in finite], [r.largest for _, r in finite]
    axes.bar(places, sizes, width=0.8, color=PROVED, alpha=0.55, label="proved, every input")
    seen = [(i, max(abs(v) for v in r.observed)) for i, r in enumerate(shown) if r.observed]
    if seen:
        axes.plot(*zip(*seen, strict=True), ".", color=SEEN, markersize=4, label="observed")
    ticks = [(i, r.name) for i, r in enumerate(shown) if r.name.endswith(("output", "_norm"))]
    step = max(1, len(ticks) // 12)
    axes.set_xticks([i for i, _ in ticks[::step]], [n for _, n in ticks[::step]],
                    rotation=40, ha="right", fontsize=7)  # fmt: skip
