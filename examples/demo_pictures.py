"""The demo's figures: verdicts, bounds, a witness, widths of layers, a divided input space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gamma.drawing import Drawing, Line, Rectangle, Text
from gamma.verification.partition import Partition

SHADES = " ░▒▓█"
INK, GREY, FAINT, BLUE, ORANGE = "ink", "grey", "faint", "blue", "orange"
COLOURS = {"verified": "green", "violated": "red", "unknown": "open", "timeout": "open"}
MARKS = {"verified": "✓", "violated": "✗", "unknown": "?", "timeout": "?"}
WORDS = {"verified": "proved", "violated": "refuted by a witness", "unknown": "open"}
MOST_BOXES, CELL = 1200, 2.0
"""Boxes of a divided square that are drawn one by one; smaller ones fill cells of that size."""
RADIUS = "radius ε: how far each pixel (0 to 1) may move"


def overview_figure(
    rows: Sequence[tuple[str, int, float, str]],
    epsilons: Sequence[float],
    images: Sequence[np.ndarray],
) -> Drawing:
    """Verdicts (network, digit, epsilon, verdict) as coloured cells, one panel per network."""
    networks = list(dict.fromkeys(row[0] for row in rows))
    cell, left, top = 34, 66, 112
    panel = cell * len(epsilons) + 34
    figure = Drawing(left + panel * len(networks), top + cell * 10 + 58, "gamma: verdicts")
    figure.add(Text(20, 32, "Is the answer the same for every image within the radius?", 17, INK,
                    bold=True))  # fmt: skip
    verdicts = {row[:3]: row[3] for row in rows}
    for digit, image in enumerate(images):
        pixels(figure, image, left - 40, top + cell * digit + 3, cell - 6)
    for number, network in enumerate(networks):
        x = left + number * panel
        figure.add(Text(x, 60, f"{network}.onnx", 13, INK, bold=True))
        figure.add(Text(x, 80, RADIUS, 11, GREY))
        for column, epsilon in enumerate(epsilons):
            middle = x + cell * column + cell / 2
            figure.add(Text(middle, top - 10, f"{epsilon:g}", 11, INK, "middle"))
        for digit in range(10):
            y = top + cell * digit
            for column, epsilon in enumerate(epsilons):
                verdict = verdicts[network, digit, epsilon]
                tip = f"{network}, digit {digit}, ε = {epsilon:g}: {verdict}"
                place = (x + cell * column + 2, y + 2, cell - 4, cell - 4)
                figure.add(Rectangle(*place, COLOURS[verdict], radius=5, tip=tip))
                middle = (x + cell * column + cell / 2, y + cell / 2 + 5)
                figure.add(Text(*middle, MARKS[verdict], 14, "#ffffff", "middle", bold=True))
    x = left
    for verdict, word in WORDS.items():
        y = top + cell * 10 + 22
        figure.add(Rectangle(x, y, 18, 18, COLOURS[verdict], radius=3))
        figure.add(Text(x + 9, y + 13.5, MARKS[verdict], 11, "#ffffff", "middle", bold=True))
        figure.add(Text(x + 25, y + 13, word, 12, INK))
        x += 52 + 6.2 * len(word)
    return figure


@dataclass(frozen=True)
class Scores:
    """Of one radius: certified ends of the ten scores, and what was reached within them."""

    epsilon: float
    lower: np.ndarray
    upper: np.ndarray
    least: np.ndarray
    greatest: np.ndarray


def bounds_figure(image: np.ndarray, network: str, label: int, sweep: Sequence[Scores]) -> Drawing:
    """Certified intervals of the ten scores, with the reached range as a dark core."""
    left, top, width, height = 64.0, 132.0, 640.0, 300.0
    figure = Drawing(736, 512, "gamma: certified bounds of the scores")
    title = f"Certified bounds of the ten scores of {network}.onnx around this {label}"
    pixels(figure, image, 20, 14, 64)
    figure.add(Text(98, 32, title, 16, INK, bold=True))
    _bounds_legend(figure, label, [s.epsilon for s in sweep])
    low = min(float(s.lower.min()) for s in sweep)
    high = max(float(s.upper.max()) for s in sweep)

    def at(value: float) -> float:
        return top + height * (high - float(value)) / (high - low)

    step = _round_step((high - low) / 6)
    for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1):
        y = at(k * step)
        figure.add(Line(left, y, left + width, y, FAINT if k else GREY, 1))
        figure.add(Text(left - 8, y + 4, f"{k * step:g}", 11, GREY, "end"))
    middle = top + height / 2
    figure.add(Text(24, middle, "score (output of the network)", 12, GREY, "middle", turned=True))
    group = width / 10
    bar = (group - 14) / len(sweep)
    for digit in range(10):
        x = left + digit * group + 7
        for number, s in enumerate(sweep):
            tip = (
                f"score {digit}, ε = {s.epsilon:g}: certified [{s.lower[digit]:.4g}, "
                f"{s.upper[digit]:.4g}], reached [{s.least[digit]:.4g}, {s.greatest[digit]:.4g}]"
            )
            ends = [at(v[digit]) for v in (s.upper, s.greatest, s.least, s.lower)]
            _core_bar(figure, x + number * bar + 1, bar - 2, ends, digit == label, tip)
        figure.add(Text(x + (group - 14) / 2, top + height + 22, str(digit), 13, INK, "middle",
                        digit == label))  # fmt: skip
    axis = "digit that the score stands for; of each, radius ε grows from left to right"
    figure.add(Text(left + width / 2, top + height + 44, axis, 12, GREY, "middle"))
    overlap = [s for s in sweep if s.lower[label] <= np.delete(s.upper, label).max()]
    if overlap:
        note = (
            f"from ε = {overlap[0].epsilon:g} on the intervals overlap; "
            "bounds of the differences decide there"
        )
        figure.add(Text(left + width / 2, top + height + 66, note, 12, GREY, "middle"))
    return figure


def _core_bar(
    figure: Drawing, x: float, width: float, ends: Sequence[float], own: bool, tip: str
) -> None:
    """A pale bar from the first to the last of four heights, dark between the inner ones."""
    colour = BLUE if own else ORANGE
    first, start, stop, last = ends
    figure.add(
        Rectangle(x, first, width, max(last - first, 1.5), colour, radius=1, tip=tip, opacity=0.33),
        Rectangle(x, start, width, max(stop - start, 1.0), colour, tip=tip),
    )


def _bounds_legend(figure: Drawing, label: int, epsilons: Sequence[float]) -> None:
    """What is blue and orange, pale and dark, and which bar has which radius."""
    x, y = 98.0, 48.0
    for own, word in ((True, f"score of {label}"), (False, "scores of the other digits")):
        _core_bar(figure, x, 12, (y, y + 4, y + 10, y + 14), own, "")
        figure.add(Text(x + 18, y + 11, word, 12, INK))
        x += 40 + 6.4 * len(word)
    figure.add(Text(x, y + 11, "pale: certified · dark: reached", 12, INK))
    x, y = 98.0, 72.0
    figure.add(Text(x, y + 16, "bars of a group, radius ε =", 12, INK))
    for number, epsilon in enumerate(epsilons):
        middle, tall = x + 196 + 46 * number, 6 + 14 * (number + 1) / len(epsilons)
        figure.add(Rectangle(middle - 18, y + 20 - tall, 6, tall, GREY, radius=1, opacity=0.6))
        figure.add(Text(middle - 8, y + 16, f"{epsilon:g}", 12, INK))


def _round_step(rough: float) -> float:
    """The next 1, 2 or 5 times a power of ten above ``rough``."""
    power = 10.0 ** np.floor(np.log10(rough))
    return float(next(m * power for m in (1, 2, 5, 10) if m * power >= rough))


def partition_figure(
    images: Sequence[np.ndarray], digits: Sequence[int], most: float, found: Partition
) -> Drawing:
    """Blends of the first image with the other two, up to ``most`` of each: proved and open."""
    size, left, top, small = 400.0, 104.0, 64.0, 44.0
    figure = Drawing(left + size + 190, top + size + 84, "gamma: blends of three digits")
    figure.add(Text(24, 32, f"Which blends of this {digits[0]} are a {digits[0]} for certain?", 17,
                    INK, bold=True))  # fmt: skip
    figure.add(Rectangle(left, top, size, size, "blue", opacity=0.35))
    for boxes, colour, opacity in ((found.closed, "blue", 0.6), (found.open, "orange", 1.0)):
        for x, y, width, height in _places(np.clip(boxes, 0, most) / most * size, size):
            place = (left + x, top + size - y - height, width, height)
            edge = "page" if min(width, height) > 3 else "none"
            figure.add(Rectangle(*(round(v, 1) for v in place), colour, edge, opacity=opacity))
    figure.add(Rectangle(left, top, size, size, "none", GREY))
    bottom = top + size
    for image, x, y in zip(images, (left - 80, left + size - small, left - 80),
                           (bottom + 10, bottom + 24, top), strict=True):  # fmt: skip
        pixels(figure, image, x, y, small)
    for share in (0.0, 0.5, 1.0):
        word = f"{share * most:g}"
        figure.add(Text(left + share * size, bottom + 16, word, 11, INK, "middle"))
        figure.add(Text(left - 6, bottom - share * size + 4, word, 11, INK, "end"))
    figure.add(Text(left + size / 2, bottom + 40, f"share of the {digits[1]}", 12, INK, "middle"))
    figure.add(Text(left - 50, top + size / 2, f"share of the {digits[2]}", 12, INK, "middle",
                    turned=True))  # fmt: skip
    words = ("blue", 0.6, "proved by a bound"), ("blue", 0.35, "proved, cut off"), (
        "orange", 1.0, "open")  # fmt: skip
    for number, (colour, opacity, word) in enumerate(words):
        y = top + 30 * number
        figure.add(Rectangle(left + size + 24, y, 18, 18, colour, opacity=opacity))
        figure.add(Text(left + size + 50, y + 13, word, 12, INK))
    return figure


def _places(boxes: np.ndarray, size: float) -> list[tuple[float, ...]]:
    """(x, y, width, height) of what is drawn: the largest boxes, and cells that others touch.

    A run's boxes are as many as its time allows; a picture keeps its size.
    """
    boxes = np.round(boxes, 1)  # of both ends: neighbours leave no gap
    wide = boxes[:, 1] - boxes[:, 0]
    order = np.argsort(-wide.prod(axis=1), kind="stable")
    large, small = np.split(order, [MOST_BOXES])
    count = int(size / CELL)
    first = np.clip(boxes[small, 0] // CELL, 0, count - 1).astype(int)
    end = np.clip(np.ceil(boxes[small, 1] / CELL), first + 1, count).astype(int)
    corners = np.zeros((count + 1, count + 1), int)
    for sign, x, y in ((1, first, first), (-1, end, first), (-1, first, end), (1, end, end)):
        np.add.at(corners, (y[:, 1], x[:, 0]), sign)
    touched = np.pad(corners.cumsum(axis=0).cumsum(axis=1) > 0, ((0, 0), (1, 0))).astype(int)
    row, begin = np.nonzero(np.diff(touched, axis=1) == 1)  # one rectangle for each run of a line
    _, after = np.nonzero(np.diff(touched, axis=1) == -1)
    runs = zip(begin * CELL, row * CELL, (after - begin) * CELL, np.full(len(row), CELL),
               strict=True)  # fmt: skip
    single = np.concatenate([boxes[large, 0], wide[large]], axis=1)
    return [*map(tuple, runs), *map(tuple, single)]


def pixels(figure: Drawing, image: np.ndarray, x: float, y: float, size: float) -> None:
    """An image of ink, 0 to 1, on the page."""
    cell = size / 8
    for i, j in np.ndindex(8, 8):
        if (value := min(max(float(image[0, i, j]), 0.0), 1.0)) > 0:
            place = (round(x + j * cell, 2), round(y + i * cell, 2), cell, cell)
            figure.add(Rectangle(*place, INK, opacity=round(value, 2)))
    figure.add(Rectangle(x, y, size, size, "none", FAINT))


def witness_figure(
    image: np.ndarray, witness: np.ndarray, title: str, label: int, scores: np.ndarray
) -> Drawing:
    """The original, the witness and what was changed."""
    size, gap, top = 200.0, 36.0, 84.0
    figure = Drawing(3 * size + 2 * gap + 118, top + size + 52, "gamma: a witness")
    answer = int(scores.argmax())
    figure.add(Text(24, 32, f"Refuted: {title}", 17, INK, bold=True))
    change = witness - image
    captions = (f"the image: {label}", f"the witness: classified as {answer}", "what was changed")
    for number, caption in enumerate(captions):
        x = 24 + number * (size + gap)
        figure.add(Text(x + size / 2, top - 14, caption, 14, INK, "middle", number < 2))
        if number < 2:
            pixels(figure, (image, witness)[number], x, top, size)
        else:
            _changes(figure, change, x, top, size)
    text = f"replayed scores: {scores[answer]:.4f} of {answer}, {scores[label]:.4f} of {label}"
    figure.add(Text(24, top + size + 30, text, 12, GREY))
    return figure


def _changes(figure: Drawing, change: np.ndarray, x: float, y: float, size: float) -> None:
    """Signed changes on one diverging scale, with its colour bar."""
    cell, largest = size / 8, float(abs(change).max()) or 1.0

    def patch(place: tuple[float, float, float, float], share: float, tip: str = "") -> None:
        colour = "red" if share > 0 else BLUE
        figure.add(Rectangle(*place, colour, opacity=round(min(abs(share), 1.0), 2), tip=tip))

    for i, j in np.ndindex(8, 8):
        value = float(change[0, i, j])
        patch((x + j * cell, y + i * cell, cell, cell), value / largest, f"{value:+.3g}")
    figure.add(Rectangle(x, y, size, size, "none", GREY))
    steps, left = 40, x + size + 20
    for k in range(steps):
        share = 1 - 2 * (k + 0.5) / steps
        patch((left, y + k * size / steps, 14, size / steps), share)
    figure.add(Rectangle(left, y, 14, size, "none", GREY))
    for share, word in ((0.0, f"+{largest:.2g}"), (0.5, "0"), (1.0, f"−{largest:.2g}")):
        figure.add(Text(left + 20, y + share * size + 4, word, 12, INK))
    figure.add(Text(left + 20, y + 0.25 * size + 4, "more ink", 11, GREY))
    figure.add(Text(left + 20, y + 0.75 * size + 4, "less ink", 11, GREY))
