"""What the records of gamma are made of.

The methods of a dataclass are written as source and compiled when its module is imported: those of
a hundred records were a quarter of the work of a small question. A `msgspec.Struct` has them in C.
"""

from __future__ import annotations

from typing import dataclass_transform

from msgspec import Struct, field


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(field,))
class Frozen(Struct, frozen=True, eq=False, dict=True, weakref=True):
    """A frozen value with named fields, compared by identity unless a class says ``eq=True``.

    `functools.cached_property` works on it, and a copy, also of another process, holds the fields
    alone. Nothing but ``__post_init__`` sets a field (by `msgspec.structs.force_setattr`).
    """
