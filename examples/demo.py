"""The demo: certified bounds on two handwritten-digit networks, from the files in examples/digits.

    python examples/demo.py [--output FOLDER]

For ten images and growing epsilon it asks whether any change of every pixel by at most epsilon can
change the answer. Then it shows one proved case, one refuted with its witness, one left open
if there is any, an input space of two inputs as branch and bound divides it, and writes the
pictures. Everything announced is checked again; if it does not
hold, the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path

import numpy as np
from demo_pictures import (
    MARKS,
    SHADES,
    Scores,
    bounds_figure,
    overview_figure,
    partition_figure,
    witness_figure,
)

import gamma
from gamma import ops
from gamma.drawing import Drawing
from gamma.network.graph import Builder

FOLDER = Path(__file__).parent / "digits"
NETWORKS = ("mlp", "cnn")
EPSILONS = (0.01, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2)
LEGIBLE = (3, 7, 2, 0, 4, 6, 5, 9)
"""Images that a person reads at 8 x 8 pixels, clearest first: the witness is one of them."""
SECONDS = 10.0
"""Per question; only the open ones use it up."""
BLENDED, MOST_BLENDED, BLEND_SECONDS = (2, 3, 1), 0.5, 0.7
"""A digit, two that are mixed in up to that share of each, and how long blends are divided."""


@dataclass(frozen=True)
class Case:
    """One question: this network, this image, every pixel within epsilon; and its answer."""

    network: str
    label: int
    epsilon: float
    result: gamma.Result

    @property
    def title(self) -> str:
        return f"{self.network}, digit {self.label}, epsilon {self.epsilon:g}"


def check(holds: bool, claim: str) -> None:
    """Stop with exit status 1 when something the demo announces is not so."""
    if not holds:
        sys.exit(f"demo: this does not hold: {claim}")


def floor(value: float, digits: int = 3) -> str:
    """Decimal text that is at most ``value``: a printed lower bound stays one."""
    return f"{Decimal(float(value)).quantize(Decimal(10) ** -digits, ROUND_FLOOR):+}"


def ceiling(value: float, digits: int = 3) -> str:
    """Decimal text that is at least ``value``."""
    return f"{Decimal(float(value)).quantize(Decimal(10) ** -digits, ROUND_CEILING):+}"


def box_around(image: np.ndarray, epsilon: float) -> gamma.Box:
    return gamma.Box.linf(image, epsilon, clip=(0, 1))


def ask(nets: dict[str, gamma.Network], images: list[np.ndarray]) -> list[Case]:
    """Every network, image and epsilon, with the verdicts printed as a table."""
    cases = []
    for name, net in nets.items():
        layers = ", ".join(node.op.name for node in net.nodes if node.op.parameters)
        print(f"{name}.onnx ({layers}; {net.parameters} parameters)")
        print("   epsilon " + "".join(f"{epsilon:>7g}" for epsilon in EPSILONS))
        for label, image in enumerate(images):
            row = []
            for epsilon in EPSILONS:
                prop = gamma.robustness(box_around(image, epsilon), label=label)
                result = gamma.verify(net, prop, timeout=SECONDS)
                row.append(Case(name, label, epsilon, result))
            print(f"   digit {label} " + "".join(f"{MARKS[c.result.verdict]:>7}" for c in row))
            cases += row
        print()
    print("✓ proved for every such image   ✗ refuted by a witness   ? open: neither\n")
    return cases


def proved_case(cases: list[Case]) -> Case | None:
    """The largest epsilon that was proved, if any was."""
    proved = [case for case in cases if case.result.verdict == "verified"]
    return max(proved, key=lambda case: case.epsilon, default=None)


def refuted_case(cases: list[Case]) -> Case | None:
    """Of the clearest image that was refuted, the smallest epsilon of a witness."""
    order = {label: place for place, label in enumerate(LEGIBLE)}
    refuted = [case for case in cases if case.result.verdict == "violated"]

    def rank(case: Case) -> tuple[int, float]:
        return order.get(case.label, len(order)), case.epsilon

    return min(refuted, key=rank, default=None)


def open_case(cases: list[Case]) -> Case | None:
    """The open case with the smallest epsilon, if there is any."""
    unknown = [case for case in cases if case.result.verdict in ("unknown", "timeout")]
    return min(unknown, key=lambda case: case.epsilon, default=None)


def show_bounds(net: gamma.Network, image: np.ndarray, case: Case) -> None:
    """Certified intervals of the ten scores, drawn and tested against samples."""
    box = box_around(image, case.epsilon)
    bounds = gamma.bounds(net, box, method="crown")
    lower, upper = bounds.lower.ravel(), bounds.upper.ravel()
    sample_inside(net, box, lower, upper)
    low, high, cells = float(lower.min()), float(upper.max()), 40
    for j in range(10):
        first = int((lower[j] - low) / (high - low) * (cells - 1))
        last = int((upper[j] - low) / (high - low) * (cells - 1))
        bar = (" " * first + "█" * (last - first + 1)).ljust(cells)
        name = "<- the digit" if j == case.label else ""
        print(f"   score {j} {floor(lower[j]):>8} {ceiling(upper[j]):>8}  {bar} {name}".rstrip())


def sample_inside(net: gamma.Network, box: gamma.Box, lower: np.ndarray, upper: np.ndarray) -> None:
    """Check that outputs of 1000 random images and corners lie within the bounds."""
    rng = np.random.default_rng(0)
    share = rng.random((1000, *box.lower.shape))
    share[500:] = share[500:] > 0.5
    points = np.clip(box.lower + share * (box.upper - box.lower), box.lower, box.upper)
    scores = net.forward(points, np.float64).reshape(1000, -1)
    slack = 1e-9 * abs(scores).max()  # the samples' own float64 rounding, far below the bounds
    inside = (lower <= scores + slack).all() and (scores - slack <= upper).all()
    check(bool(inside), "sampled scores lie within the certified bounds")


def show_proved(net: gamma.Network, image: np.ndarray, case: Case) -> None:
    margin = min(m.lower for m in case.result.margins)
    check(case.result.proved == case.result.conjunctions == 9, "all nine are proved")
    # What was divided into cases is proved to be above 0, and no more is known of it.
    by = f" by at least {floor(margin)[1:]}" if margin > 0 else ""
    print(f"PROVED   {case.title}")
    print(f"   every image within epsilon is a {case.label}: its score exceeds each of the nine")
    print(f"   others{by}. Certified bounds of the ten scores:")
    show_bounds(net, image, case)
    print(f"   guarantee: {case.result.guarantee} arithmetic, outward rounded; ", end="")
    print(f"{case.result.seconds['total'] * 1e3:.0f} ms\n")


def show_refuted(net: gamma.Network, image: np.ndarray, case: Case) -> np.ndarray:
    """The witness beside the original; returns it as an image (1, 8, 8)."""
    found = case.result.counterexample
    check(found is not None, "a refuted case has a witness")
    assert found is not None
    witness = np.asarray(found.x).reshape(image.shape)
    box = box_around(image, case.epsilon)
    inside = (box.lower <= witness).all() and (witness <= box.upper).all()
    before, after = int(net.forward(image).argmax()), int(net.forward(witness).argmax())
    scores = np.asarray(found.y).ravel()
    rival = int(np.delete(np.arange(10), case.label)[np.delete(scores, case.label).argmax()])
    check(bool(inside), "the witness lies in the box")
    check(before == case.label, "the original is classified correctly")
    check(bool(scores[rival] >= scores[case.label]), "the witness changes the answer")
    check(after != case.label or scores[rival] == scores[case.label], "gamma's own pass agrees")
    print(f"REFUTED  {case.title}")
    print(f"   witness, replayed by {found.replayed_by}: the network says {rival}", end="")
    print(f" ({scores[rival]:.4f}) and not {case.label} ({scores[case.label]:.4f})")
    print(f"   {f'original: {before}':<18}{f'witness: {rival}':<18}changed pixels")
    change = witness - image
    for i in range(8):
        left = "".join(shade(v) for v in image[0, i])
        right = "".join(shade(v) for v in witness[0, i])
        signs = "".join("+ " if d > 0 else "- " if d < 0 else "· " for d in change[0, i])
        print(f"   {left}  {right}  {signs}".rstrip())
    count, largest = int(np.count_nonzero(change)), float(abs(change).max())
    print(f"   {count} of 64 pixels changed, by at most {largest:.4f}\n")
    return witness


def shade(value: float) -> str:
    """Two characters that show a pixel."""
    return SHADES[min(int(value * len(SHADES)), len(SHADES) - 1)] * 2


def show_open(case: Case) -> None:
    result = case.result
    check(result.counterexample is None and result.proved < 9, "the open case is open")
    check(bool(result.margins), "an open case has margins")
    worst = min(m.lower for m in result.margins)
    print(f"OPEN     {case.title}")
    print(f"   {result.proved} of 9 comparisons proved, the worst margin only >= {floor(worst)};")
    print(f"   no witness found in {SECONDS:g} s either. Verdict: {result.verdict}, not a guess.\n")


def overview(cases: list[Case], images: list[np.ndarray]) -> Drawing:
    """The table of verdicts."""
    rows = [(c.network, c.label, c.epsilon, c.result.verdict) for c in cases]
    return overview_figure(rows, EPSILONS, images)


def bounds_by_epsilon(net: gamma.Network, image: np.ndarray, case: Case) -> Drawing:
    """The certified bounds of a proved case as epsilon grows."""
    sweep = [e for e in EPSILONS if e <= case.epsilon]
    return bounds_figure(image, case.network, case.label, [scores(net, image, e) for e in sweep])


def scores(net: gamma.Network, image: np.ndarray, epsilon: float) -> Scores:
    """Certified ends of the scores, and those reached at the inputs where linear bounds end."""
    box = box_around(image, epsilon)
    bounds, lines = gamma.bounds(net, box, method="crown"), gamma.linear_bounds(net, box)
    slopes = np.concatenate([lines.lower_coefficients, lines.upper_coefficients])
    slopes = np.concatenate([slopes, -slopes]).reshape(-1, *image.shape)
    corners = np.where(slopes > 0, box.lower, box.upper)
    reached = net.forward(np.concatenate([corners, box.sample(1000, seed=0)]), np.float64)
    reached = reached.reshape(len(reached), -1)
    ends = bounds.lower.ravel(), bounds.upper.ravel()
    return Scores(epsilon, *ends, reached.min(axis=0), reached.max(axis=0))


def witness_beside(image: np.ndarray, witness: np.ndarray, case: Case) -> Drawing:
    """Original, witness and change."""
    found = case.result.counterexample
    assert found is not None
    return witness_figure(image, witness, case.title, case.label, np.asarray(found.y).ravel())


def blends(net: gamma.Network, images: list[np.ndarray]) -> gamma.Network:
    """The network as a function of two shares: x + a (x' - x) + b (x'' - x) of three images."""
    first, *others = (np.asarray(images[digit], np.float32) for digit in BLENDED)
    build = Builder(ops.Input(), (2,))
    change = np.stack([(other - first).ravel() for other in others], axis=1)
    mixed = build.add(ops.Gemm(change, first.ravel()), 0)
    shift = build.add(ops.Reshape(net.input_shape), mixed)
    for node in net.nodes[1:]:
        last = build.add(node.op, *(shift + index for index in node.inputs))
    return build.build(last)


def show_blends(net: gamma.Network, images: list[np.ndarray]) -> Drawing | None:
    """Two inputs, their square cut into proved and open boxes; some blends are another digit."""
    mixed, digit = blends(net, images), BLENDED[0]
    box = gamma.Box(np.zeros(2), np.full(2, MOST_BLENDED))
    how = {"attack": False, "partition": True, "timeout": BLEND_SECONDS}
    result = gamma.verify(mixed, gamma.robustness(box, digit), **how)
    if result.partition is None or result.branched is None:
        return None
    points = box.sample(1000, seed=0)
    low, high = result.partition.open[:, :1], result.partition.open[:, 1:]
    left = ((low <= points) & (points <= high)).all(axis=2).any(axis=0)
    said = mixed.forward(points).argmax(axis=1)
    check(bool((said[~left] == digit).all()), "blends in the proved part keep their answer")
    share = np.floor(1000 * result.branched.proved_share) / 10
    print(f"DIVIDED  blends of digit {digit} with {BLENDED[1]} and {BLENDED[2]}, up to "
          f"{MOST_BLENDED:g} of each")  # fmt: skip
    print(f"   proved on {share:.1f} % of them, {len(result.partition.open):,} boxes open after "
          f"{BLEND_SECONDS:g} s;")  # fmt: skip
    print(f"   of 1000 sampled blends {int((said != digit).sum())} are another digit, all in open "
          "boxes\n")  # fmt: skip
    return partition_figure([images[k] for k in BLENDED], BLENDED, MOST_BLENDED, result.partition)


def write_figures(folder: Path, figures: dict[str, Drawing]) -> None:
    """The pictures as SVG, and PNG where possible."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        (folder / f"{name}.svg").write_text(figure.svg(), encoding="utf-8")
        written.append(f"{name}.svg")
        try:
            figure.save(folder / f"{name}.png")
        except gamma.UsageError:  # without matplotlib there is no PNG
            continue
        written.append(f"{name}.png")
    print(f"pictures in {folder}: {', '.join(written)}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Certified bounds on handwritten digits")
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    folder = parser.parse_args().output
    if isinstance(sys.stdout, type(sys.__stdout__)) and sys.stdout is not None:
        sys.stdout.reconfigure(encoding="utf-8")
    start = time.perf_counter()
    nets = {name: gamma.load(FOLDER / f"{name}.onnx") for name in NETWORKS}
    images = [np.load(FOLDER / "images" / f"digit{label}.npy") for label in range(10)]
    print("Handwritten digits, 8 x 8 pixels in [0, 1]. Every pixel may change by up to epsilon.")
    print("Can the answer change?\n")
    cases = ask(nets, images)
    figures = {"verdicts": overview(cases, images)}
    if proved := proved_case(cases):
        net, image = nets[proved.network], images[proved.label]
        show_proved(net, image, proved)
        figures["bounds"] = bounds_by_epsilon(net, image, proved)
        layers = gamma.layer_bounds(net, box_around(image, proved.epsilon))
        figures["layers"] = gamma.plot(layers, title=f"Widths of the bounds: {proved.title}")
    if refuted := refuted_case(cases):
        image = images[refuted.label]
        witness = show_refuted(nets[refuted.network], image, refuted)
        figures["witness"] = witness_beside(image, witness, refuted)
    if unknown := open_case(cases):
        show_open(unknown)
    if divided := show_blends(nets["mlp"], images):
        figures["blends"] = divided
    for name, found in (("proved", proved), ("refuted", refuted)):
        if found is None:
            print(f"No question was {name} in {SECONDS:g} s: this machine is slow or busy.")
    write_figures(folder, figures)
    count = {v: sum(c.result.verdict == v for c in cases) for v in ("verified", "violated")}
    print(
        f"{len(cases)} questions: {count['verified']} proved, {count['violated']} refuted, "
        f"{len(cases) - sum(count.values())} open, in {time.perf_counter() - start:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
