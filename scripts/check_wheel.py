"""Test the wheel in a folder where nothing can be compiled, and put it into another.

    python scripts/check_wheel.py build/wheel dist

A fresh environment gets the wheel and its dependencies with CC=/bin/false; there the kernels have
to run, and the command has to prove and to refute. Where auditwheel is installed, it repairs the
wheel first (manylinux tag); else the wheel keeps the tag of this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "examples" / "digits"
ANSWERS = {"digit3_eps0.05": 0, "digit1_eps0.1": 3}
"""Properties of mlp.onnx, and the exit status of their verdicts."""


def main() -> int:
    """Exit status 0 when the wheel does what it has to."""
    built, target = (Path(argument).resolve() for argument in sys.argv[1:3])
    (wheel,) = built.glob("*.whl")
    assert "-cp311-abi3-" in wheel.name, f"{wheel.name}: expected a wheel of the stable ABI"
    target.mkdir(parents=True, exist_ok=True)
    if find_spec("auditwheel") and sys.platform == "linux":
        run(sys.executable, "-m", "auditwheel", "repair", "-w", str(target), str(wheel))
    else:
        shutil.copy(wheel, target)
        print("auditwheel is not installed: the wheel is for this machine's Linux and newer ones")
    (final,) = target.glob("*.whl")
    with tempfile.TemporaryDirectory() as folder:
        check(final, Path(folder))
    print(f"{final.name}: {final.stat().st_size / 1e6:.1f} MB, works without a compiler")
    return 0


def check(wheel: Path, folder: Path) -> None:
    """Install and use the wheel in a fresh environment."""
    run(sys.executable, "-m", "venv", str(folder / "env"))
    programs = folder / "env" / "bin"
    run(str(programs / "pip"), "install", "-q", "--only-binary", ":all:", str(wheel), cwd=folder)
    run(str(programs / "python"), str(ROOT / "scripts" / "check_kernels.py"), cwd=folder)
    for name, status in ANSWERS.items():
        model, prop = DIGITS / "mlp.onnx", DIGITS / "properties" / f"{name}.vnnlib"
        command = (str(programs / "gamma"), "verify", str(model), "--property", str(prop))
        run(*command, cwd=folder, status=status)


def run(*command: str, cwd: Path = ROOT, status: int = 0) -> None:
    """Run a command without a compiler; stop where it does not end as expected."""
    environment = {**os.environ, "CC": "/bin/false", "CXX": "/bin/false"}
    done = subprocess.run(command, cwd=cwd, env=environment, check=False)
    if done.returncode != status:
        sys.exit(f"{' '.join(command)}: status {done.returncode}, expected {status}")


if __name__ == "__main__":
    sys.exit(main())
