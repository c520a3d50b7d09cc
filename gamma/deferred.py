"""Names of a package that are imported when they are first used: a small question needs few."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def homes(package: str, modules: Mapping[str, str]) -> dict[str, str]:
    """Name -> module that defines it, of ``modules``: a module of ``package`` -> its names."""
    return {n: f"{package}.{module}" for module, names in modules.items() for n in names.split()}


def names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of ``package``: ``homes`` has the module that defines a name."""

    def get(name: str) -> Any:
        if name not in homes:
            return _submodule(package, name)
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get


def _submodule(package: str, name: str) -> Any:
    """``package.name`` as a module; AttributeError where there is none."""
    path = f"{package}.{name}"
    try:
        if not name.startswith("_"):
            return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
