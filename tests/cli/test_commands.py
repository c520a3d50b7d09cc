"""The real command line, run as a program: exit statuses, every option, what goes where."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gamma
from gamma import ops
from gamma.network.graph import Builder
from tests.cli.program import ENV, Done, alone, run
from tests.verify.known import dense


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear classifier y = (x0, x1, x0 + x1 - 2), an input, and properties about it."""
    path = tmp_path_factory.mktemp("cli")
    weight = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    gamma.save(dense((weight, [0.0, 0.0, -2.0])), path / "net.safetensors")
    np.save(path / "x.npy", np.array([1.0, 0.0], np.float32))
    declare = "".join(f"(declare-const X_{i} Real)\n" for i in range(2))
    declare += "".join(f"(declare-const Y_{i} Real)\n" for i in range(3))
    box = "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))\n" for i in range(2))
    (path / "safe.vnnlib").write_text(declare + box + "(assert (>= Y_0 1.5))")
    (path / "unsafe.vnnlib").write_text(declare + box + "(assert (>= Y_0 0.5))")
    # x0 >= 0.9 and x0 + x1 <= 0.8 is impossible, but neither half-space nor their mean says so.
    never = "(assert (and (>= (* 3.0 Y_0) 2.7) (<= Y_2 -1.2)))"
    (path / "open.vnnlib").write_text(declare + box + never)
    return path


def about(folder: Path, *args: object) -> tuple[object, ...]:
    return ("verify", folder / "net.safetensors", *args)


def ball(folder: Path, epsilon: object, *args: object) -> tuple[object, ...]:
    return about(folder, "--input", folder / "x.npy", "--epsilon", epsilon, *args)


def one_line(done: Done, status: int, *words: str) -> None:
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


# --- verdicts and exit statuses -------------------------------------------------------------------


def test_exit_statuses_of_the_verdicts(folder: Path) -> None:
    safe = alone(*about(folder, "--property", folder / "safe.vnnlib"))
    assert (safe.returncode, safe.stderr) == (0, "")
    assert safe.stdout.startswith("VERIFIED")
    unsafe = alone(*about(folder, "--property", folder / "unsafe.vnnlib"))
    assert unsafe.returncode == 3
    assert unsafe.stdout.startswith("VIOLATED")
    assert "replayed by" in unsafe.stdout
    unknown = run(
        *about(folder, "--property", folder / "open.vnnlib", "--no-attack", "--method", "crown")
    )
    assert unknown.returncode == 4
    assert unknown.stdout.startswith("UNKNOWN")
    late = run(*about(folder, "--property", folder / "open.vnnlib", "--timeout", "0.001"))
    assert late.returncode == 5
    assert late.stdout.startswith("TIMEOUT")


def test_radius_around_an_input(folder: Path) -> None:
    assert run(*ball(folder, 0.49, "--label", 0)).returncode == 0
    assert run(*ball(folder, 0.5, "--label", 0)).returncode == 3
    assert run(*ball(folder, 0.7071, "--norm", 2, "--label", 0)).returncode == 0
    assert run(*ball(folder, 0.99, "--norm", 1, "--label", 0)).returncode == 0
    assert run(*ball(folder, 1.01, "--norm", 1, "--label", 0)).returncode == 3
    # Class 0 keeps its lead when x1 is cut at 1/4: 0.7 > 0.25.
    assert run(*ball(folder, 0.3, "--label", 0, "--clip", 0, 0.25)).returncode == 2
    assert run(*ball(folder, 0.8, "--label", 0, "--clip", 0.3, 1)).returncode == 3
    assert run(*ball(folder, 0, "--label", 0)).returncode == 0
    assert run(*ball(folder, 0.8, "--label", 0, "--clip", "-1e-3", 1)).returncode == 3


def test_the_decimal_radius_is_exact(folder: Path) -> None:
    # x0 - x1 = 1 - 2ε: at ε = 1/2 a tie, which counts; a hair less is safe.
    assert run(*ball(folder, "0.49999999999", "--label", 0)).returncode == 0
    assert run(*ball(folder, "5e-1", "--label", 0)).returncode == 3


def test_nothing_to_prove_is_not_verified(folder: Path) -> None:
    for form in ((), ("--json",), ("--format", "vnncomp")):
        one_line(run(*ball(folder, 0.25, *form)), 2, "--label", "--property", "gamma bounds")
    asked = ("--input", folder / "x.npy", "--epsilon", 0.25, "--json")
    record = json.loads(run("bounds", folder / "net.safetensors", *asked).stdout)
    assert record["verdict"] == "none"
    bounds = record["bounds"]
    assert bounds["lower"][0] <= 0.75 and bounds["upper"][0] >= 1.25


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("dtype", ["auto", "float32", "float64"])
def test_method_guarantee_dtype(folder: Path, method: str, guarantee: str, dtype: str) -> None:
    options = ("--method", method, "--guarantee", guarantee, "--dtype", dtype, "--json")
    done = run(*about(folder, "--property", folder / "safe.vnnlib", *options))
    record = json.loads(done.stdout)
    assert record["verdict"] == "verified"
    assert record["guarantee"] == guarantee
    assert record["method"]["asked"] == method
    assert record["method"]["used"]


# --- output ---------------------------------------------------------------------------------------


def test_json_is_one_object_of_the_schema(folder: Path) -> None:
    for name, status in (("safe", 0), ("unsafe", 3)):
        done = run(*about(folder, "--property", folder / f"{name}.vnnlib", "--json", "--explain"))
        assert done.returncode == status
        record = json.loads(done.stdout)
        assert record["schema"] == "gamma.result/1"
        assert record["model"]["parameters"] == 9
        assert len(record["model"]["sha256"]) == 64
        assert len(record["property"]["sha256"]) == 64
        assert record["seconds"]["total"] >= record["seconds"]["load"]
        assert record["memory"]["peak_bytes"] > 0
        if name == "unsafe":
            assert record["counterexample"]["y"][0] >= 0.5


def test_output_file_is_written_and_stdout_stays_empty(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    out.write_text("old")
    done = run(*about(folder, "--property", folder / "safe.vnnlib", "--json", "-o", out))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads(out.read_text())["verdict"] == "verified"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_vnncomp_result_file(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.txt"

    def text(name: str, *options: object) -> str:
        prop = folder / f"{name}.vnnlib"
        run(*about(folder, "--property", prop, "-o", out, "--format", "vnncomp", *options))
        return out.read_text()

    assert text("safe") == "unsat\n"
    assert text("open", "--no-attack", "--method", "crown") == "unknown\n"
    assert text("open", "--timeout", "0.001") == "timeout\n"
    lines = text("unsafe").splitlines()
    assert lines[0] == "sat"
    witness = "\n".join(lines[1:])
    assert witness.startswith("((X_0 ") and witness.endswith("))")
    pairs = dict(re.findall(r"\((\w_\d) ([^)]+)\)", witness))
    assert list(pairs) == ["X_0", "X_1", "Y_0", "Y_1", "Y_2"]
    assert 0.5 <= float(pairs["X_0"]) <= 1
    assert float(np.float32(pairs["X_0"])) == float(pairs["X_0"])


def test_explain_shows_the_layers(folder: Path) -> None:
    done = run(*about(folder, "--property", folder / "safe.vnnlib", "--explain"))
    assert re.search(r"node +operator +shape", done.stdout)
    assert "Gemm" in done.stdout


def test_ascii_terminals_get_ascii(folder: Path) -> None:
    arguments = about(folder, "--property", folder / "safe.vnnlib")
    plain = run(*arguments, env={"PYTHONIOENCODING": "ascii"})
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.isascii()


def test_threads_and_seed(folder: Path) -> None:
    options = ("--threads", 1, "--json", "--seed")
    prop = folder / "unsafe.vnnlib"
    found = [
        json.loads(run(*about(folder, "--property", prop, *options, seed)).stdout)
        for seed in (1, 1)
    ]
    assert found[0]["counterexample"]["x"] == found[1]["counterexample"]["x"]
    assert found[0]["environment"]["threads"] == 1


# --- bounds, inspect, info, completion ------------------------------------------------------------


def test_bounds(folder: Path, tmp_path: Path) -> None:
    npz = tmp_path / "b.npz"
    options = ("--input", folder / "x.npy", "--epsilon", 0.25, "--all-layers")
    done = run("bounds", folder / "net.safetensors", *options, "--npz", npz)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("BOUNDS")
    assert "fc0" in done.stdout
    with np.load(npz, allow_pickle=False) as arrays:
        assert set(arrays) >= {"lower", "upper", "lower/fc0", "upper/fc0"}
        assert (arrays["lower"] <= [[0.75, -0.25, -1.5]]).all()
        assert (arrays["upper"] >= [[1.25, 0.25, -0.5]]).all()
        assert (arrays["upper"] - arrays["lower"] < 1.001).all()
    record = json.loads(run("bounds", folder / "net.safetensors", *options, "--json").stdout)
    assert record["verdict"] == "none"
    assert set(record["layers"]) == {"input", "fc0"}
    prop = folder / "safe.vnnlib"
    assert run("bounds", folder / "net.safetensors", "--property", prop).returncode == 0


def test_bounds_by_position(folder: Path, tmp_path: Path) -> None:
    build = Builder(ops.Input(), (6, 2))
    x = build.add(ops.Gemm(np.array([[1.0, 2.0], [0.0, -1.0]])), 0)
    gamma.save(build.build(build.add(ops.Relu(), x)), tmp_path / "rows.safetensors")
    np.save(tmp_path / "x.npy", np.ones((6, 2), np.float32))
    ask = ("bounds", tmp_path / "rows.safetensors", "--input", tmp_path / "x.npy")
    ask = (*ask, "--epsilon", 0.5, "--threads", 1)
    found = json.loads(run(*ask, "--positions", 0, "--json").stdout)
    assert found["notes"] == ["6 positions bounded apart: no node reads two positions"]
    lower, upper = np.array(found["bounds"]["lower"]), np.array(found["bounds"]["upper"])
    assert (lower <= [1.5, 0.0] * 6).all() and ([4.5, 0.0] * 6 <= upper).all()
    assert (upper - lower < 3.001).all()
    assert "2 positions, fewer than 4" in run(*ask, "--positions", -1).stdout
    one_line(run(*ask, "--positions", 2), 2, "axis 2", "-2..1")
    one_line(run(*ask, "--positions", 0, "--all-layers"), 2, "one of them")
    for command in ("ranges", "overflow"):  # only `gamma bounds` has axes
        one_line(run(command, *ask[1:], "--positions", 0), 2, "--positions belongs to language")


def test_inspect(folder: Path) -> None:
    done = run("inspect", folder / "net.safetensors")
    assert done.returncode == 0
    for word in ("fc0", "Gemm", "parameters", "9"):
        assert word in done.stdout
    record = json.loads(run("inspect", folder / "net.safetensors", "--json").stdout)
    assert record["input_shape"] == [2]
    assert record["output_shape"] == [3]
    assert record["layers"][1]["op"] == "Gemm"


def test_a_plain_state_dict_needs_its_activation(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    tensors = {
        "0.weight": np.array([[1.0], [-1.0]], np.float32),
        "0.bias": np.zeros(2, np.float32),
        "2.weight": np.array([[1.0, 1.0]], np.float32),
        "2.bias": np.zeros(1, np.float32),
    }
    path = tmp_path / "plain.safetensors"
    save_file(tensors, path)
    one_line(run("inspect", path), 2, "activation")
    done = run("inspect", path, "--activation", "relu", "--input-shape", "1")
    assert done.returncode == 0, done.stderr
    assert "Relu" in done.stdout


def test_info() -> None:
    done = run("info")
    assert done.returncode == 0, done.stderr
    for word in ("gamma", "BLAS", "numpy", "arithmetic"):
        assert word in done.stdout
    record = json.loads(run("info", "--json").stdout)
    assert record["isa"] in record["isa_available"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_completion(shell: str) -> None:
    pytest.importorskip("shtab")
    done = run("completion", shell)
    assert done.returncode == 0, done.stderr
    assert "epsilon" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from gamma.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: "
    code += "print('numpy' in sys.modules, 'onnx' in sys.modules, 'rich' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENV)
    assert done.stdout.splitlines()[-1] == "False False False"


def test_version_and_subcommand_help() -> None:
    assert re.match(r"\d+\.\d+|0\+source", run("--version").stdout)
    for command in ("verify", "bounds", "inspect", "info", "bench", "completion", "ranges"):
        assert run(command, "--help").returncode == 0
        assert command in run("--help").stdout


# --- errors ---------------------------------------------------------------------------------------


def test_usage_errors_are_one_line(folder: Path, tmp_path: Path) -> None:
    net, x, prop = folder / "net.safetensors", folder / "x.npy", folder / "safe.vnnlib"
    one_line(run(), 2, "no command")
    one_line(run("prove"), 2, "prove")
    one_line(run("verify"), 2, "MODEL")
    one_line(run("verify", net), 2, "--property", "--input")
    one_line(run("verify", net, "--input", x), 2, "--epsilon")
    one_line(run("verify", net, "--input", x, "--property", prop), 2, "exclude")
    one_line(run("verify", net, "--property", prop, "--label", 0), 2, "--label")
    one_line(run("verify", net, "--property", prop, "--epsilon", 1), 2, "--epsilon")
    one_line(run(*ball(folder, -1)), 2, "epsilon")
    one_line(run(*ball(folder, "1e999999999")), 2, "epsilon")
    one_line(run(*ball(folder, "1e-999999999")), 2, "epsilon")
    one_line(run(*ball(folder, "nan")), 2, "epsilon")
    one_line(run(*ball(folder, 0.1, "--label", 3)), 2, "label 3")
    one_line(run(*ball(folder, 0.1, "--method", "magic")), 2, "magic")
    one_line(run(*ball(folder, 0.1, "--timeout", 0)), 2, "timeout")
    one_line(run(*ball(folder, 0.1, "--threads", 0)), 2, "threads")
    one_line(run(*ball(folder, 0.1, *("--label", 0), "--clip", 1, 0)), 2, "--clip")
    label = ("--label", 0)
    one_line(run(*ball(folder, 0.1, *label, "--json", "--format", "vnncomp")), 2, "contradict")
    one_line(run(*ball(folder, 0.1, *label, "-o", tmp_path / "no" / "f")), 2, "folder")
    one_line(run(*ball(folder, 0.1, "--input-shape", "1,x")), 2, "1,x")


def test_unreadable_files_are_one_line(folder: Path, tmp_path: Path) -> None:
    one_line(run("verify", tmp_path / "absent.onnx", "--property", "p"), 2, "absent.onnx")
    one_line(run(*about(folder, "--property", tmp_path / "absent.vnnlib")), 2, "absent.vnnlib")
    absent = ("--input", tmp_path / "absent.npy", "--epsilon", 1, "--label", 0)
    one_line(run(*about(folder, *absent)), 2, "absent.npy", "numpy.save")
    pickle = tmp_path / "net.pt"
    pickle.write_bytes(b"\x80\x04\x95\x00\x00")
    one_line(run("inspect", pickle), 2, "pickle")


def hostile_arrays(path: Path) -> dict[str, bytes]:
    np.save(path / "ok.npy", np.zeros(2))
    good = (path / "ok.npy").read_bytes()
    head = b"\x93NUMPY\x01\x00"

    def array(header: str, data: bytes = b"") -> bytes:
        return head + len(header).to_bytes(2, "little") + header.encode() + data

    np.save(path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    return {
        "empty": b"",
        "text": b"hello",
        "truncated": good[:-3],
        "longer": good + b"\0",
        "objects": (path / "object.npy").read_bytes(),
        "huge": array("{'descr': '<f8', 'fortran_order': False, 'shape': (2305843009213693952,)}"),
        "minus": array("{'descr': '<f8', 'fortran_order': False, 'shape': (-2, -1), }", b"\0" * 16),
        "code": array("{'descr': '<f8', 'fortran_order': False, 'shape': (__import__('os'),), }"),
        "deep": array("(" * 9000),
        "nan": array(
            "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }",
            np.array([0.0, np.nan]).tobytes(),
        ),
        "complex": array("{'descr': '<c16', 'fortran_order': False, 'shape': (1,), }", b"\0" * 16),
        "three": array("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", b"\0" * 24),
    }


def test_hostile_arrays_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    for name, content in hostile_arrays(tmp_path).items():
        path = tmp_path / f"{name}.npy"
        path.write_bytes(content)
        done = run(*about(folder, "--input", path, "--epsilon", 0.1, "--label", 0))
        one_line(done, 2, f"{name}.npy")


def test_debugging_shows_the_traceback(folder: Path) -> None:
    done = run("inspect", folder / "absent.onnx", env={"GAMMA_DEBUG": "1"})
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_internal_errors_are_one_line_with_status_1(folder: Path) -> None:
    code = (
        "import sys, gamma.cli.inspect as i\n"
        "def broken(args): raise ZeroDivisionError('oops')\n"
        "i.run = broken\n"
        "from gamma.cli.main import main\n"
        f"sys.exit(main(['inspect', {str(folder / 'net.safetensors')!r}]))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENV)
    one_line(done, 1, "ZeroDivisionError", "report")


def test_a_closed_pipe_is_quiet(folder: Path) -> None:
    command = f"{sys.executable} -m gamma inspect {folder / 'net.safetensors'} --json | head -c 1"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False, env=ENV
    )
    assert done.stderr == ""


def test_interruption(folder: Path) -> None:
    """Ctrl-C while it works, which the line of progress tells: the answer so far."""
    arguments = [*about(folder, "--property", folder / "open.vnnlib", "--timeout", 60)]
    arguments += ["--method", "crown"]  # leaves the rest of the time to attacks
    terminal, other_end = os.openpty()
    command = [sys.executable, "-m", "gamma", *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=other_end, text=True, env=ENV,
        # A shell starts what runs in the background with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as child:  # fmt: skip
        seen = b""
        while b"attack" not in seen:
            assert select.select([terminal], [], [], 60)[0], "no progress on the terminal"
            seen += os.read(terminal, 1000)
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=20)
    os.close(terminal)
    os.close(other_end)
    assert child.returncode == 130
    assert out.startswith("INTERRUPTED") and "0 of 1 unsafe sets excluded" in out
