"""The kernels of an installed wheel, the rounding of this machine, and a bound."""

from __future__ import annotations

import sys

import numpy as np

from gamma.tensor import BoundedTensor, kernels, probe


def main() -> int:
    """Print the instruction set; 1 when the wheel came without kernels or rounds otherwise."""
    failed = probe.check_arithmetic()
    box = BoundedTensor.from_epsilon(np.ones((2, 3), np.float32), 0.1)
    inside = (box @ np.eye(3)).contains(np.ones((2, 3)))
    print(f"kernels: {kernels.isa}; arithmetic: {failed or 'ok'}; bounds: {inside}")
    return int(kernels.isa == "numpy" or bool(failed) or not inside)


if __name__ == "__main__":
    sys.exit(main())
