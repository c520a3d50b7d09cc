"""The methods a walk can be asked for, by what they do, and how they may be spelled."""

from __future__ import annotations

METHODS = ("ibp", "forward", "crown-ibp", "forward+crown", "crown", "alpha")
GUARANTEES = ("real", "float32")

# Methods that give inner neurons rows of their own.
REFINING = frozenset({"crown", "alpha"})

# Methods whose inner neurons are linear forms in the inputs that vary.
FORWARD = frozenset({"forward", "forward+crown"})

# Methods that hold the bounds of all nodes, or forms of them, in memory.
IN_MEMORY = frozenset({"alpha", *FORWARD})

_SPELLED = {
    "alpha-crown": "alpha",
    "α-crown": "alpha",
    "crown-optimized": "alpha",
    "forward+backward": "forward+crown",
}


def method_name(name: object) -> object:
    """A method as papers and other libraries spell it ("CROWN", "alpha-CROWN"), as gamma does."""
    if not isinstance(name, str) or name in METHODS:
        return name
    plain = name.strip().lower().replace("_", "-")
    return _SPELLED.get(plain, plain)


def dtype_name(dtype: object) -> object:
    """``np.float32`` or ``np.dtype("float32")`` as "float32"; a string is what it is."""
    if isinstance(dtype, str):
        return dtype
    return getattr(dtype, "name", None) or getattr(dtype, "__name__", dtype)
