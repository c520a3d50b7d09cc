"""Builds gamma.tensor._simd: one compilation per instruction set, the cffi glue from api.h.

pyproject.toml names BuildExt as the build_ext command. Without a working C compiler the extension
is skipped with a warning and gamma runs on its NumPy fallback. Run as a script with ``--warnings``
it compiles every source with ``-Wall -Wextra -Werror`` and keeps nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path("csrc") / "simd"
# No flag may let the compiler change a rounding: kernels give the same bits on every set.
# GAMMA_OPTIMISE=0 builds seven times as fast what runs as slowly: for tests of the packaging.
OPTIMISE = f"-O{os.environ.get('GAMMA_OPTIMISE', '3')}"
FLAGS = [OPTIMISE, "-std=gnu11", "-fno-fast-math", "-ffp-contract=off", "-fno-math-errno"]
FLAGS += ["-fPIC", "-pthread"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
X86 = {"avx2.c": ["-mavx2", "-mfma", "-mf16c"], "avx512.c": [*AVX512, "-mfma", "-mf16c"]}
ARM = {"neon.c": []}
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi"]


def sources(machine: str) -> dict[str, list[str]]:
    """File name to extra flags, for the processor family ``machine``."""
    files: dict[str, list[str]] = {"dispatch.c": [], "scalar.c": [], "team.c": []}
    if machine.lower() in ("x86_64", "amd64"):
        files.update(X86)
    elif machine.lower() in ("aarch64", "arm64"):
        files.update(ARM)
    return files


def declarations() -> str:
    """What cffi has to know: api.h and what it includes, without preprocessor lines."""
    return "\n".join(line for line in _lines("api.h") if not line.startswith("#"))


def _lines(name: str) -> Iterator[str]:
    for line in (SOURCES / name).read_text().splitlines():
        yield from _lines(line.split('"')[1]) if line.startswith('#include "') else (line,)


def write_glue(path: Path) -> None:
    """Write the C source of the Python module."""
    from cffi import FFI

    ffi = FFI()
    ffi.cdef(declarations())
    ffi.set_source("gamma.tensor._simd", '#include "api.h"')
    path.parent.mkdir(parents=True, exist_ok=True)
    ffi.emit_c_code(str(path))


def check_warnings(compiler: str = "cc") -> int:
    """Compile every file for this machine with warnings as errors; the worst exit status."""
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, extra in sources(platform.machine()).items():
            target = os.path.join(folder, name + ".o")
            command = [compiler, *FLAGS, *WARNINGS, *extra, "-c", str(SOURCES / name), "-o", target]
            worst = max(worst, subprocess.run(command, check=False).returncode)
    return worst


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warnings", action="store_true", required=True)
    parser.add_argument("--compiler", default=os.environ.get("CC", "cc"))
    sys.exit(check_warnings(parser.parse_args().compiler))
else:
    from setuptools import Extension
    from setuptools.command.build_ext import build_ext
    from setuptools.errors import CompileError

    class BuildExt(build_ext):
        """build_ext with flags per file and generated glue."""

        def build_extension(self, ext: Extension) -> None:
            if self.compiler.compiler_type != "unix":
                raise CompileError("the kernels need GCC or Clang; using the NumPy fallback")
            glue = Path(self.build_temp) / "_simd.c"
            write_glue(glue)
            objects: list[str] = []
            for name, extra in sources(platform.machine()).items():
                objects += self.compiler.compile(
                    [str(SOURCES / name)],
                    output_dir=self.build_temp,
                    extra_postargs=[*FLAGS, *extra],
                    depends=[str(path) for path in sorted(SOURCES.iterdir())],
                )
            ext.sources = [str(glue)]
            ext.include_dirs = [*ext.include_dirs, str(SOURCES)]
            ext.extra_compile_args = FLAGS
            ext.extra_objects = objects
            ext.libraries = ["m"]
            ext.extra_link_args = [*ext.extra_link_args, "-pthread"]
            super().build_extension(ext)
