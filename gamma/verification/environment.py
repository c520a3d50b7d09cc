"""What a result was computed with: versions, instruction set, BLAS, threads, memory."""

from __future__ import annotations

import os
import platform
import sys
from importlib.util import find_spec
from typing import Any

from gamma import __version__

OPTIONAL = ("onnx", "onnxruntime", "safetensors", "gguf", "vnnlib", "rich", "matplotlib", "shtab")


def blas() -> tuple[str, int]:
    """The BLAS NumPy uses and its threads, ("unknown", 1) when it cannot be asked."""
    import numpy  # noqa: F401  (loads the BLAS that is asked about)

    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown", 1
    for pool in threadpool_info():
        if pool.get("user_api") == "blas":
            name = f"{pool['internal_api']} {pool.get('version') or ''}".strip()
            kernel = pool.get("architecture")
            return (f"{name} ({kernel})" if kernel else name), int(pool["num_threads"])
    return "unknown", 1


def environment(limit: int | None = None) -> dict[str, Any]:
    """The JSON contract's ``environment`` object; ``limit``: of the BLAS's threads back then."""
    from gamma.tensor import kernels

    name, threads = blas()
    threads = threads if limit is None else min(threads, limit)
    return {"gamma": __version__, "isa": kernels.isa, "blas": name, "threads": threads}


def peak_bytes() -> int | None:
    """Largest resident memory of this process so far, None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def details() -> dict[str, Any]:
    """Everything ``gamma info`` prints: the head of a bug report."""
    import numpy

    from gamma.runtime import choices
    from gamma.tensor import kernels
    from gamma.tensor.probe import check_arithmetic

    failed = check_arithmetic()
    return {
        **environment(),
        "kernels": "NumPy fallback (slow: no compiled library)"
        if kernels.isa == "numpy"
        else "compiled",
        "isa_available": list(kernels.available()),
        "choices": "tuned for this machine" if choices.tuned() else "defaults",
        "arithmetic": "ok" if not failed else "failed: " + ", ".join(failed),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count() or 1,
        "optional": {name: _version(name) for name in OPTIONAL},
    }


def _version(name: str) -> str | None:
    if find_spec(name) is None:
        return None
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "installed"
