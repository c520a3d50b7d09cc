"""Deletes the terms of the error analysis one at a time; the tests must notice.

A copy of the package is changed in one place and `test_terms.py` (with the operators' tests) runs
against it: on NumPy kernels, where every term lives in Python, and for the steps that the C library
takes whole, compiled anew. `make mutation` fails when a mutant is not noticed or no longer applies,
and when the tests fail on an unchanged copy. With `--record FILE` a run that was stopped goes on
where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = (
    "tests/exact/test_terms.py",
    "tests/exact/test_products.py",
    "tests/exact/test_composites.py",
    "tests/exact/test_softmax.py",
    "tests/exact/test_log_softmax.py",
    "tests/exact/test_normalization.py",
    "tests/exact/test_float32.py",
    "tests/exact/test_runtimes.py",
    "tests/ops/test_relaxation.py",
    "tests/ops/test_compiled_lines.py",
    "tests/ops/test_hinge_tables.py",
    "tests/propagate/test_dense_walk.py",
    "tests/propagate/test_plain_layers.py",
    "tests/propagate/test_rising.py",
    "tests/propagate/test_abreast.py",
    "tests/propagate/test_dense_boxes.py",
    "tests/propagate/test_splits.py",
    "tests/propagate/test_fused_images.py",
    "tests/tensor/test_window_kernels.py",
    "tests/propagate/test_sparse_rows.py",
    "tests/exact/test_causal_softmax.py",
    "tests/ops/test_stored.py",
    "tests/ops/test_domains.py",
    "tests/ops/test_margins.py",
    "tests/architectures/test_layers.py",
    "tests/propagate/test_fixed_entries.py",
    "tests/exact/test_ellipsotopes.py",
    "tests/exact/test_forward.py",
    "tests/exact/test_ranges.py",
    "tests/exact/test_range_executions.py",
    "tests/propagate/ranges/test_range_walk.py",
    "tests/verify/branching",
    "tests/formats/test_onnx_pointwise.py",
    "tests/verify/test_cosine.py",
    "tests/propagate/test_few_bits.py",
    "tests/propagate/positions/test_apart.py",
    "tests/propagate/test_sides.py",
    "tests/propagate/test_parallel_lines.py",
    "tests/propagate/test_course.py",
    "tests/propagate/test_ascents.py",
    "tests/propagate/test_single_pass.py",
    "tests/tensor/test_smooth_kernels.py",
)

# Part of a mutant's file -> the tests most likely to notice it, which run before all others.
NEAR = {
    "ops/softmax": "tests/exact/test_softmax.py",
    "ops/rank_one": "tests/exact/test_softmax.py",
    "ops/simplex": "tests/exact/test_softmax.py",
    "ops/log_softmax": "tests/exact/test_log_softmax.py",
    "ops/normal": "tests/exact/test_normalization.py",
    "ops/quotient": "tests/exact/test_normalization.py",
    "ops/products": "tests/exact/test_products.py",
    "ops/bilinear": "tests/exact/test_products.py",
    "ops/composite": "tests/exact/test_composites.py",
    "ops/enclosures": "tests/exact/test_composites.py",
    "ops/execution": "tests/exact/test_float32.py",
    "formats/onnx": "tests/exact/test_float32.py",
    "formats/onnx/affine": "tests/formats/test_onnx_orders.py",
    "formats/onnx/indexing": "tests/formats/test_onnx_orders.py",
    "ops/en": "tests/exact/test_ellipsotopes.py",
    "ops/ellips": "tests/exact/test_ellipsotopes.py",
    "ops/squares": "tests/exact/test_ellipsotopes.py",
    "propagate/ellips": "tests/exact/test_ellipsotopes.py",
    "propagate/positions/apart": "tests/propagate/positions/test_apart.py",
    "propagate/few_bits": "tests/propagate/test_few_bits.py",
    "propagate/forward": "tests/exact/test_forward.py",
    "propagate/forms": "tests/exact/test_normalization.py",
    "propagate/memory": "tests/exact/test_stores.py",
    "propagate/ranges": "tests/exact/test_ranges.py",
    "propagate/ranges/": "tests/exact/test_range_executions.py",
    "tensor/fall": "tests/exact/test_normalization.py",
    "tensor/fallback": "tests/exact/test_ellipsotopes.py",
    "tensor/eigen": "tests/exact/test_ranges.py",
    "propagate/rows/opposite": "tests/propagate/test_sides.py",
    "propagate/distance": "tests/verify/test_cosine.py",
    "verification/angles": "tests/verify/test_cosine.py",
    "verification/branching": "tests/verify/branching",
    "propagate/questions": "tests/verify/branching",
    "architectures": "tests/architectures/test_layers.py",
    "ops/relaxation": "tests/ops/test_relaxation.py",
    "ops/stored": "tests/ops/test_stored.py",
    "ops/margins": "tests/ops/test_margins.py",
    "simd/curves": "tests/ops/test_compiled_lines.py",
    "simd/parallel": "tests/propagate/test_parallel_lines.py",
    "simd/dense": "tests/propagate/test_dense_walk.py",
    "simd/refine": "tests/propagate/test_dense_walk.py",
    "simd/sparse": "tests/propagate/test_plain_layers.py",
    "simd/abreast": "tests/propagate/test_abreast.py",
    "propagate/abreast": "tests/propagate/test_abreast.py",
    "native/abreast": "tests/propagate/test_abreast.py",
    "simd/walk": "tests/propagate/test_course.py",
    "simd/ascent": "tests/propagate/test_ascents.py",
    "simd/meet": "tests/propagate/test_course.py",
    "simd/start": "tests/propagate/test_course.py",
    "simd/images": "tests/propagate/test_image_walk.py",
    "propagate/images": "tests/propagate/test_image_walk.py",
    "simd/image_rows": "tests/propagate/test_image_walk.py",
    "simd/ellipsoid": "tests/exact/test_ellipsotopes.py",
    "simd/planes": "tests/tensor/test_kernels.py",
    "simd/chain": "tests/propagate/test_sparse_rows.py",
    "simd/convolve": "tests/propagate/test_fused_images.py",
    "simd/gather": "tests/tensor/test_window_kernels.py",
    "simd/lanes": "tests/tensor/test_window_kernels.py",
    "simd/shortcut": "tests/tensor/test_window_kernels.py",
    "simd/passes": "tests/propagate/test_passes.py",
    "simd/smooth": "tests/tensor/test_smooth_kernels.py",
    "simd/single": "tests/propagate/test_single_pass.py",
    "propagate/single": "tests/propagate/test_single_pass.py",
}


@dataclass(frozen=True)
class Mutant:
    """A term by its name in docs/numerics.md, and the text that deletes it."""

    name: str
    file: str
    old: str
    new: str

    def source(self, root: Path) -> Path:
        """The file to change in a copy of the project."""
        return root / self.file if self.compiled else root / "gamma" / self.file

    @property
    def compiled(self) -> bool:
        """Whether the C library must be built anew."""
        return self.file.startswith("csrc")

    @property
    def called(self) -> bool:
        """Whether the tests need the C library: what the term charges is done there alone."""
        return self.compiled or self.file in (PP, PI, PA) or "/native/" in self.file

    def applies(self) -> bool:
        """Whether the text is in the source, once."""
        return self.source(ROOT).read_text().count(self.old) == 1


I, C, B, T = (
    "ops/affine_interval.py",
    "ops/charges.py",
    "propagate/rows/descend.py",
    "ops/tables.py",
)
HI = "ops/hinges.py"
P, Q = "ops/products.py", "ops/bilinear.py"
S, K, SX = "ops/softmax.py", "ops/rank_one.py", "ops/simplex.py"
ON, OQ, OL = "ops/normalization.py", "ops/quotient.py", "ops/log_softmax.py"
ES, EE, EN, EB, EQ = (
    f"ops/{name}.py" for name in ("ellipsotope", "enclose", "normalized", "ellipsoid", "squares")
)
EW, EF = "propagate/ellipsotopes.py", "propagate/forward.py"
APART = "propagate/positions/apart.py"
A, ST, R, E, L = (
    "propagate/api.py",
    "propagate/rows/start.py",
    "ops/relaxation.py",
    "ops/elementwise.py",
    "ops/linear.py",
)
O, X, EP, EG = "ops/affine.py", "ops/execution.py", "ops/piecewise.py", "ops/gates.py"
RM, RS, RV = (f"propagate/ranges/{name}.py" for name in ("matrix", "spectral", "sets"))
RD, RA, RR = (f"propagate/ranges/{name}.py" for name in ("dense", "attention", "rules"))
RT = "propagate/ranges/rotary.py"
EV = "tensor/eigenvalues.py"
N = "propagate/questions.py"
V, H, VC = (f"verification/branching/{name}.py" for name in ("clipping", "halving", "combining"))
TR = "verification/branching/trees.py"
FB = "propagate/few_bits.py"
OP = "propagate/rows/opposite.py"
# The second halves are forgotten.
HALF = 'cuts.twice(), both["lower"][box], both["upper"][box]); closed |= box >= count'

PASS, ASCENT = "csrc/simd/passes.inc", "csrc/simd/ascent.inc"
SINGLE, PP = "csrc/simd/single.inc", "propagate/single.py"
BESIDE = "csrc/simd/beside.inc"
PI = "propagate/images.py"
ABREAST, PA = "csrc/simd/abreast.inc", "propagate/abreast.py"
WALK = "csrc/simd/walk.inc"
MEET, START, IMAGES = (f"csrc/simd/{name}.inc" for name in ("meet", "start", "images"))
IMAGE_ROWS = "csrc/simd/image_rows.inc"
MUTANTS = (
    Mutant("FEWBITS.INPUT", FB, "Executed(_rounded(values, kept), size", "Executed(values, size"),
    Mutant("FEWBITS.RESULT", FB, "Executed(_rounded(made, kept), apart)", "Executed(made, apart)"),
    Mutant("FEWBITS.NOISE", FB, "rounding.down(made.lower - noise)", "made.lower"),
    Mutant("FEWBITS.GROWTH", FB, "(growth * size + lost)", "(size + lost)"),
    Mutant("FEWBITS.LOST", FB, "lost = 4 *", "lost = 0.0 *"),
    Mutant("FEWBITS.BIAS", FB, "size + abs(offset.astype(np.float64))", "size"),
    Mutant("FEWBITS.PEAK", FB, "partial * op.peak", "partial"),
    Mutant("FEWBITS.WEIGHT", FB, "np.maximum(partial * op.peak, largest)", "partial * op.peak"),
    Mutant("FEWBITS.APART.INPUT", FB, "size * kept.unit * _SLACK + 2", "0 * size + 2"),
    Mutant("FEWBITS.APART.NOISE", FB, "(apart + noise) * _SLACK", "apart"),
    Mutant("FEWBITS.APART.CARRIED", FB, "(apart + noise) * _SLACK", "noise"),
    Mutant("FEWBITS.APART.PLAIN", FB, "inputs[0].apart if plain", "0 * inputs[0].apart if plain"),
    Mutant("FEWBITS.APART.BOTH", FB, "rounding.up(between))", "0 * between)"),
    Mutant("FEWBITS.NEAR", FB, "rounding.down(exact.lower - apart)", "exact.lower"),
    Mutant("STORE.SEALED", "propagate/memory/store.py", "self._sealed(i) for", "self[i] for"),
    Mutant("STRIP.HEIGHT", OP, "above - below + apart * radius", "above - below"),
    Mutant("STRIP.CARRIED", OP, "apart * carried * 1.01", "0.0"),
    Mutant("STRIP.SLOPE", OP, "apart > 0, steep *", "apart > 0, 0.0 *"),
    Mutant("STRIP.SUM", OP, "(dot + 2.0**-48)", "2.0**-60"),
    Mutant(
        "OPPOSITE.TURN",
        OP,
        "d - before\n    opposite -= (abs(opposite) + abs(d) + abs(before)) * 2.0**-50 + TINY\n\n",
        "d - before\n\n",
    ),
    Mutant(
        "OPPOSITE.FOLLOW",
        OP,
        "opposite += d - before\n    opposite -= (",
        "opposite += d - before\n    opposite -= 0.0 * (",
    ),
    Mutant("DISTANCE.CENTRE", "propagate/distance.py", "total + terms * (", "total + 0.0 * ("),
    Mutant("DISTANCE.APART", "propagate/distance.py", "above + apart *", "above + 0.0 *"),
    Mutant("DISTANCE.REST", "propagate/distance.py", "(moved + error)", "(moved + 0.0)"),
    Mutant(
        "ANGLE.REACH",
        "verification/angles.py",
        "Fraction(distance) + Fraction(own)",
        "Fraction(distance)",
    ),
    Mutant("ANGLE.ABOVE", "verification/angles.py", "+ a * high_v + b * high_u", "+ b * high_u"),
    Mutant("INTERVAL.CENTRE", I, "noise = g * (size + offset_size) +", "noise ="),
    Mutant("INTERVAL.SCALE", I, "+ op.uncertainty * size +", "+"),
    Mutant("INTERVAL.SHIFT", I, "+ op.offset_uncertainty + _TINY", "+ _TINY"),
    Mutant("INTERVAL.UNDERFLOW", I, "_TINY = 2.0**-1000", "_TINY = 0.0"),
    Mutant("SPREAD.SUM", I, "((1 + g) * (1 + op.uncertainty) * (1 + 2.0**-50))", "1.0"),
    Mutant("SPREAD.SCALE", I, "(1 + g) * (1 + op.uncertainty) *", "(1 + g) *"),
    Mutant(
        "SPREAD.FLOAT32",
        "ops/dense_interval.py",
        "(1 + rounding.gamma_factor(n + 1, np.float32)) *",
        "1.0 *",
    ),
    Mutant(
        "SPREAD.SUBNORMAL",
        "ops/dense_interval.py",
        "(1 + 2.0**-50), n * 2.0**-148",
        "(1 + 2.0**-50), 0.0",
    ),
    Mutant(
        "SPREAD.NARROWED",
        "ops/dense_interval.py",
        "[kernels.narrow_up(r) for",
        "[r.astype(np.float32) for",
    ),
    Mutant(
        "SPREAD.NARROWED_DENSE",
        "ops/dense_interval.py",
        "= kernels.narrow_up(radius)",
        "= radius.astype(np.float32)",
    ),
    Mutant("NOISE.FLOAT32", O, "np.float32) * size + lost", "np.float32) * 0 * size + lost"),
    Mutant("NOISE.UNDERFLOW", O, "np.float32) * size + lost", "np.float32) * size"),
    Mutant("NOISE.OVERFLOW", X, "return np.where(lost, np.inf, noise)", "return noise"),
    Mutant(
        "NOISE.FUNCTION",
        E,
        "float32_range(lower - noise, upper + noise)",
        "float32_range(lower, upper)",
    ),
    Mutant("NOISE.EXACT", E, "exact, known = noise == 0,", "exact, known = noise < 1e-6,"),
    Mutant(
        "NOISE.RANGE",
        I,
        "lost = ~(np.maximum(-lower, upper) <= FLOAT32_MAX / 2)",
        "lost = np.isnan(lower)",
    ),
    Mutant("NOISE.GATE", EG, "2.0**-119, 2.0**-19)", "2.0**-119, 0.0)"),
    Mutant("PEAK.MEAN", "ops/sums.py", "(1 + 2.0**-50) / abs(self.scale)", "0.0 / abs(self.scale)"),
    Mutant("PEAK.POOL", "formats/onnx/windows.py", "channels, float(first))", "channels)"),
    Mutant("PEAK.STORED", O, "noise + self._largest_stored()", "noise"),
    Mutant("PEAK.FUNCTION", E, "np.maximum(self.float32_peak(reach), 2", "np.maximum(0.0, 2"),
    Mutant(
        "POISON.FUNCTION",
        E,
        "return overflowed(noise, np.where(np.isfinite(reach), peak, np.inf))",
        "return np.nan_to_num(noise)",
    ),
    Mutant("POISON.RELU", E, 'and (how.guarantee == "real" or not x.unbounded)', ""),
    Mutant(
        "POISON.MAXIMUM",
        "ops/pooling.py",
        "np.where(lost.any(axis=-1), np.inf, 0.0)",
        "0.0 * lost[..., 0]",
    ),
    Mutant("POISON.LINES", T, "        lower, upper = lower - noise, upper + noise\n", ""),
    Mutant(
        "FOLD.OVERFLOW", "formats/onnx/fold.py", "overflowed(noise, abs(value) + noise)", "noise"
    ),
    Mutant(
        "FOLD.SUM", "formats/onnx/contract.py", "overflowed(noise, size + error + noise)", "noise"
    ),
    Mutant("ORDER.SUM", "formats/onnx/affine.py", "if len(parts) > 2 and moving:", "if not parts:"),
    Mutant(
        "ORDER.SCATTER",
        "formats/onnx/indexing.py",
        'if how == "add" and table.shape[1] == 1:',
        'if how == "add":',
    ),
    Mutant("ORDER.FACTORS", "formats/onnx/indexing.py", "steps = 2 * len(columns)", "steps = 0"),
    Mutant(
        "ORDER.PEAK",
        "formats/onnx/indexing.py",
        "return Execution(error, lost, most, np.maximum(most, 1.0))",
        "return Execution(error, lost, abs(product.array), np.ones(()))",
    ),
    Mutant("NORMAL.PEAK", "formats/onnx/normal.py", "        largest * (1 + 2.0**-20),", "joint,"),
    Mutant("NORMAL.LOST", "formats/onnx/normal.py", "steps * joint + 4 * LOST", "steps * joint"),
    Mutant("EXECUTION.ERROR", X, "(steep * self.error + outer", "(outer"),
    Mutant("EXECUTION.OFFSET", X, "(steep * self.offset_error + outer", "(outer"),
    Mutant("EXECUTION.OUTER", X, "self.error + outer.error * slope)", "self.error)"),
    Mutant("EXECUTION.PEAK", X, "np.maximum(self.peak, outer", "(outer"),
    Mutant("EXECUTION.LOST", X, "(2 * LOST if steps else 0.0)", "0.0"),
    Mutant(
        "CHARGE.PRODUCT",
        C,
        "gamma_factor(steps, dtype) if steps else",
        "gamma_factor(0, dtype) if steps else",
    ),
    Mutant(
        "SET.REACH",
        "tensor/fallback.py",
        "np.multiply(np.abs(columns).sum(axis=0), factor, out=out)",
        "np.multiply(np.abs(columns).sum(axis=0), 1.0, out=out)",
    ),
    Mutant("SET.PRODUCTS", EE, "charge = (g + 2 *", "charge = (2 *"),
    Mutant("SET.UNCERTAIN", EE, "charge = (g + 2 * op.uncertainty)", "charge = g"),
    Mutant("SET.NOISE", EE, "+ charge + noise)", "+ charge)"),
    Mutant("SET.ENDS", EE, "rest = 0.5 * (ends[1] - ends[0]) +", "rest ="),
    Mutant("SET.GAP", EE, "+ gap * far +", "+"),
    Mutant("SQUARE.THIRD", EQ, "rest = op.third / 6 * far**3 +", "rest ="),
    Mutant("SQUARE.REST", EQ, "rest += abs(steep) * x.rest +", "rest +="),
    Mutant("SQUARE.FORM", EQ, "= row @ (matrix", "= 0.5 * row @ (matrix"),
    Mutant("SQUARE.AROUND", EQ, "+= x.around.error[:, None]", "+= 0.0"),
    Mutant("SET.PLANES", EE, "rest = 0.5 * (high - low) + gap +", "rest = gap +"),
    Mutant("SET.ENTRIES", EE, "        return box, {}", "        return 0 * box, {}"),
    Mutant(
        "SET.LENGTHS", EE, "return np.minimum(box, lengths", "return 0 * np.minimum(box, lengths"
    ),
    Mutant("SET.VECTORS", EE, "n, n) * far[", "n, n) * 0.1 * far["),
    Mutant("SET.WEIGHTS", EB, "matrix *= (total *", "matrix *= (0.5 * total *"),
    Mutant("SET.INTERVAL", EB, "+= corners * corners / weight", "+= 0 * weight"),
    Mutant("SET.LIFT", EB, "lift = (self.error +", "lift = 0 * (self.error +"),
    Mutant("SET.NORMAL_LINE", EN, "ends = (0.5 * w.gap[1][0] - 0.5 * w.gap[0][0] +", "ends = ("),
    Mutant("SET.NORMAL_SCALED", EN, "near.factors() * stray", "near.factors() * 0.1 * stray"),
    Mutant("SET.NORMAL_REST", EN, "rest = root * (moved.rest + astray)", "rest = root * astray"),
    Mutant("SET.PLACES", ES, "math.gcd(part.places, kept.get(key, apart))", "part.places"),
    Mutant("SET.PLACES_SHARED", ES, "kept.get(key, apart)", "apart"),
    Mutant(
        "SET.PLACES_KNOWN",
        EE,
        "if axes is None:\n        return 1",
        "if axes is None:\n        return 0",
    ),
    Mutant(
        "SET.PLACES_ROWS",
        EW,
        "len(d), places, -1).transpose(1, 2, 0)",
        "len(d), places, -1)[..., ::-1].transpose(1, 2, 0)",
    ),
    Mutant("EXEC.VALUE", E, "2 * np.maximum(abs(low), abs(high)))", "0 * low)"),
    Mutant("SET.SUBNORMAL", EE, "rest += 2.0**-1073 * (far", "rest += 0.0 * (far"),
    Mutant("APART.SUM", APART, "rounding.gamma_factor(n + 4, np.float64) * size", "0.0 * size"),
    Mutant(
        "APART.BOX", APART, "box[:, None] * n + np.arange(n)", "box[:, None] * n + 0 * np.arange(n)"
    ),
    Mutant(
        "APART.START",
        APART,
        "boxes * self._count + position, neuron",
        "boxes * self._count, neuron",
    ),
    Mutant("APART.INSIDE", APART, "tables.carried(i) or tables", "tables"),
    Mutant("APART.CARRIED", APART, "or len(nodes) - 1 == network.output)", "or True)"),
    Mutant("SET.ROWS", EW, "total - g * size * (1 + 2.0**-20)", "total"),
    Mutant("FORMS.OTHERS", ES, "rest = rounding.up(rest + part.reach)", "pass"),
    Mutant("FORMS.BEGIN", EF, "middle, reach, {})", "middle, 0.5 * reach, {})"),
    Mutant("FORMS.ENTRY", ES, "np.where(which, middle, self.middle)", "self.middle"),
    Mutant("FORMS.REST", ES, "np.where(which, rest, self.rest)", "np.where(which, 0.0, self.rest)"),
    Mutant("CHARGE.TERMS", C, "m = 1 if start else op.adjoint_terms", "m = 1"),
    Mutant("CHARGE.REPEATS", C, "(op.unit and m <= 1)", "op.unit"),
    Mutant("CHARGE.NARROWED", C, "factor = factor + 2 * UNIT[dtype]", "pass"),
    Mutant("CHARGE.SCALE", C, "(factor + 2 * op.uncertainty)", "factor"),
    Mutant("CHARGE.NOISE", C, "(factor * spread + noise)", "(factor * spread)"),
    Mutant(
        "CHARGE.LOSS",
        B,
        "d -= charge.loss[box]\n            settle(d)\n        shapes",
        "settle(d)\n        shapes",
    ),
    Mutant("CHARGE.FLUSHED", C, "flush = 2 * UNDERFLOW[dtype] * total", "flush = 0 * total"),
    Mutant("WEIGHT.SUM", C, "return weight * ((1 + g) * (1 + 2.0**-50))", "return weight * 1.0"),
    Mutant("RELAX.SLOPE", T, "size * (1.01 * UNIT[dtype]) * radius)", "0.0)"),
    Mutant("RELAX.FUSED", T, "size * 1.01 * carried.weight.reshape(radius.shape)", "0.0"),
    Mutant(
        "RELAX.LOSS",
        B,
        "d -= table.loss[at]\n        settle(d)\n        for",
        "settle(d)\n        for",
    ),
    Mutant("RELAX.FUSED_LOSS", T, "            + carried.loss\n", ""),
    Mutant(
        "RELAX.FLOAT32",
        T,
        "low_intercept - noise, high_intercept + noise",
        "low_intercept, high_intercept",
    ),
    Mutant("CONST.ROUNDING", C, "slack = size * 2.0**-50 +", "slack ="),
    Mutant("CONST.SUM", C, "(dot * (1 + 2.0**-20) + 2.0**-50)", "(2.0**-50)"),
    Mutant("CONST.UNDERFLOW", C, "(charge + slack + TINY)", "(charge + slack)"),
    Mutant("MAX.SLOPE", T, ".sum(axis=-1) * (1.01 * UNIT[dtype])", ".sum(axis=-1) * 0.0"),
    Mutant(
        "MAX.HEIGHTS", T, "charge + abs(heights).sum(axis=-1) * rounding", "charge + 0.0 * rounding"
    ),
    Mutant("PRODUCT.IMAGE", P, "rounding.down(product), rounding.up(product)", "product, product"),
    Mutant("PRODUCT.SUM", P, "error = size *", "error = 0.0 * size *"),
    Mutant("PRODUCT.ABOUT", P, "(reach + g * self.forward(*sizes))", "reach"),
    Mutant("PRODUCT.FLOAT32", P, "noise = gamma * size +", "noise = 0.0 * size +"),
    Mutant("PRODUCT.UNDERFLOW", P, "+ k * 2.0**-148", ""),
    Mutant("PRODUCT.PEAK", P, "overflowed(noise, size + noise)", "noise"),
    Mutant("PLANE.CORNER", Q, " - 2.0**-50 * size)", ")"),
    Mutant("PLANE.ROWS", Q, "gamma_factor(summed + 2, dtype)", "gamma_factor(0, dtype)"),
    Mutant("PLANE.SUM", Q, "(charge + many * size)", "charge"),
    Mutant("PLANE.FLOAT32", Q, "charge = noise + sum(", "charge = 0 * noise + sum("),
    Mutant("PLANE.LOSS", Q, "2 * UNDERFLOW[dtype] * summed", "0 * summed"),
    Mutant("PLANE.MIDDLE", Q, "abs(c - r) * (1 + 2.0**-50)", "abs(c - c)"),
    Mutant("PLANE.MIDDLE_SUM", Q, "reach + many * size * (1 + many) +", "reach +"),
    Mutant("SOFTMAX.IMAGE", S, "[1 + sign * error for", "[1.0 for"),
    Mutant("SOFTMAX.REST", S, "leads = powers > found", "leads = powers > np.inf"),
    Mutant(
        "SOFTMAX.FLOAT32",
        S,
        "return np.where(known, share * ceiling",
        "return np.where(known, 0 * ceiling",
    ),
    Mutant("SOFTMAX.FLUSHED", S, "(n + 4) * 2.0**-124", "0.0"),
    Mutant("POISON.SOFTMAX", S, "ceiling + lost, np.inf)", "ceiling + lost, 0.0)"),
    Mutant("SOFTMAX.CHORD", S, "power - line + (EXP_ERROR * power", "power - line + (0.0 * power"),
    Mutant(
        "SOFTMAX.BELOW",
        S,
        "value = factor * (2 - log + z - total - error)",
        "value = factor * (2 - log + z - total)",
    ),
    Mutant("SOFTMAX.TOTAL", S, "(abs(1 / total - 1) + 2 * sums)", "(2 * sums)"),
    Mutant("SOFTMAX.ENDS", S, "(VALUE_ERROR * abs(steep * log) + 2.0**-50 * p)", "0.0"),
    Mutant("RANK.ROWS", K, "factor * reach, sign", "0.0 * reach, sign"),
    Mutant("RANK.LOSS", K, "lost = times(2 + n * abs(side.weight), radius)", "lost = 0.0 * radius"),
    Mutant("SIMPLEX.CENTRE", SX, "lost = (abs(c) * (self", "lost = 0.0 * (abs(c) * (self"),
    Mutant("SIMPLEX.DIFFERENCE", SX, "lost += unit *", "lost += 0.0 *"),
    Mutant("SIMPLEX.SUM", SX, "d -= abs(d) * 2.0**-50", "d -= 0.0"),
    Mutant("SIMPLEX.TOTAL", SX, "d += (c * short).sum", "d += (c * 0.0 * short).sum"),
    Mutant(
        "LOGSOFTMAX.IMAGE",
        OL,
        "(VALUE_ERROR * size + np.minimum(size, 1.0) * lost * 1.01 + TINY)",
        "TINY",
    ),
    Mutant(
        "LOGSOFTMAX.FLOAT32", OL, "np.where(known, noise, np.inf)", "np.where(known, 0.0, np.inf)"
    ),
    Mutant("LOGSOFTMAX.BELOW", OL, "1 + z - total - error - TINY", "1 + z - total - TINY"),
    Mutant("NORMALIZE.IMAGE", ON, "square * (1 + away * 2.0**-49) + away * TINY", "square"),
    Mutant("NORMALIZE.SUMS", ON, "g = rounding.gamma_factor(2 * d + 16, np.float64)", "g = 0.0"),
    Mutant(
        "NORMALIZE.SQUARES",
        ON,
        "g = rounding.gamma_factor(lower.shape[-1] + 4, np.float64)",
        "g = 0.0",
    ),
    Mutant("NORMALIZE.LEAST", ON, "far * far / d * (1 + 2.0**-40)", "0.0 * far"),
    Mutant(
        "NORMALIZE.FLOAT32",
        ON,
        "own = (2.0**-18 + sums) *",
        "own = 0.0 *",
    ),
    Mutant("NORMALIZE.ROOT", ON, "* (1 + 2.0**-20) + 2.0**-18", "* (1 + 2.0**-20)"),
    Mutant(
        "NORMALIZE.CANCEL",
        ON,
        "np.where(left > 0, astray, np.inf)",
        "np.where(left > 0, astray, 0.0)",
    ),
    Mutant(
        "NORMALIZE.SHIFT",
        ON,
        "shift = sums * mean + 8 * UNIT * size + 2.0**-147 if",
        "shift = 0 * size if",
    ),
    Mutant("NORMALIZE.PEAK", ON, "(peak <= FLOAT32_MAX) &", "(peak <= np.inf) &"),
    Mutant(
        "NORMALIZE.CENTRE",
        OQ,
        "lost = sums * abs(x.centre).mean(axis=-1, keepdims=True) + 2.0**-52 * abs(x.centre)",
        "lost = 0.0 * radius",
    ),
    Mutant(
        "NORMALIZE.MEAN",
        OQ,
        "astray = (abs(shared - 1 / n) + 2.0**-52 / n) * total * (1 + sums) + lost",
        "astray = lost",
    ),
    Mutant(
        "NORMALIZE.TILT",
        OQ,
        "error = error + times(off, radius).sum(axis=-1, keepdims=True)\n",
        "\n",
    ),
    Mutant("NORMALIZE.BASE", OQ, "(sums + 2.0**-50) * base + TINY", "TINY"),
    Mutant(
        "NORMALIZE.CURVE",
        OQ,
        "curve = np.fmin(curve, square) + error",
        "curve = error",
    ),
    Mutant(
        "NORMALIZE.MOVES",
        OQ,
        "np.fmax(-reach, low - error), np.fmin(reach, high + error)",
        "np.fmax(-reach, low), np.fmin(reach, high)",
    ),
    Mutant("NORMALIZE.REST", OQ, "rest = reach * w.stray +", "rest = 0 * w.stray +"),
    Mutant("NORMALIZE.ASTRAY", OQ, "* w.stray + root * known.astray", "* w.stray"),
    Mutant("NORMALIZE.ROWS", OQ, "* rounding.gamma_factor(n + 6, dtype)", "* 0.0"),
    Mutant(
        "NORMALIZE.LOSS", OQ, "loss = 2 * UNDERFLOW[dtype] * loss + TINY", "loss = 0 * loss + TINY"
    ),
    Mutant(
        "NORMALIZE.GAP",
        OQ,
        "low = low - 2.0**-48 * (touch + far + root + mean) - TINY",
        "low = low - TINY",
    ),
    Mutant("NORMALIZE.CHORD", OQ, "end + 2.0**-48 * size + TINY", "end + TINY"),
    Mutant("NORMALIZE.SLOPE", OQ, "- root - mean\n", "- root\n"),
    Mutant(
        "NORMALIZE.ENDS",
        "tensor/fallback.py",
        "ends.sum(axis=1) - planes.sums * np.abs(ends).sum(axis=1)",
        "ends.sum(axis=1)",
    ),
    Mutant(
        "FORMS.CENTRE",
        "propagate/forms.py",
        "error = sums * abs(terms).sum(axis=-1) + 2.0**-50 * (abs(lower) + abs(negated)) + TINY",
        "error = 0.0 * lower",
    ),
    Mutant("MAX.LINE", "ops/pooling.py", "(each + error).sum", "each.sum"),
    Mutant("MAX.SUM", "ops/pooling.py", "linear += sums *", "linear += 0.0 *"),
    Mutant(
        "JOIN",
        "propagate/rows/tables.py",
        "self.radius(index) * (1.01 * UNIT[self.how.dtype])",
        "self.radius(index) * 0.0",
    ),
    Mutant("SETTLE", B, "abs(d) * 2.0**-50 + TINY", "TINY"),
    Mutant("SETTLE.UNDERFLOW", B, "abs(d) * 2.0**-50 + TINY", "abs(d) * 2.0**-50"),
    Mutant("BALL.SHIFT", B, "abs(shift) * g + size * 2.0**-52", "size * 0.0"),
    Mutant(
        "BALL.NORM",
        B,
        "d -= ball.radius * norm * (1 + g) * (1 + 2.0**-48)",
        "d -= 0.999999 * ball.radius * norm",
    ),
    Mutant("BETA.CHARGE", B, "if tables.carried(index):", "if False:"),
    Mutant(
        "BETA.SUM",
        B,
        "d -= (total + abs(d)) * (g + 2.0**-50) * (1 + 2.0**-20) + TINY",
        "d -= TINY",
    ),
    Mutant("BETA.ROUND", B, "cost += rest * tables.rounded(index)[at]", "cost += 0.0 * rest"),
    Mutant("BETA.SIGN", B, "0.0) * given.sign).astype", "0.0) * -given.sign).astype"),
    Mutant("BETA.NEGATIVE", B, "np.maximum(given.beta, 0.0)", "given.beta"),
    Mutant(
        "PHASE.CHARGE", HI, "((zero, zero), (centre, charge))", "((zero, zero), (centre, zero))"
    ),
    Mutant("PHASE.SIDE", HI, "np.where(self.assumed.active, taken, 0)", "taken"),
    Mutant("CLIP.LEAST", V, " - size * g * (1 + 2.0**-40) - 2.0**-1000", ""),
    Mutant("CLIP.HIGH", V, "np.nextafter(lower + room, np.inf)", "lower + room"),
    Mutant("CLIP.LOW", V, "np.nextafter(upper - room, -np.inf)", "upper - room"),
    Mutant("SUM.CONSTANT", VC, "(weight * abs(d)).sum(axis=1) * g + ", ""),
    Mutant("SUM.ROWS", VC, "abs(a)) * g + 2.0**-1000) * reach", "abs(a)) * 0.0) * reach"),
    Mutant("SUM.STRICT", VC, "np.logical_and.reduceat(part", "np.logical_or.reduceat(part"),
    Mutant("HALVES.BOTH", H, 'cuts.twice(), both["lower"][box], both["upper"][box])', HALF),
    Mutant("TREE.OPEN", TR, 'np.minimum.at(lower, items["clause"], items["bound"])', "pass"),
    Mutant(
        "TREE.HALVES",
        TR,
        "np.tile(relu, 2), _SIDES.repeat(count)",
        "np.tile(relu, 2), _SIDES[:1].repeat(2 * count)",
    ),
    Mutant(
        "SIGN",
        "verification/branching/inherited.py",
        "reshape(boxes, -1) >= 0,",
        "reshape(boxes, -1) >= -1,",
    ),
    Mutant("NEURON.UPPER", "verification/branching/neurons.py", ", -lower[self", ", lower[self"),
    Mutant("START.CARRIED", ST, "if tables.carried(index):", "if False:"),
    Mutant("HINGE.ROUNDING", HI, "weight = charge + (1.01 * UNIT", "weight = charge + (0.0 * UNIT"),
    Mutant("HINGE.MARGIN", HI, "base = base - 2.0**-49 * (abs(base) + abs(top))", "pass"),
    Mutant("REACH.UNDERFLOW", "tensor/fallback.py", "np.where(moved, extra, 0.0)", "0.0"),
    Mutant(
        "CAPS.KEPT",
        "propagate/ranges/walk.py",
        "along or (node.inputs and free.issuperset(read))",
        "along or node.inputs",
    ),
    Mutant("LARGEST.UNDERFLOW", "ops/ellipsoid.py", "_SLACK + 2.0**-1070", "_SLACK"),
    Mutant("SLOPES.RELU", EP, "(abs(slope) * (high - low) + high) + TINY", "0.0 * high"),
    Mutant("SLOPES.RELU_TYPE", EP, "reshape(lower.shape).astype(dtype)", "reshape(lower.shape)"),
    Mutant(
        "SLOPES.TYPE",
        R,
        "_representable(np.reshape(given, lower.shape), dtype)",
        "np.reshape(given, lower.shape)",
    ),
    Mutant("CAUSAL.HIDDEN", S, "least - 2000.0 - 1e-3 * abs(least)", "least - 2.0"),
    Mutant("CAUSAL.NOISE", S, "np.where(exact & np.isfinite(noise), 0.0, noise)", "0.0 * noise"),
    Mutant(
        "STORED.TURNED", "ops/stored.py", "(1 + 2 * gamma_factor(self.sizes[1], np.float64))", "0.5"
    ),
    Mutant("MARGIN.BOTH", "ops/margins.py", " + each[:, [self.label]]", ""),
    Mutant(
        "ROTARY.ANGLE",
        "architectures/rope.py",
        "(loss * angle + 2 * abs(factor))",
        "abs(factor)",
    ),
    Mutant("ROTARY.FLOAT32", "architectures/rope.py", "(size / 2 + loss) * 2.0**-22", "2.0**-30"),
    Mutant(
        "ROTARY.SCALING",
        "architectures/rope.py",
        "error * abs(1 - 1 / factor) / kept, 0.0",
        "0.0, 0.0",
    ),
    Mutant("BALL.FIXED", B, "np.where(fixed, 0.0, centre - hull)", "centre - hull"),
    Mutant("DEAD", "propagate/rows/tables.py", ".any(axis=0))", ".all(axis=0))"),
    Mutant(
        "START.COST",
        ST,
        "cost = (charge.weight + charge.loss) * (1 + 2.0**-50)",
        "cost = 0 * charge.weight",
    ),
    Mutant("SPEC.CENTRE", N, "abs(centre) * (g + doubt)", "abs(centre) * doubt"),
    Mutant("SPEC.DOUBT_CENTRE", N, "abs(centre) * (g + doubt)", "abs(centre) * g * 2.0**-9"),
    Mutant("SPEC.DOUBT_REACH", N, " + reach * doubt", ""),
    Mutant("SPEC.DROPPED", N, "if dropped.any():", "if False:"),
    Mutant("SPEC.JOIN", N, "reach * (1.01 * UNIT[dtype])", "reach * 0.0"),
    Mutant(
        "OUTPUT",
        A,
        "rounding.to_down(lower, dtype), rounding.to_up(upper, dtype)",
        "lower.astype(dtype), upper.astype(dtype)",
    ),
    Mutant("FUSE.BIAS", L, "if previous.offset() is not None:", "if False:"),
    Mutant("FUSE.EXECUTION", L, "0.0, steps.packed())", "0.0)"),
    Mutant(
        "LINE.VALUE", R, "error = VALUE_ERROR * abs(value) + values.curve", "error = values.curve"
    ),
    Mutant(
        "LINE.ABSOLUTE",
        R,
        "+ values.curve.absolute_error + 2.0**-50 * abs(slope * x)",
        "+ 2.0**-50 * abs(slope * x)",
    ),
    Mutant(
        "LINE.PRODUCT",
        R,
        "values.curve.absolute_error + 2.0**-50 * abs(slope * x)",
        "values.curve.absolute_error",
    ),
    Mutant(
        "TANGENT.SLOPE",
        R,
        "(SLOPE_ERROR * abs(steep) + values.curve.slope_error) * abs(run)",
        "0.0",
    ),
    Mutant(
        "IMAGE.VALUE",
        E,
        "high = high + (VALUE_ERROR * abs(high) + self.absolute_error + TINY)",
        "pass",
    ),
    Mutant("IMAGE.STATIONARY", E, "for point in self.stationary:", "for point in ():"),
    Mutant(
        "RELU.INTERCEPT",
        EP,
        "intercept * (1 + 2.0**-40) + 2.0**-1000 + 2.0**-50 * slope * high",
        "intercept",
    ),
    Mutant("GELU.TAIL", EG, "return 2.0**-300 if", "return 2.0**-1000 if"),
    Mutant("SINE.FIRST", "ops/periodic.py", "lower if step == 0 else np.maximum", "np.maximum"),
    Mutant("HARDSIGMOID.BETA", EP, "2.0**-45 * (1.0 + abs(self.beta))", "2.0**-45"),
    Mutant("RANGE.PRODUCT", RM, "* scale * (own * _SLACK)", "* 0.0"),
    Mutant("RANGE.SPREAD", RM, "factor = (1 + g) * _SLACK", "factor = 1.0"),
    Mutant("RANGE.LOST", RM, "lost = 4 * self.n * spectral.LEAST[self.dtype]", "lost = 0.0"),
    Mutant("RANGE.SQUARES", RM, "((1 + g) * (1 + 4 * unit))", "1.0"),
    Mutant("RANGE.FACTORED", EV, "(theta + g * trace + lost", "(theta + 0.0 * lost"),
    Mutant(
        "RANGE.EIGEN",
        RS,
        "largest_eigenvalue(self.matrix) + self.error",
        "largest_eigenvalue(self.matrix)",
    ),
    Mutant("RANGE.SUMS", RS, "error = (g * min(", "error = (0.0 * min("),
    Mutant("RANGE.SIZES", RS, "np.abs(rows, out=", "np.positive(rows, out="),
    Mutant("RANGE.TRACE", RS, "dtype=np.float64)) * (1 + 2 * g) + tiny)", "dtype=np.float64)))"),
    Mutant("RANGE.READ", RS, "lost = 4 * unit * (size + plain)", "lost = 0.0"),
    Mutant("RANGE.FORM", RS, "(self.error / power + 2 * g * most)", "(self.error / power)"),
    Mutant("RANGE.GRAM", RS, "(self.error / power + 2 * g * most)", "(2 * g * most)"),
    Mutant("RANGE.MEAN", RS, "    if centred:\n        made -=", "    if True:\n        made -="),
    Mutant(
        "RANGE.NORM", RV, "factor = 1 + rounding.gamma_factor(n + 8, np.float64)", "factor = 1.0"
    ),
    Mutant("RANGE.JOINED", RV, "factor = math.sqrt(count) * SLACK", "factor = SLACK"),
    Mutant("RANGE.JOINED_STRAY", RV, "stray=self.stray * factor)", "stray=self.stray)"),
    Mutant("RANGE.STORED", RV, "lost = reach * self.unit * SLACK + self.quantum", "lost = 0.0"),
    Mutant("RANGE.STRAY", RV, "stray = (self.stray + unit *", "stray = (self.stray + 0.0 *"),
    Mutant("RANGE.ERROR", RV, "self.error + unit * self._places(reach) + quantum", "self.error"),
    Mutant("RANGE.SQUARE", RD, "off * off / n * (1 - 2.0**-40)", "off * off / n * 1.001"),
    Mutant("RANGE.HEADS", RA, "form = layout.apart(form, heads, node.shape)", "pass"),
    Mutant(
        "RANGE.CHANCES",
        RV,
        "excess + (1 + excess) * self.unit + max(known.shape[-1], terms) * self.quantum",
        "0.0",
    ),
    Mutant(
        "RANGE.HULL",
        RR,
        "constant.min(axis=along, keepdims=True), constant.max(",
        "constant.max(axis=along, keepdims=True), constant.max(",
    ),
    Mutant(
        "RANGE.TURN",
        RT,
        "(reach * (1 + 4 * unit) + 4 * stray) * pairs * SLACK + 4 * quantum",
        "reach * pairs",
    ),
    Mutant("RANGE32.BOX", RD, "np.maximum(abs(low), abs(high)) if sphere", "0 * low if sphere"),
    Mutant(
        "RANGE32.SPHERE", RD, "(size + np.sqrt(power[0]) * (sphere.radius + sphere.stray))", "size"
    ),
    Mutant("RANGE32.BIAS", RD, "((abs(bias) + error) * SLACK)[None]", "(0 * bias)[None]"),
    Mutant("RANGE32.SCORES", RA, "most = (most + _summed(most, a.shape[-1])) * SLACK", "pass"),
    Mutant("RANGE32.MEANS", RA, "made.strayed(_summed(", "made.strayed(0 * _summed("),
    Mutant("RANGE32.CHANCES", RA, "excess=(share + terms * lost) * SLACK", "excess=0.0"),
    Mutant(
        "RANGE32.NORMAL",
        RR,
        "made.strayed((made.reach * share + number) * SLACK)",
        "made.strayed(0 * made.reach)",
    ),
    Mutant("RANGE32.NORMAL_BALL", RR, "float(share.max()) * (form.radius", "0.0 * (form.radius"),
    Mutant("RANGE32.NUMBER", RR, "replace(form, stray=stray).strayed(number)", "form"),
    Mutant("RANGE32.SCALE", RR, "off = (off + _most(noise, same)) * SLACK", "pass"),
    Mutant(
        "RANGE32.FUNCTION",
        RR,
        "made.strayed(op.stray(_one_box(x.lower, x.upper))[0]) if walk.executed else made",
        "made",
    ),
    Mutant("RANGE32.SUM", RR, "made = made.strayed(op.float32_charge(", "(op.float32_charge("),
    Mutant(
        "RANGE32.PRODUCT",
        RR,
        "made.strayed(op.float32_noise(",
        "made.strayed(0 * op.float32_noise(",
    ),
    Mutant("RANGE32.TURN", RT, "stray, unit, quantum = turn.stray,", "stray, unit, quantum = 0.0,"),
    Mutant("RANGE32.TURN_BALL", RT, "* turn.largest + 4 * stray", "* turn.largest"),
    Mutant("RANGE32.POISON", RR, "if not all(x.finite for x in inputs):", "if False:"),
    Mutant(
        "RANGE32.OVERFLOW",
        RR,
        "float32_range(found.lower, found.upper)",
        "found.lower, found.upper",
    ),
    Mutant("RANGE32.FORM", RV, "(self.error + noise.max(", "(self.error + 0 * noise.max("),
    Mutant("RANGE32.IMAGE", RV, "self.rounded(0.0, self._places(noise), noise)", "self"),
    Mutant(
        "COMPOSITE.REACH",
        "ops/composite.py",
        "    moved = steep * run * (1 + 2.0**-50) + TINY\n",
        "    moved = 0.5 * steep * run\n",
    ),
    Mutant(
        "COMPOSITE.BRANCHES",
        "ops/composite.py",
        "itertools.product((True, False), repeat=count)",
        "itertools.product((True,), repeat=count)",
    ),
    Mutant(
        "COMPOSITE.GAP",
        "ops/composite.py",
        "total = noise + np.where(count > 1, ceiling - floor, 0.0)",
        "total = noise",
    ),
    Mutant(
        "COMPOSITE.SLACK",
        "ops/composite.py",
        "    slack = np.where(room > 0,",
        "    slack = 0 * np.where(room > 0,",
    ),
    Mutant(
        "COMPOSITE.LEFT",
        "ops/composite.py",
        "np.minimum(np.minimum(right_part, left_part), 0.0)",
        "np.minimum(right_part, 0.0)",
    ),
    Mutant(
        "COMPOSITE.ROUNDING",
        "ops/composite.py",
        "mean - size * ROUNDING - TINY, -np.inf",
        "mean, -np.inf",
    ),
    Mutant(
        "COMPOSITE.PRODUCT",
        "ops/enclosures.py",
        "product * (op.scale_error * 1.001 + ROUNDING)",
        "product * (op.scale_error * 1.001)",
    ),
    Mutant(
        "COMPOSITE.NOISE",
        "ops/composite.py",
        "np.maximum(noise, value.noise), noise)",
        "noise, noise)",
    ),
)


Z = "csrc/simd/curves.inc"
Y = "csrc/simd/smooth.inc"
K, D, N = "csrc/simd/layers.inc", "csrc/simd/dense.inc", "csrc/simd/interval.inc"
HC = "csrc/simd/hinge.inc"
SETS = "csrc/simd/ellipsoid.inc"
REFINE, SPARSE = "csrc/simd/refine.inc", "csrc/simd/sparse.inc"
RISING = "csrc/simd/rising.inc"
# The same terms where the C library takes whole steps; these are compiled into the copy.
COMPILED = (
    Mutant("C.CENTRE", N, "(g * (size + fabs(offset)) + doubt", "(doubt"),
    Mutant("C.SPREAD", N, "spread[k] * grow + TINY;", "spread[k] + TINY;"),
    Mutant("C.UNDERFLOW", "csrc/simd/bounds.h", "#define TINY 0x1p-1000", "#define TINY 0.0"),
    Mutant("C.FUSED", K, "down = g * 1.01 * pay;", "down = 0.0 * pay;"),
    Mutant("C.FUSED_UPPER", K, "up = s * 1.01 * pay +", "up ="),
    Mutant("C.NARROWED", K, "narrow(radius, out, n, 1)", "narrow(radius, out, n, 0)"),
    Mutant("C.MADE_UP", K, "* factors[2] + factors[3];", "+ factors[3];"),
    Mutant("C.SUBNORMAL", K, "* factors[2] + factors[3];", "* factors[2];"),
    Mutant(
        "C.DEAD", K, "(reach[b * n + k] != 0) | (centre[at + k] != 0.0)", "reach[b * n + k] > 1"
    ),
    Mutant("C.SLOPE", K, "s * unit * radius : 0.0", "0.0 * unit * radius : 0.0"),
    Mutant("C.ROUNDING", K, "(up + more * 0x1p-50 +", "(up + more * 0.0 +"),
    Mutant(
        "C.SUM",
        K,
        "return factors[0] * (1.0 + 0x1p-20) + 0x1p-50",
        "return 0x1p-50 + 0.0 * factors[0]",
    ),
    Mutant("C.LOSS", K, "total += radius + pay;", "total += 0.0 * radius;"),
    Mutant(
        "C.INTERCEPT",
        K,
        "larger(-s * l, u - s * u) * (1.0 + 0x1p-40)",
        "0.999999999 * larger(-s * l, u - s * u)",
    ),
    Mutant("C.HINGE.ROUNDING", HC, "unit * radius * (1.0 + 0x1p-40)", "0.0 * radius"),
    Mutant("C.HINGE.MARGIN", HC, "base - 0x1p-49 * (fabs(base) + fabs(top))", "base"),
    Mutant("C.HINGE.FUSED", HC, "weight = 1.01 * pay + unit", "weight = unit"),
    Mutant("C.HINGE.LOSS", HC, "radius_of(low[j], high[j], centre[b * n + j]) +", ""),
    Mutant("C.HINGE.KEEP", HC, "keep ? (size_t)keep[k] : k", "k"),
    Mutant("D.CENTRE", RISING, "centre - noise * SLACK * SLACK", "centre - 0.0 * noise"),
    Mutant("D.STRIP", D, "twin[1].strip = strip;", "twin[1].strip = NULL;"),
    Mutant(
        "D.ONE.BELOW",
        Z,
        "below = line_with(job->f, 1.0, pieces[0], count, slope).intercept;",
        ";",
    ),
    Mutant(
        "D.ONE.ABOVE",
        Z,
        "above = -line_with(job->f, -1.0, pieces[1], count, -slope).intercept;",
        ";",
    ),
    Mutant(
        "D.PARALLEL",
        "csrc/simd/parallel.inc",
        "low[i] = high[i];\n            below[i] = other[n + i];",
        "low[i] = high[i];",
    ),
    Mutant("D.PRODUCT", D, "(layer->product * spread[k] + noise[k])", "(noise[k])"),
    Mutant(
        "D.DEAD",
        D,
        "height += smooth || above[k] > 0.0;",
        "height += smooth || below[k] > 0.0;",
    ),
    Mutant("D.KNOWN", D, "ends = facts + 2 * B * at + b * m", "ends = facts + 2 * B * at"),
    Mutant("D.SIGN", REFINE, "above < job->upper[k] ? above", "above > job->upper[k] ? above"),
    Mutant(
        "C.LINE.VALUE",
        Z,
        "f->value_error * fabs(p->value) + f->absolute_error + 0x1p-50",
        "f->absolute_error + 0x1p-50",
    ),
    Mutant(
        "C.LINE.ABSOLUTE",
        Z,
        "f->value_error * fabs(p->value) + f->absolute_error + 0x1p-50",
        "f->value_error * fabs(p->value) + 0x1p-50",
    ),
    Mutant(
        "C.TANGENT.SLOPE",
        Z,
        "(f->slope_error * fabs(p->slope) + f->slope_absolute) * fabs(run) +",
        "0.0 +",
    ),
    Mutant("C.IMAGE.CENTRE", K, "middle, groups * n, z, B * all", "middle, 0, z, B * all"),
    Mutant("C.IMAGE.GROUPS", K, "middle, groups * n, z, B * all", "middle, n, z, B * all"),
    Mutant("C.IMAGE.SIZE", "csrc/simd/convolve.inc", "DV_ABS(weight[v])", "weight[v]"),
    Mutant("C.SET.REACH", SETS, "out[j] * factor +", "out[j] +"),
    Mutant("C.SET.UNDERFLOW", SETS, "(moved ? extra : 0.0)", "0.0"),
    Mutant("C.SET.WEIGHTS", SETS, "            total += weight;", ""),
    Mutant("C.SET.INTERVAL", SETS, "matrix[j * d + j] += corner[j] * corner[j] / weight;", ""),
    Mutant("C.SET.ERROR", SETS, "2.0 * x->g * trace", "0.0 * trace"),
    Mutant("C.LIVE", "csrc/simd/gather.inc", "bits |= one;", "bits = one;"),
    Mutant("C.LIVE.LINES", "csrc/simd/gather.inc", "live |= bits << 1;", "live = bits << 1;"),
    Mutant("C.LIVE.FEW", "csrc/simd/gather.inc", "any |= x[i / SIDE][j];", "any = x[i / SIDE][j];"),
    Mutant("C.PART", "csrc/simd/gather.inc", "part = (int32_t)g->part", "part = out"),
    Mutant("C.PART.LINES", "csrc/simd/gather.inc", "? out - k : part;", "? out - k : out - k;"),
    Mutant("C.SHORTCUT.PARTS", "csrc/simd/shortcut.inc", "[i][v] += sum", "[i][v] = sum"),
    Mutant(
        "C.LANES.PARTS",
        "csrc/simd/lanes.inc",
        "total[t][e] += place_sum[t][e];",
        "total[t][e] = place_sum[t][e];",
    ),
    Mutant("C.LANES.SUM", "csrc/simd/lanes.inc", "start[0] == start[parts]", "1"),
    Mutant("C.REACH.SUMS", "csrc/simd/lanes.inc", "k < CHAINS; k++", "k < 1; k++"),
    Mutant(
        "C.REACH.BOX", "csrc/simd/lanes.inc", "if (reach->box[i] != reach->box[0])", "if (i == 0)"
    ),
    Mutant("C.REACH.REST", WALK, "s->N - paid, n)", "0, n)"),
    Mutant("C.LANES.HALF", "csrc/simd/lanes.inc", "2 * entries <=", "entries <="),
    Mutant(
        "CHAIN.SPARSE", "csrc/simd/chain.inc", "C[step->places[q]] += a", "C[step->places[q]] = a"
    ),
    Mutant("C.ADD.CENTRE", K, "isnan(size) ? size : most", "isnan(size) ? 0.0 : most"),
    Mutant("C.LINES.SLOPE", K, "0.0 : size * factors[1] * radius", "0.0 : 0.0 * radius"),
    Mutant("C.LINES.OWN", K, "0.0 : fabs(own - slope) * radius", "0.0 : 0.0 * radius"),
    Mutant("C.LINES.FUSED", K, "charge += size * 1.01 * pay;", "charge += 0.0 * pay;"),
    Mutant("C.LINES.ROUNDING", K, "(sizes * 0x1p-50 + (fabs", "(sizes * 0.0 + (fabs"),
    Mutant("C.LINES.LOSS", K, "mass += radius + pay;", "mass += 0.0 * radius;"),
    Mutant("C.RANGE.VALUE", Z, "high += f->value_error * fabs(high) +", "high +="),
    Mutant("C.RANGE.ABSOLUTE", Z, "fabs(low) + f->absolute_error +", "fabs(low) +"),
    Mutant("C.RANGE.EXTREME", Z, "low = extreme < low ? extreme : low;", ""),
    Mutant("SMOOTH.REST", Y, "(-t - k * LOG_2) - k * LOG_2_REST", "-t - k * LOG_2"),
    Mutant(
        "SMOOTH.TERMS", Y, "square * (0x1.a019adabfb6abp-13 + r * 0x1.a019c9ab213aap-16)", "0.0"
    ),
    Mutant("SMOOTH.SERIES", Y, "(c + fourth * d)", "c"),
    Mutant("SMOOTH.CANCEL", Y, "scale * p + (scale - 1.0)", "(scale + scale * p) - 1.0"),
    Mutant("SMOOTH.FALLEN", Y, "size = size < most ? size : most;", ""),
    Mutant("SMOOTH.FALLEN.PRODUCT", Y, "most_f64(x, -FALLEN) * low", "x * low"),
    Mutant("SMOOTH.VALUE", Y, "relative * fabs(low) + absolute", "absolute"),
    Mutant("SMOOTH.VALUE.ABOVE", Y, "relative * fabs(high) + absolute", "absolute"),
    Mutant("SMOOTH.ABSOLUTE", Y, "f->absolute_error + f->tiny", "0.0"),
    Mutant("SMOOTH.EXTREME", Y, "low = least_f64(most_f64(left, right), low);", ""),
    Mutant("SMOOTH.LOST", Y, "isunordered(known, u) ||", ""),
    Mutant(
        "PASS.CURVE",
        BESIDE,
        "image(node->curve, ends[0], ends[1], ends[2]",
        "image(node->curve, ends[1], ends[1], ends[2]",
    ),
    Mutant("PASS.CURVE.SUM", SINGLE, "node->reads[1] >= 0 && !node->curve", "node->reads[1] >= 0"),
    Mutant(
        "CHAIN.STRIP",
        "csrc/simd/chain.inc",
        "lost = strip + cost",
        "lost = cost",
    ),
    Mutant(
        "CHAIN.FOLLOW",
        "csrc/simd/chain.inc",
        "lost = strip + cost",
        "lost = strip",
    ),
    Mutant("CHAIN.TURN", "csrc/simd/chain.inc", "*opposite -= sizes * 0x1p-50 + TINY;", ""),
    Mutant("CHAIN.LOSS", "csrc/simd/chain.inc", "step->loss ? step->loss[box] : 0.0", "0.0"),
    Mutant("D.PLAIN", D, ".pay = charge", ".pay = NULL"),
    Mutant("D.PLAIN_LOSS", D, "layer->plain ? lost", "layer->plain ? 0.0"),
    Mutant("SPARSE.SUM", SPARSE, "sum[p] = before + a", "sum[p] = a"),
    Mutant("SPARSE.COST", SPARSE, "cost += fabs((double)row->value[e])", "cost += 0.0"),
    Mutant("SPARSE.STRIP", SPARSE, "strip += fabs((double)row->value[e])", "strip += 0.0"),
    Mutant("SPARSE.SIZE", SPARSE, "reach += fabs(w)", "reach += w"),
    Mutant("ABREAST.TOGETHER", "tensor/native/abreast.py", " & ~last[row])", " & False)"),
    Mutant("ABREAST.SIZE", ABREAST, "size = DV_ABS(w);", "size = w;"),
    Mutant("ABREAST.INPUT", ABREAST, " + fabs(c) * all->share;", ";"),
    Mutant("ABREAST.HINGE", ABREAST, "DV_FMA(twice, share, over - under)", "over - under"),
    Mutant("ABREAST.PLAIN", ABREAST, "DV_FMA(size, share, r)", "r"),
    Mutant("ABREAST.LOST", ABREAST, "sizes[v] += size;", ""),
    Mutant("ABREAST.OFFSET", PA, "factor * abs(offset) + TINY", "TINY"),
    Mutant("ABREAST.GROW", PA, "(1 + factor) * (1 + 2.0**-48),", "1.0,"),
    Mutant("ABREAST.UNDERFLOW", PA, " + TINY * (4 + size)", ""),
    Mutant("ABREAST.SLOTS", PA, "np.maximum.at(until, reader", "np.minimum.at(until, reader"),
    Mutant(
        "WALK.PAY",
        WALK,
        "GAMMA_JOIN ? met->join : met->pay",
        "GAMMA_JOIN ? met->join : NULL",
    ),
    Mutant(
        "WALK.JOIN",
        WALK,
        "GAMMA_JOIN ? met->join : met->pay",
        "GAMMA_JOIN ? NULL : met->pay",
    ),
    Mutant("WALK.LOSS", WALK, "s->d[k] -= met->loss[s->box[k]];", "s->d[k] -= 0.0;"),
    Mutant("WALK.PAY.LOSS", WALK, "s->d[k] -= met->pay_loss[s->box[k]];", "s->d[k] -= 0.0;"),
    Mutant("WALK.SETTLE", WALK, "d[k] -= fabs(d[k]) * 0x1p-50 + TINY;", "d[k] -= TINY;"),
    Mutant("WALK.STRIP", WALK, "FN(pay)(s, move, where, met->strip, s->opposite) : 0", "0 : 0"),
    Mutant("WALK.FOLLOW", WALK, "FN(opposed)(s, 1);", "(void)s;"),
    Mutant(
        "WALK.OPPOSED",
        WALK,
        "*o -= (fabs(*o) + fabs(s->d[k]) + fabs(s->before[k])) * 0x1p-50 + TINY;",
        "*o -= TINY;",
    ),
    Mutant("MEET.CHARGE", MEET, "factors[CHARGE_FACTOR] * spread[k] + noise[k]", "noise[k]"),
    Mutant("MEET.NOISE", MEET, "spread[k] + noise[k]) * SLACK", "spread[k]) * SLACK"),
    Mutant("MEET.FLUSH", MEET, "factors[CHARGE_FLUSH] * mass;", "0.0;"),
    Mutant("MEET.LOSS", MEET, "factors[CHARGE_LOSS] * mass + TINY", "TINY"),
    Mutant("MEET.CARRIED", MEET, "spread ? charge_loss(mass[b], factors) : 0.0", "0.0"),
    Mutant("MEET.STRIP", MEET, "height += apart * charge[k] * 1.01;", ""),
    Mutant("START.FUSED_LOSS", START, "(cost + charge_loss(mass[boxes[k]], factors))", "cost"),
    Mutant("START.FUSED_COST", START, "*e = -c - cost;", "*e = -c;"),
    Mutant("IMAGES.MEET", IMAGE_ROWS, "*upper = high < *upper ? high : *upper;", "*upper = high;"),
    Mutant("IMAGES.SIGNS_FOLLOW", IMAGE_ROWS, "far[k] += near[k] - d;", ""),
    Mutant(
        "IMAGES.SIGNS_ROUND",
        IMAGE_ROWS,
        "far[k] -= (fabs(far[k]) + fabs(near[k]) + fabs(d)) * 0x1p-50 + TINY;",
        "",
    ),
    Mutant("IMAGES.SIGNS_SETTLE", IMAGE_ROWS, "FN(settle)(near, N);", ""),
    Mutant(
        "IMAGES.SIGNS_STRIP",
        IMAGES,
        "met + (at - nodes), mass, 1, B",
        "met + (at - nodes), mass, 0, B",
    ),
    Mutant("IMAGES.SIGNS_REACH", IMAGES, "{first->join[0], 1.0}", "{1.0, 1.0}"),
    Mutant("IMAGES.CARRIED", IMAGES, "node->carries ? y.spread : NULL", "NULL"),
    Mutant(
        "IMAGES.CARRIED_FLAT",
        PI,
        "node.inputs, carries=carries",
        "node.inputs, carries=carries and len(node.shape) == 3",
    ),
    Mutant(
        "PASS.CENTRE",
        PASS,
        "from.largest[b], to.largest + b, (next",
        "0.0, to.largest + b, (next",
    ),
    Mutant(
        "ASCENT.BETA.CHARGE",
        ASCENT,
        "g->carried ? fabs((double)taken) * g->carried[place] * slack : 0.0",
        "0.0",
    ),
    Mutant(
        "ASCENT.BETA.ROUND",
        ASCENT,
        "cost += fabs((double)*a) * g->rounded",
        "cost += 0.0 * g->rounded",
    ),
    Mutant("ASCENT.BETA.SUM", ASCENT, "(total + fabs(*d)) * g->share * slack + TINY", "TINY"),
    Mutant("ASCENT.BETA.NEGATIVE", ASCENT, "c->beta[at] > 0.0 ? c->beta[at] : 0.0", "c->beta[at]"),
    Mutant(
        "ASCENT.BETA.SIGN",
        ASCENT,
        "(F)(beta * (double)c->sign[at])",
        "(F)(-beta * (double)c->sign[at])",
    ),
    Mutant(
        "ASCENT.BOX", ASCENT, "box ? (size_t)s->cases->box[s->row[k]] : 0", "box && s->row[k] > k"
    ),
    Mutant("ASCENT.ALIKE", ASCENT, "FN(box_of)(s, end) == box", "FN(box_of)(s, end) + 1 > 0"),
    Mutant(
        "ASCENT.JOIN",
        ASCENT,
        "FN(pay_for)(s, s->stages + below, s->stages[below].joined, NULL, home);",
        "",
    ),
    Mutant("ASCENT.PLANES", ASCENT, "s->d[k] -= g->loss[box];", ""),
    Mutant("ASCENT.PLANES.BOX", ASCENT, "A + k * g->back, box, s->d + k", "A, 0, s->d + k"),
    Mutant("C.PLANES.ENDS", "csrc/simd/dispatch.c", "- p->sums * ends[1]", "- 0.0 * ends[1]"),
    Mutant(
        "C.PLANES.SIDE", "csrc/simd/planes.inc", "(slope >= (F)0 ? low[g] : high[g]);", "low[g];"
    ),
    Mutant("ASCENT.PHASE", ASCENT, "after && active ? taken : (F)0", "active ? taken : (F)0"),
    Mutant("ASCENT.SIDE", ASCENT, "s->d[k] += added;", "s->d[k] += 0.0 * added;"),
    Mutant("ASCENT.PAY", ASCENT, "s->d[k] -= s->sum[k];", "s->d[k] -= 0.0;"),
    Mutant(
        "ASCENT.NAN",
        ASCENT,
        "isnan(s->d[k]) ? -INFINITY : s->d[k]",
        "isnan(s->d[k]) ? 1.0 : s->d[k]",
    ),
    Mutant("RISE.PAY", D, "g->pay = layer->plain ? charge : NULL;", "g->pay = NULL;"),
    Mutant("RISE.LOSS", D, "g[!layer->plain].loss = loss;", "g[1].loss = loss;"),
    Mutant("RISE.LINES", D, "sums, m, live, height);", "sums, m, NULL, height);"),
    Mutant("RISE.SIGN", RISING, "-r->best[i + 1] < upper[k]", "-r->best[i + 1] > upper[k]"),
    Mutant("RISE.ROWS", RISING, "live ? (size_t)live[i] : i, (F)1", "i, (F)1"),
    Mutant("RISE.PLACES", RISING, "where[live[j]] = (int32_t)j;", "where[live[j]] = 0;"),
    Mutant("RISE.ZEROS", RISING, "k = live ? (size_t)live[i] : i;", "k = i;"),
    Mutant("RISE.LIVE", RISING, "sign * row[live ? (size_t)live[j] : j]", "sign * row[j]"),
    Mutant("PASS.RADIUS", PASS, "p.spread[k] = one[1] + two[1]", "p.spread[k] = one[1]"),
    Mutant("PASS.BIAS", PASS, "finish(node->bias ? p->bias : NULL,", "finish(NULL,"),
    Mutant("SINGLE.LARGEST", PASS, "*own.largest = totals(own.lanes).c;", ""),
    Mutant("SINGLE.CHARGE", SINGLE, "PV_FMA(each + PV_SWAP(each),", "PV_FMA(each,"),
    Mutant("SINGLE.GROW", SINGLE, "PV_FMA(each + PV_SWAP(each),", "PV_FMA(PV_SWAP(each),"),
    Mutant("SINGLE.CHARGE.REST", SINGLE, "memcpy(pay, charge + k, count * sizeof *pay);", ""),
    Mutant("SINGLE.CHARGE.PART", SINGLE, "memcpy(part, charge, n * sizeof *charge)", "part"),
    Mutant("SINGLE.CHARGE.STORED", SINGLE, "with_charge(x, size, with->charge[v])", "x"),
    Mutant("SINGLE.ENDS", SINGLE, "PV_FMA(PV_ABS(PV_SWAP(x)), slack, x)", "x"),
    Mutant("SINGLE.RANGE", SINGLE, " && c + r <= 0x1p60", ""),
    Mutant("SINGLE.WIDENED.CENTRE", SINGLE, "(r + 0x1p-24 * fabs(c))", "r"),
    Mutant("SINGLE.WIDENED.REACH", SINGLE, "fabs(c)) * (1.0 + 0x1.1p-24)", "fabs(c))"),
    Mutant("SINGLE.OFFSET", PP, "abs(bias - near) + lost", "0 * bias + lost"),
    Mutant("SINGLE.LOST", PP, "abs(bias - near) + lost", "abs(bias - near)"),
    Mutant("SINGLE.BLOCK", PP, "own + after + 1", "after + 1"),
    Mutant("SINGLE.GROUP", PP, "own + after + 1", "own + 1"),
    Mutant("SINGLE.PRODUCT", PP, "own + after + 1", "own + after"),
    Mutant("SINGLE.HALVES", PP, "roundings_of(terms - half)]) + 1", "roundings_of(terms - half)])"),
    Mutant("SINGLE.ERROR", PP, "kept**4 * (1 - error)", "kept**4"),
    Mutant("SINGLE.KEPT", PP, "kept**4 * (1 - error)", "(1 - error)"),
    Mutant("SINGLE.ITSELF", PP, "- 1) / kept**2", "- 1)"),
    Mutant("SINGLE.CENTRE", PP, "(_CENTRE + error)", "error"),
    Mutant("SINGLE.CENTRE.KEPT", PP, "(whole * kept**2)", "whole"),
    Mutant("SINGLE.READING", PP, "np.maximum(found[x], roundings[column])", "roundings[column]"),
    Mutant("SINGLE.ANY", SINGLE, "(PV)(bits[v] | (PV_BITS)PV_LOAD(part))", "(PV)bits[v]"),
    Mutant(
        "SINGLE.ANY.STORED", SINGLE, "with->any[v] |= (PV_BITS)x;", "with->any[v] = (PV_BITS)x;"
    ),
    Mutant("SINGLE.LINES", PP, "(weight != 0)", "(weight > 0)"),
    Mutant("SINGLE.SKIPPED", SINGLE, "ends[0] == ends[half] ? half : 0;", "0;"),
    Mutant("SINGLE.ALIKE", BESIDE, "pairs[k] > most[k] ?", "b == 0 ?"),
    Mutant("SINGLE.SUMMED", PP, "1 if summed else 0", "0"),
    Mutant(
        "SINGLE.SUM",
        PASS,
        "in_turn((float)node->sign[1], 1.0F)",
        "in_turn((float)node->sign[1], 0.0F)",
    ),
    Mutant(
        "SINGLE.REOPENED", PASS, "widened(own.pairs + at, own.images + at, length_of(node));", ""
    ),
    Mutant("SINGLE.READERS", PP, "_reading(reader, node.shape), out=most", "most, out=most"),
)
# Copies that are as they were: the tests must pass on them.
UNCHANGED = (
    Mutant("", I, "_TINY = 2.0**-1000", "_TINY = 2.0**-1000"),
    Mutant("", N, "spread[k] * grow + TINY;", "spread[k] * grow + TINY;"),
)


def _copy_sources(work: Path) -> None:
    """What the build of the C library needs."""
    for name in ("csrc", "README.md", "LICENSE"):
        source, target = ROOT / name, work / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)


def noticed(mutant: Mutant) -> bool | None:
    """Whether the tests fail on the mutant; None when it does not apply."""
    if not mutant.applies():
        return None
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        ignored = shutil.ignore_patterns("__pycache__", "_simd*.so")
        shutil.copytree(ROOT / "gamma", work / "gamma", ignore=ignored)
        shutil.copytree(ROOT / "tests", work / "tests", ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", work)
        target = mutant.source(work)
        if mutant.called:
            _copy_sources(work)
        target.write_text(target.read_text().replace(mutant.old, mutant.new))
        if mutant.called:
            build = [sys.executable, "-c", "from setuptools import setup; setup()"]
            build += ["build_ext", "--inplace"]
            subprocess.run(build, cwd=work, check=True, capture_output=True)
        near = sorted({test for part, test in NEAR.items() if part in mutant.file}) or [TESTS[0]]
        rest = [test for test in TESTS if test not in near]
        return any(_fail(mutant, work, tests) for tests in (near, rest) if tests)


def _fail(mutant: Mutant, work: Path, tests: list[str]) -> bool:
    """Whether one of ``tests`` fails on the copy in ``work``."""
    environment = os.environ | {"PYTHONPATH": str(work)}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if not mutant.called:
        environment["GAMMA_ISA"] = "numpy"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += ["-k", "not numpy" if mutant.called else "not best", *tests]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    if mutant.called and done.returncode < 0:  # it wrote where it should not
        return True
    if done.returncode not in (0, 1, 5):  # 5: `-k` left none of them
        raise RuntimeError(f"{mutant.name}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


class Record:
    """What was found of mutants, a line of JSON each, in a file that a later run goes on with.

    A finding counts for the text it was made with: a mutant that reads otherwise is tried again.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.known: dict[str, bool] = dict(json.loads(line) for line in lines)

    def noticed(self, mutant: Mutant) -> bool | None:
        """As the function of that name, unless it is known."""
        key = hashlib.sha256(repr(mutant).encode()).hexdigest()[:16]
        found = self.known.get(f"{mutant.name} {key}")
        if found is None and (found := noticed(mutant)) is not None and self.path is not None:
            with self.path.open("a") as stream:
                stream.write(json.dumps([f"{mutant.name} {key}", found]) + "\n")
        return found


def _arguments(arguments: list[str]) -> tuple[list[Mutant], Record]:
    parser = argparse.ArgumentParser(
        description="Delete the terms of the error analysis one at a time; the tests must notice.",
        epilog="JOBS in the environment: mutants tried at once (2).",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants to try (default: all)")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="findings: those in it are not made again"
    )
    given = parser.parse_args(arguments)
    known = {m.name: m for m in (*MUTANTS, *COMPILED)}
    if unknown := sorted(set(given.names) - set(known)):
        parser.error(f"no mutant is named {', '.join(unknown)}")
    chosen = [m for m in known.values() if not given.names or m.name in given.names]
    return chosen, Record(given.record)


def main(arguments: list[str]) -> int:
    chosen, record = _arguments(arguments)
    words = {True: "noticed", False: "NOT NOTICED", None: "DOES NOT APPLY"}
    caught = 0
    with ThreadPoolExecutor(max_workers=int(os.environ.get("JOBS", "2"))) as pool:
        if any(pool.map(record.noticed, UNCHANGED)):
            print("the tests fail without any mutant")
            return 1
        for mutant, result in zip(chosen, pool.map(record.noticed, chosen), strict=True):
            print(f"{words[result]:16}{mutant.name:22}{mutant.file}", flush=True)
            caught += result is True
    print(f"{caught} of {len(chosen)} mutants noticed")
    return 0 if caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
