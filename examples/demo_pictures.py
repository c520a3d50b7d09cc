"""The demo's three figures: the table of verdicts, bounds against epsilon, and the witness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gamma.drawing import Drawing, Line, Rectangle, Text

SHADES = " ░▒▓█"
INK, GREY, FAINT, BLUE, ORANGE = "ink", "grey", "faint", "blue", "orange"
COLOURS = {"verified": "green", "violated": "red", "unknown": "open", "timeout": "open"}
MARKS = {"verified": "✓", "violated": "✗", "unknown": "?", "timeout": "?"}
WORDS = {"verified": "proved", "violated": "refuted by a witness", "unknown": "open"}


def overview_figure(
    rows: Sequence[tuple[str, int, float, str]], epsilons: Sequence[float]
) -> Drawing:
    """Verdicts (network, digit, epsilon, verdict) as coloured cells, one panel per network."""
    networks = list(dict.fromkeys(row[0] for row in rows))
    cell, left, top = 34, 74, 96
    panel = left + cell * len(epsilons) + 30
    figure = Drawing(panel * len(networks) + 10, top + cell * 10 + 64, "gamma: verdicts")
    figure.add(Text(20, 32, "Can a change of every pixel by at most ε change the digit?", 17, INK,
                    bold=True))  # fmt: skip
    verdicts = {row[:3]: row[3] for row in rows}
    for number, network in enumerate(networks):
        x = left + number * panel
        figure.add(Text(x, 62, f"{network}.onnx", 13, INK, bold=True))
        for column, epsilon in enumerate(epsilons):
            middle = x + cell * column + cell / 2
            figure.add(Text(middle, top - 10, f"{epsilon:g}", 11, GREY, "middle"))
        figure.add(Text(x - 12, top - 10, "ε", 11, GREY, "end"))
        for digit in range(10):
            y = top + cell * digit
            figure.add(Text(x - 12, y + cell / 2 + 4, f"digit {digit}", 11, GREY, "end"))
            for column, epsilon in enumerate(epsilons):
                verdict = verdicts[network, digit, epsilon]
                tip = f"{network}, digit {digit}, ε = {epsilon:g}: {verdict}"
                place = (x + cell * column + 2, y + 2, cell - 4, cell - 4)
                figure.add(Rectangle(*place, COLOURS[verdict], radius=5, tip=tip))
                middle = (x + cell * column + cell / 2, y + cell / 2 + 5)
                figure.add(Text(*middle, MARKS[verdict], 14, "#ffffff", "middle", bold=True))
    x = left
    for verdict, word in WORDS.items():
        y = top + cell * 10 + 26
        figure.add(Rectangle(x, y, 14, 14, COLOURS[verdict], radius=3))
        figure.add(Text(x + 21, y + 12, word, 12, INK))
        x += 46 + 6.2 * len(word)
    return figure


def bounds_figure(
    image: np.ndarray,
    network: str,
    label: int,
    epsilons: Sequence[float],
    intervals: Sequence[tuple[np.ndarray, np.ndarray]],
) -> Drawing:
    """Certified intervals of the ten scores; within a score, epsilon grows from left to right."""
    left, top, width, height = 58.0, 110.0, 620.0, 300.0
    figure = Drawing(720, 480, "gamma: certified bounds of the scores")
    title = f"Certified bounds of the ten scores ({network}.onnx, image of a {label})"
    figure.add(Text(20, 32, title, 17, INK, bold=True))
    spread = ", ".join(f"{e:g}" for e in epsilons)
    figure.add(Text(20, 54, f"CROWN, outward rounded; left to right: ε = {spread}", 12, GREY))
    low = float(min(lower.min() for lower, _ in intervals))
    high = float(max(upper.max() for _, upper in intervals))

    def height_of(value: float) -> float:
        return top + height * (high - value) / (high - low)

    step = _round_step((high - low) / 6)
    for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1):
        y = height_of(k * step)
        figure.add(Line(left, y, left + width, y, FAINT if k else GREY, 1))
        figure.add(Text(left - 8, y + 4, f"{k * step:g}", 11, GREY, "end"))
    group = width / 10
    bar = (group - 14) / len(epsilons)
    for digit in range(10):
        x = left + digit * group + 7
        colour = BLUE if digit == label else ORANGE
        for number, (lower, upper) in enumerate(intervals):
            first, last = height_of(float(upper[digit])), height_of(float(lower[digit]))
            tip = (
                f"score {digit}, ε = {epsilons[number]:g}: [{lower[digit]:.4g}, {upper[digit]:.4g}]"
            )
            place = (x + number * bar + 1, first, bar - 2, max(last - first, 1.5))
            figure.add(Rectangle(*place, colour, radius=1.5, tip=tip))
        figure.add(Text(x + (group - 14) / 2, top + height + 24, str(digit), 13, INK, "middle",
                        digit == label))  # fmt: skip
    for number, (lower, upper) in enumerate(intervals):
        others = np.delete(upper, label)
        if lower[label] > others.max():
            continue
        note = f"from ε = {epsilons[number]:g} the intervals overlap; margins decide there"
        figure.add(Text(left + width, top + height + 52, note, 12, GREY, "end"))
        break
    figure.add(Text(left, top + height + 52, "score of each digit", 12, GREY))
    _thumbnail(figure, image, 650, 14, 48)
    return figure


def _round_step(rough: float) -> float:
    """The next 1, 2 or 5 times a power of ten above ``rough``."""
    power = 10.0 ** np.floor(np.log10(rough))
    return float(next(m * power for m in (1, 2, 5, 10) if m * power >= rough))


def _thumbnail(figure: Drawing, image: np.ndarray, x: float, y: float, size: float) -> None:
    cell = size / 8
    for i in range(8):
        for j in range(8):
            place = (x + j * cell, y + i * cell, cell, cell)
            figure.add(Rectangle(*place, _ink(float(image[0, i, j]))))
    figure.add(Rectangle(x, y, size, size, "none", GREY))


def _ink(value: float) -> str:
    """Grey of a pixel: 0 is paper, 1 is ink."""
    level = round(255 - 235 * min(max(value, 0.0), 1.0))
    return f"#{level:02x}{level:02x}{level:02x}"


def witness_figure(
    image: np.ndarray, witness: np.ndarray, title: str, label: int, scores: np.ndarray
) -> Drawing:
    """The original, the witness and what was changed."""
    size, gap, top = 200.0, 36.0, 84.0
    figure = Drawing(3 * size + 2 * gap + 48, top + size + 66, "gamma: a witness")
    answer = int(scores.argmax())
    figure.add(Text(24, 32, f"Refuted: {title}", 17, INK, bold=True))
    change = witness - image
    largest = float(abs(change).max())
    captions = (f"original: {label}", f"witness: {answer}", f"change, at most {largest:.3g}")
    for number, caption in enumerate(captions):
        x = 24 + number * (size + gap)
        figure.add(Text(x + size / 2, top - 14, caption, 14, INK, "middle", number < 2))
        if number < 2:
            _thumbnail(figure, (image, witness)[number], x, top, size)
        else:
            _changes(figure, change / (largest or 1.0), x, top, size)
    text = f"replayed score of {answer}: {scores[answer]:.4f}, of {label}: {scores[label]:.4f}"
    figure.add(Text(24, top + size + 30, text, 12, GREY))
    figure.add(Text(24 + 3 * size + 2 * gap, top + size + 30, "blue: lighter, red: darker", 12,
                    GREY, "end"))  # fmt: skip
    return figure


def _changes(figure: Drawing, change: np.ndarray, x: float, y: float, size: float) -> None:
    cell = size / 8
    for i in range(8):
        for j in range(8):
            share = float(change[0, i, j])
            full = (214, 69, 69) if share > 0 else (31, 111, 235)
            mixed = [round(255 + (c - 255) * abs(share)) for c in full]
            colour = "#{:02x}{:02x}{:02x}".format(*mixed)
            figure.add(Rectangle(x + j * cell, y + i * cell, cell, cell, colour))
    figure.add(Rectangle(x, y, size, size, "none", GREY))
