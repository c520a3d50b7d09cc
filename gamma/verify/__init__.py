"""Verdicts about properties. The package itself can be called: ``gamma.verify(net, prop)``."""

from __future__ import annotations

import sys
import types
from typing import Any

__all__ = ["Counterexample", "Margin", "Result", "verify"]


def __getattr__(name: str) -> Any:
    if name in ("Counterexample", "Margin", "Result"):
        from gamma.verify import result

        return getattr(result, name)
    if name == "verify":
        from gamma.verify.verdict import verify

        return verify
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Callable(types.ModuleType):
    """``gamma.verify`` is the layer's package and, for its users, the function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from gamma.verify.verdict import verify

        return verify(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
