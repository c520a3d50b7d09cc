"""Deletes the terms of the error analysis one at a time; the tests must notice.

A copy of the package is changed in one place and the tests run against it: on NumPy kernels, where
every term lives in Python, and for the steps that the C library takes whole, compiled anew. `make
mutation` fails when a mutant is not noticed or no longer applies, and when the tests fail on an
unchanged copy. With `--record FILE` a run that was stopped goes on where it was.
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
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = (
    "tests/exact/test_terms.py",
    "tests/exact/test_interval_terms.py",
    "tests/exact/test_row_ends.py",
    "tests/exact/test_products.py",
    "tests/exact/test_composites.py",
    "tests/exact/test_softmax.py",
    "tests/exact/test_softmax_planes.py",
    "tests/exact/test_log_softmax.py",
    "tests/exact/test_normalization.py",
    "tests/exact/test_quotients.py",
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
    "tests/exact/test_ellipsoids.py",
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
    "tests/propagate/test_ascents_of_boxes.py",
    "tests/propagate/test_single_pass.py",
    "tests/propagate/test_single_sums.py",
    "tests/propagate/test_single_boxes.py",
    "tests/propagate/test_single_charges.py",
    "tests/tensor/test_smooth_kernels.py",
    "tests/tensor/test_set_kernels.py",
    "tests/tensor/test_normal_kernels.py",
)

# Part of a mutant's file -> the tests most likely to notice it, which run before all others.
NEAR = {
    "ops/affine_interval": "tests/exact/test_interval_terms.py",
    "ops/dense_interval": "tests/exact/test_interval_terms.py",
    "simd/interval": "tests/exact/test_interval_terms.py",
    "propagate/specification": "tests/exact/test_row_ends.py",
    "propagate/rows/start": "tests/exact/test_row_ends.py",
    "ops/softmax": "tests/exact/test_softmax.py",
    "ops/softmax.py": "tests/exact/test_softmax_planes.py",
    "ops/rank_one": "tests/exact/test_softmax_planes.py",
    "ops/simplex": "tests/exact/test_softmax_planes.py",
    "ops/log_softmax": "tests/exact/test_log_softmax.py",
    "ops/normal": "tests/exact/test_normalization.py",
    "ops/quotient": "tests/exact/test_quotients.py",
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
    "ops/ellipsoid": "tests/exact/test_ellipsoids.py",
    "ops/squares": "tests/exact/test_ellipsotopes.py",
    "propagate/ellips": "tests/exact/test_ellipsoids.py",
    "propagate/positions/apart": "tests/propagate/positions/test_apart.py",
    "propagate/few_bits": "tests/propagate/test_few_bits.py",
    "propagate/forward": "tests/exact/test_forward.py",
    "propagate/forms": "tests/exact/test_quotients.py",
    "propagate/memory": "tests/exact/test_stores.py",
    "propagate/ranges": "tests/exact/test_ranges.py",
    "propagate/ranges/": "tests/exact/test_range_executions.py",
    "tensor/fall": "tests/exact/test_quotients.py",
    "tensor/fallback": "tests/exact/test_ellipsoids.py",
    "tensor/eigen": "tests/exact/test_ranges.py",
    "propagate/rows/opposite": "tests/propagate/test_sides.py",
    "propagate/distance": "tests/verify/test_cosine.py",
    "verification/angles": "tests/verify/test_cosine.py",
    "verification/branching": "tests/verify/branching",
    "propagate/questions": "tests/verify/branching",
    "architectures": "tests/architectures/test_layers.py",
    "ops/convolution": "tests/tensor/test_window_kernels.py",
    "ops/relaxation": "tests/ops/test_relaxation.py",
    "ops/stored": "tests/ops/test_stored.py",
    "ops/margins": "tests/ops/test_margins.py",
    "simd/curves": "tests/ops/test_compiled_lines.py",
    "simd/parallel": "tests/propagate/test_parallel_lines.py",
    "simd/dense": "tests/propagate/test_dense_walk.py",
    "simd/rising": "tests/propagate/test_rising.py",
    "simd/refine": "tests/propagate/test_dense_walk.py",
    "simd/sparse": "tests/propagate/test_plain_layers.py",
    "simd/abreast": "tests/propagate/test_abreast.py",
    "propagate/abreast": "tests/propagate/test_abreast.py",
    "native/abreast": "tests/propagate/test_abreast.py",
    "simd/walk": "tests/propagate/test_course.py",
    "simd/ascent": "tests/propagate/test_ascents.py",
    "simd/ascent.inc": "tests/propagate/test_ascents_of_boxes.py",
    "simd/meet": "tests/propagate/test_course.py",
    "simd/start": "tests/propagate/test_course.py",
    "simd/images": "tests/propagate/test_image_walk.py",
    "propagate/images": "tests/propagate/test_image_walk.py",
    "simd/image_rows": "tests/propagate/test_image_walk.py",
    "simd/ellipsoid": "tests/tensor/test_set_kernels.py",
    "simd/linear_set": "tests/exact/test_ellipsotopes.py",
    "simd/normal": "tests/exact/test_normalization.py",
    "simd/normal_set": "tests/exact/test_ellipsotopes.py",
    "simd/planes": "tests/tensor/test_kernels.py",
    "simd/chain": "tests/propagate/test_sparse_rows.py",
    "simd/convolve": "tests/propagate/test_fused_images.py",
    "simd/gather": "tests/tensor/test_window_kernels.py",
    "simd/lanes": "tests/tensor/test_window_kernels.py",
    "simd/shortcut": "tests/tensor/test_window_kernels.py",
    "simd/in_double": "tests/propagate/test_passes.py",
    "simd/in_double.": "tests/propagate/test_one_box.py",
    "simd/passes": "tests/propagate/test_passes.py",
    "simd/passes.inc": "tests/propagate/test_single_pass.py",
    "simd/live": "tests/propagate/test_one_box.py",
    "simd/smooth": "tests/tensor/test_smooth_kernels.py",
    "simd/single": "tests/propagate/test_single_pass.py",
    "simd/single.inc": "tests/propagate/test_single_sums.py",
    "propagate/single": "tests/propagate/test_single_pass.py",
    "propagate/single.": "tests/propagate/test_single_charges.py",
    "propagate/single.py": "tests/propagate/test_single_boxes.py",
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
        return self.file.startswith("csrc/")

    @property
    def called(self) -> bool:
        """Whether the tests need the C library."""
        return self.file.startswith(CALLED)

    def applies(self) -> bool:
        """Whether the text is in the source, once."""
        return self.source(ROOT).read_text().count(self.old) == 1


# Beside the C library's own files those of which it alone does what the term charges.
CALLED = ("csrc/", "tensor/native/", "propagate/single", "propagate/images", "propagate/abreast")
CALLED += ("ops/convolution",)


def load() -> list[Mutant]:
    """The mutants of `mutants/*.toml`: a table for each source file (those of gamma without the
    package's name), in it the name of the term, the text, and what takes its place."""
    return [
        Mutant(name, file, *texts)
        for path in sorted((Path(__file__).parent / "mutants").glob("*.toml"))
        for file, terms in tomllib.loads(path.read_text()).items()
        for name, texts in terms.items()
    ]


# Copies that are as they were: the tests must pass on them.
UNCHANGED = (
    Mutant("", "ops/affine_interval.py", "_TINY = 2.0**-1000", "_TINY = 2.0**-1000"),
    Mutant("", "csrc/simd/interval.inc", "spread[k] * grow + TINY;", "spread[k] * grow + TINY;"),
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
    known = {m.name: m for m in load()}
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
