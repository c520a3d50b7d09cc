"""Hostile property files: one line each, within 2 seconds and 500 MB, in a process of its own."""

from __future__ import annotations

import gzip
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

resource = pytest.importorskip("resource")

MILLION = 10**6
NAMES = "(declare-const X_0 Real)(declare-const Y_0 Real)"
BOX = NAMES + "(assert (<= X_0 1))(assert (>= X_0 0))"
TWO = "(vnnlib-version <2.0>)(declare-network n (declare-input X Real [{}])"
TWO += "(declare-output Y Real [1]))(assert (<= X[0] 0.1))(assert (>= X[0] 0.0))"


def either(i: int) -> str:
    return f"(or (<= Y_0 {i}) (>= Y_0 {i + 2000}))"


HOSTILE = {
    "depth": lambda: "(" * MILLION,
    "depth_and": lambda: BOX + "(assert " + "(and " * MILLION + "(<= Y_0 1)" + ")" * MILLION + ")",
    "depth_term": lambda: BOX + "(assert (<= " + "(- " * MILLION + "Y_0" + ")" * MILLION + " 1))",
    "closing": lambda: ")" * MILLION,
    "exponent": lambda: BOX + "(assert (<= Y_0 1e999999999))",
    "exponent_down": lambda: BOX + "(assert (<= Y_0 1e-999999999))",
    "exponent_digits": lambda: BOX + f"(assert (<= Y_0 1e{'9' * MILLION}))",
    "digits": lambda: BOX + f"(assert (<= Y_0 {'9' * 10 * MILLION}))",
    "power": lambda: BOX + f"(assert (<= (* {'1e2000 ' * 20000} Y_0) 1))",
    "index": lambda: "(declare-const X_9999999999999999 Real)(declare-const Y_0 Real)",
    "product": lambda: BOX + "".join(f"(assert {either(i)})" for i in range(1000)),
    "product_nested": lambda: BOX + f"(assert (and {''.join(map(either, range(1000)))}))",
    "product_again": lambda: BOX + f"(assert (and {''.join(either(i % 3) for i in range(900))}))",
    "or_900000": lambda: BOX + f"(assert (or {'(<= Y_0 1)' * 900_000}))",
    "nested_or": lambda: (
        BOX + "(assert " + "(or (<= Y_0 1)" * 999 + f"{'(<= Y_0 1)' * 50000}" + ")" * 1000
    ),
    "irregular": lambda: (
        "".join(f"(declare-const X_{i} Real)" for i in range(20000)) + "(declare-const X_7 Real)"
    ),
    "many": lambda: BOX + f"(assert (or {'(<= Y_0 1)' * 2 * MILLION}))",
    "zeros": lambda: "\0" * 10 * MILLION,
    "one_word": lambda: "x" * 10 * MILLION,
    "truncated": lambda: BOX + "(assert (<= Y_0",
    "pickle": lambda: b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00".decode("latin-1") * 1000,
    "two_depth": lambda: TWO.format(1) + "(assert " + "(and " * MILLION + "(<= Y[0] 0.1)",
    "two_quoted_depth": lambda: TWO.format(1) + '(assert ";' + "(and " * MILLION + "\n",
    "two_shape": lambda: TWO.format(2**62) + "(assert (<= Y[0] 0.1))",
    "two_wide_shape": lambda: TWO.format(2**31 - 1) + "(assert (<= Y[0] 0.1))",
    "two_digits": lambda: TWO.format(1) + f"(assert (<= Y[0] {'9' * MILLION}))",
    "two_many": lambda: TWO.format(1) + f"(assert (or {'(<= Y[0] 0.5)' * 2 * MILLION}))",
    "two_indices": lambda: TWO.format(",".join(["2"] * 100000)) + "(assert (<= Y[0] 0.1))",
}

ANSWERED = {"product_again"}

CHILD = textwrap.dedent(
    """
    import resource, sys, time
    from gamma.errors import GammaError
    from gamma.formats.vnnlib import read_vnnlib
    start = time.process_time()
    try:
        read_vnnlib(sys.argv[1])
    except GammaError as error:
        print(error)
    else:
        print("READ")
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == 'darwin' else 1024
    if sys.platform == "linux":  # ru_maxrss counts what the parent held when it forked
        lines = open("/proc/self/status").read().splitlines()
        peak = next(1024 * int(l.split()[1]) for l in lines if l.startswith("VmHWM"))
    print(f"{seconds} {peak}")
    """
)


@pytest.mark.parametrize("name", [*HOSTILE, "bomb"])
def test_hostile_file(tmp_path: Path, name):
    path = tmp_path / "hostile.vnnlib"
    if name == "bomb":
        path.write_bytes(gzip.compress(b"(" * (100 << 20), compresslevel=1))
    else:
        path.write_text(HOSTILE[name](), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr[-500:]
    message, figures = run.stdout.splitlines()
    seconds, peak = (float(word) for word in figures.split())
    if message == "READ":
        assert name in ANSWERED
    else:
        assert message.startswith(str(path)) and name not in ANSWERED
    assert len(message) < 400 + len(str(path))
    assert message.isprintable()
    assert seconds < 2
    assert peak < 500e6
