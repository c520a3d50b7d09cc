"""The kernel benches: every kernel has a case, and the checks of results hold and can fail."""

from __future__ import annotations

from typing import Any

import pytest

from benches.kernels import CASES
from gamma.tensor import kernels
from gamma.tensor.traced import NAMES

# Whole walks (benches/macro.py, branching.py and peer.py have them, method alpha's kernels, lines
# of smooth functions and interval steps of images among them), stored weights (benches/stored.py),
# the C library's own functions, and twins of a case.
ELSEWHERE = {"chain", "dense_network", "padded", "erf", "erfc", "step_down", "narrow_down"}
ELSEWHERE |= {
    "relax_own_rows",
    "own_lines",
    "ascend",
    "pass_planes",
    "plane_lines",
    "hinge_tables",
    "lines",
    "parallel_lines",
    "image",
}
ELSEWHERE |= {"convolution", "course", "sum_interval", "ascent", "met_tables", "starts"}
ELSEWHERE |= {
    "image_network",
    "reach",
    "layer_set",
    "strips_set",
    "balls",
    "outer",
    "swing",
    "groups",
    "normal_image",
    "normal_sets",
    "quotients",
}
ELSEWHERE |= {"decode_rows", "decode_rare", "stored_affine"}


def test_every_kernel_has_a_case() -> None:
    assert {name.split()[0] for name in CASES} == set(NAMES) - ELSEWHERE


@pytest.mark.parametrize("isa", kernels.available())
@pytest.mark.parametrize("name", CASES)
def test_results_are_checked(name: str, isa: str) -> None:
    case = CASES[name]
    if isa == "numpy" and not case.numpy:
        pytest.skip("only in the C library")
    with kernels.pinned(isa):
        for size in (4, 32, 2048):
            call, check = case.make(size)
            call()
            check()


@pytest.mark.skipif(len(kernels.available()) == 1, reason="no compiled library")
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_result_is_noticed(name: str, monkeypatch: Any) -> None:
    """A compiled kernel that sees another first argument gives another result."""
    native = kernels.backend.native
    entry = name.split()[0].removesuffix("_up")
    entry = {"f16": "f16_up", "interval_finish": "finish"}.get(entry, entry)
    kernel = getattr(native, entry)
    _, check = CASES[name].make(32)
    monkeypatch.setattr(native, entry, lambda x, *rest: kernel(x + x.dtype.type(1), *rest))
    with pytest.raises(AssertionError):
        check()
