"""The wheel and the sdist are complete: built, installed and used outside the source tree."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK = """
import numpy as np
from gamma.tensor import BoundedTensor, kernels, probe
assert probe.check_arithmetic() == []
box = BoundedTensor.from_epsilon(np.ones((2, 3), np.float32), 0.1)
assert (box @ np.eye(3)).contains(np.ones((2, 3)))
import gamma
print(kernels.isa, gamma.__file__)
"""

pytestmark = pytest.mark.slow


def _run(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=None if env is None else {**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked tree, so that building leaves nothing in it."""
    if importlib.util.find_spec("setuptools") is None or importlib.util.find_spec("build") is None:
        pytest.skip("build and setuptools are not installed: pip install -e .[test]")
    target = tmp_path_factory.mktemp("source") / "tree"
    ignored = shutil.ignore_patterns(
        ".git",
        ".venv",
        ".*_cache",
        ".hypothesis",
        "__pycache__",
        "build",
        "dist",
        "*.egg-info",
        "*.so",
    )
    shutil.copytree(ROOT, target, ignore=ignored)
    return target


def _environment(folder: Path) -> Path:
    """Python of a fresh environment that sees this one's packages, but not gamma's source."""
    _run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    libraries = next(folder.glob("lib/python*/site-packages"))
    ours = [path for path in sys.path if path.endswith("site-packages")]
    # A plain path line makes packages importable without running the editable install's hook.
    (libraries / "outer.pth").write_text("\n".join(ours))
    return folder / "bin" / "python"


def _install(wheel: Path, folder: Path) -> Path:
    """A fresh environment with the wheel unpacked into it by pip."""
    python = _environment(folder)
    libraries = next(folder.glob("lib/python*/site-packages"))
    options = ("--no-deps", "--no-index", "--quiet", "--target", libraries)
    _run(sys.executable, "-m", "pip", "install", *options, wheel, cwd=folder)
    return python


def _used_isa(python: Path, cwd: Path) -> str:
    isa, home = _run(python, "-c", CHECK, cwd=cwd).split(maxsplit=1)
    assert str(ROOT) not in home, "the source tree was imported instead of the installed package"
    return isa


@pytest.fixture(scope="module")
def distributions(source: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel built from that sdist (not from the tree)."""
    quick = {"GAMMA_OPTIMISE": "0"}  # what the compiler is asked for, installations are tested with
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", cwd=source, env=quick)
    wheel, sdist = (next((source / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    return sdist, wheel


def test_wheel_is_abi3_and_works(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    wheel = distributions[1]
    assert wheel.name.startswith("gamma_verify-") and "-cp311-abi3-" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert {"gamma/py.typed", "gamma/schema.json"} <= {*names} and "gamma/tensor/_simd.pyi" in names
    assert any("LICENSE" in name for name in names)
    stray = [n for n in names if not n.startswith(("gamma/", "gamma_verify-"))]
    assert stray == []
    python = _install(wheel, tmp_path / "env")
    if shutil.which("cc"):
        assert "gamma/tensor/_simd.abi3.so" in names
        assert _used_isa(python, tmp_path) != "numpy"


def test_the_competition_installs_it(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    env = tmp_path / "env"
    _environment(env)
    here = {"GAMMA_ENV": str(env), "GAMMA_PACKAGE": str(distributions[1]), "PIP_NO_INDEX": "1"}
    said = _run("bash", ROOT / "scripts/vnncomp/install_tool.sh", "v1", cwd=tmp_path, env=here)
    assert "gamma" in said and (env / "bin/gamma").is_file()


def test_wheel_has_the_command(distributions: tuple[Path, Path]) -> None:
    archive = zipfile.ZipFile(distributions[1])
    entry = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert "gamma = gamma.cli.main:main" in archive.read(entry).decode()


def test_sdist_is_complete(distributions: tuple[Path, Path], source: Path) -> None:
    with tarfile.open(distributions[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    top = ("LICENSE", "README.md", "Makefile", "pyproject.toml", "CONTRIBUTING.md", "SECURITY.md")
    needed = {*top, "csrc/builder.py", "tests/conftest.py", "tests/tensor/compare_tables.c"}
    needed |= {f"csrc/simd/{path.name}" for path in (source / "csrc" / "simd").iterdir()}
    needed |= {str(p.relative_to(source)) for p in (source / "gamma").rglob("*.py")}
    assert needed - names == set()


def test_installs_without_a_compiler(source: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(source, tree, ignore=shutil.ignore_patterns("dist", "build", "*.egg-info"))
    missing = {"CC": str(tmp_path / "no-such-compiler"), "CXX": str(tmp_path / "no-such-compiler")}
    said = _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", cwd=tree, env=missing)
    assert "gamma.tensor._simd" in said and "failed" in said
    wheel = next((tree / "dist").glob("*.whl"))
    assert not any(name.endswith(".so") for name in zipfile.ZipFile(wheel).namelist())
    python = _install(wheel, tmp_path / "env")
    assert _used_isa(python, tmp_path) == "numpy"
