"""Tests against kernels that the compiler checks: addresses and undefined behaviour, or threads.

    python scripts/sanitize.py address tests/tensor tests/propagate
    python scripts/sanitize.py thread tests/propagate -k "(thread or share) and not forked"

The project is copied, its library compiled anew with GCC's sanitizer (some minutes), and pytest run
on the copy; the first error of memory or arithmetic ends the run, races fail it at its end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    "address": (["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
                ["libasan.so", "libubsan.so", "libstdc++.so"]),
    "thread": (["-fsanitize=thread", "-Wno-tsan"], ["libtsan.so"]),
}  # fmt: skip
PARTS = ("gamma", "csrc", "tests", "benches", "docs", "examples", "scripts", "pyproject.toml")
# Leaks are the interpreter's.
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def _library(name: str) -> str:
    found = subprocess.run(
        ["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True
    )
    return found.stdout.strip()


def main() -> int:
    """The exit status of the build or of the tests."""
    if len(sys.argv) < 3 or sys.argv[1] not in KINDS:
        print(__doc__)
        return 2
    flags, libraries = KINDS[sys.argv[1]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        for path in (folder / "gamma" / "tensor").glob("_simd*.so"):
            path.unlink()
        own = {"CC": "gcc", "CFLAGS": " ".join(["-g", *flags]), "LDFLAGS": flags[0]}
        own |= {"GAMMA_OPTIMISE": "1", "PYTHONPATH": str(folder)}
        build = "from setuptools import setup; setup()", "-q", "build_ext", "--inplace"
        made = subprocess.run(
            [sys.executable, "-c", *build], cwd=folder, env={**os.environ, **own}, check=False
        )
        if made.returncode or not any((folder / "gamma" / "tensor").glob("_simd*.so")):
            return made.returncode or 1
        preload = " ".join(map(_library, libraries))
        # NumPy's arrays come from malloc, which is watched.
        own |= {"LD_PRELOAD": preload, "GAMMA_DISABLE": "pool,kept_memory", **OPTIONS}
        tests = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*tests, *sys.argv[2:]], cwd=folder, env={**os.environ, **own}, check=False
        )
        return done.returncode


if __name__ == "__main__":
    sys.exit(main())
