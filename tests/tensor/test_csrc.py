"""The C sources as C programs: every table against the scalar one, on this processor and on ARM;
the threads that share a call."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from gamma.tensor import kernels

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SIMD = ROOT / "csrc" / "simd"
CROSS = "aarch64-linux-gnu-gcc"
QEMU = ("qemu-aarch64-static", "qemu-aarch64")


def _builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("csrc_builder", ROOT / "csrc" / "builder.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


builder = _builder()


_objects: dict[tuple[str, str], list[str]] = {}


def _compiled(compiler: str, machine: str, folder: Path) -> list[str]:
    """Objects of every source for ``machine``, made once, with the extension's flags."""
    if (compiler, machine) not in _objects:
        made = []
        for name, own in builder.sources(machine).items():
            made.append(str(folder / f"{name}.o"))
            subprocess.run(
                [compiler, *_flags(), *own, "-c", str(SIMD / name), "-o", made[-1]], check=True
            )
        _objects[compiler, machine] = made
    return _objects[compiler, machine]


def _flags() -> list[str]:
    return [*builder.FLAGS, *builder.WARNINGS, f"-I{SIMD}"]


def _compile(
    compiler: str, machine: str, main: str, target: Path, *extra: str, static: bool = False
) -> None:
    """Build ``main`` with every source for ``machine``, with the flags of the shipped extension."""
    objects = _compiled(compiler, machine, target.parent)
    link = [*(["-static"] if static else []), str(HERE / main), *objects, "-lm", "-o", str(target)]
    subprocess.run([compiler, *_flags(), *extra, *link], check=True)


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        pytest.skip("no C compiler")
    return found


@pytest.fixture(scope="module")
def emulator() -> str:
    found = next((path for name in QEMU if (path := shutil.which(name))), None)
    if found is None or shutil.which(CROSS) is None:
        pytest.skip("no ARM cross compiler and emulator: run scripts/install-test-tools.sh")
    return found


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


NATIVE = [name for name in kernels.available() if name not in ("numpy", "scalar")]


@pytest.mark.parametrize("isa", NATIVE)
def test_table_equals_scalar(isa: str, compiler: str, tmp_path: Path) -> None:
    target = tmp_path / "compare"
    _compile(compiler, platform.machine(), "compare_tables.c", target, f"-DOTHER=gamma_{isa}")
    assert f"{isa} against scalar: 0 differences" in _run(str(target))


def test_neon_equals_scalar(emulator: str, tmp_path: Path) -> None:
    target = tmp_path / "compare"
    _compile(CROSS, "aarch64", "compare_tables.c", target, "-DOTHER=gamma_neon", static=True)
    assert "neon against scalar: 0 differences" in _run(emulator, str(target))


def test_control_word_is_guarded(compiler: str, tmp_path: Path) -> None:
    target = tmp_path / "mode"
    _compile(compiler, platform.machine(), "check_mode.c", target)
    assert "scalar" in _run(str(target))


def test_control_word_is_guarded_on_arm(emulator: str, tmp_path: Path) -> None:
    target = tmp_path / "mode"
    _compile(CROSS, "aarch64", "check_mode.c", target, static=True)
    assert _run(emulator, str(target)).split() == ["neon", "scalar"]


def test_flags_leave_rounding_alone() -> None:
    flags = [*builder.FLAGS, *(flag for own in builder.sources("x86_64").values() for flag in own)]
    assert "-ffp-contract=off" in flags
    assert not {"-ffast-math", "-Ofast", "-funsafe-math-optimizations"} & set(flags)
    text = "".join(path.read_text() for path in SIMD.iterdir())
    assert "#pragma GCC optimize" not in text and "fast-math" not in text


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "thread sanitizer"])
def test_every_part_is_done_once(checked: bool, compiler: str, tmp_path: Path) -> None:
    options = ["-fsanitize=thread", "-g", "-O1", "-Wno-tsan"] if checked else []
    command = [compiler, *_flags(), *options, str(HERE / "check_team.c"), str(SIMD / "team.c")]
    made = subprocess.run(
        [*command, "-lm", "-o", str(tmp_path / "team")], capture_output=True, check=False
    )
    if checked and made.returncode:
        pytest.skip("the compiler has no thread sanitizer")
    assert not made.returncode, made.stderr
    environment = {"TSAN_OPTIONS": "die_after_fork=0"}
    done = subprocess.run(
        [str(tmp_path / "team")], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.stdout == "child 0\n" and not done.stderr
