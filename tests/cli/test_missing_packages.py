"""A package that is missing is one polite line: for what it is, and how to install it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gamma.cli.main import main
from gamma.errors import UsageError
from gamma.tensor import fallback

DIGITS = Path(__file__).resolve().parents[2] / "examples/digits"
MODEL, INSTANCES = str(DIGITS / "mlp.onnx"), str(DIGITS / "instances.csv")
PROPERTY = str(DIGITS / "properties/digit3_eps0.05.vnnlib")
CASES = {
    "rich": ("profile", ["verify", MODEL, "--property", PROPERTY, "--profile"]),
    "shtab": ("completion", ["completion", "bash"]),
    "matplotlib": ("plot", ["suite", INSTANCES, "--plot", "x.svg"]),
    "vnnlib": ("vnnlib", ["verify", MODEL, "--property", "second.vnnlib"]),
}


@pytest.mark.parametrize("package", CASES)
def test_a_missing_package_is_status_2_and_says_what_to_install(
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    extra, command = CASES[package]
    monkeypatch.chdir(tmp_path)
    Path("second.vnnlib").write_text(
        "(vnnlib-version <2.0>)(declare-network N (declare-input X real [1, 1, 8, 8])"
        "(declare-output Y real [1, 10]))(assert (<= X[0,0,0,0] 1.0))"
    )
    names = [name for name in sys.modules if name.split(".")[0] == package]
    for name in {*names, package, "rich.console", "rich.tree"}:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("gamma.cli.suite_files.find_spec", lambda name: None)
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert f"needs the package {package}: pip install 'gamma-verify[{extra}]'" in err


def test_quantised_weights_without_kernels_need_gguf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf.constants", None)
    with pytest.raises(UsageError, match=r"gamma-verify\[gguf\]"):
        fallback.dequantise("q8_0", None)  # type: ignore[arg-type]
