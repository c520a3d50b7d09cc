"""Names a person gives to activations, and the records they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gamma.errors import UsageError

# name -> (record in gamma.ops, its parameter or None). A parameter has no default here: frameworks
# disagree on them, and the network must be the file's network.
ACTIVATIONS: dict[str, tuple[str, str | None]] = {
    "relu": ("Relu", None),
    "leaky_relu": ("LeakyRelu", "alpha"),
    "elu": ("Elu", "alpha"),
    "tanh": ("Tanh", None),
    "sigmoid": ("Sigmoid", None),
    "softplus": ("Softplus", None),
    "gelu": ("Gelu", "approximate"),
    "silu": ("Silu", None),
    "hard_swish": ("HardSwish", None),
    "abs": ("Abs", None),
    "none": ("", None),
}
PARAMETERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "alpha": ("leaky_relu:0.01", float),
    "approximate": ("gelu:none or gelu:tanh", str),
}


def parse_activations(asked: str | Sequence[str], layers: int) -> list[str]:
    """One activation name per layer ("none" after the last unless it is given).

    Raises UsageError for an unknown name or a wrong count.
    """
    names = asked.split(",") if isinstance(asked, str) else list(asked)
    names = [name.strip().lower() for name in names]
    for name in names:
        activation_record(name)
    if len(names) == 1 and layers != 1:
        names = names * (layers - 1)
    if len(names) == layers - 1 or (layers == 1 and isinstance(asked, str) and len(names) == 1):
        names = [*names[: layers - 1], "none"]
    if len(names) != layers:
        raise UsageError(
            f"activation: {len(names)} names for {layers} layers; give one for all, "
            f"{layers - 1} (between layers) or {layers}"
        )
    return names


def activation_record(name: str) -> Any:
    """The record of ``name`` (``relu``, ``leaky_relu:0.01``), None for ``none``."""
    from gamma import ops

    kind, _, text = name.partition(":")
    if kind not in ACTIVATIONS:
        raise UsageError(f"activation {name!r}: expected one of {', '.join(ACTIVATIONS)}")
    record, parameter = ACTIVATIONS[kind]
    if parameter is None:
        if text:
            raise UsageError(f"activation {kind} takes no parameter, found {text!r}")
        return getattr(ops, record)() if record else None
    example, convert = PARAMETERS[parameter]
    try:
        value = convert(text)
        if not text or (parameter == "approximate" and text not in ("none", "tanh")):
            raise ValueError
        return getattr(ops, record)(**{parameter: value})
    except ValueError:
        raise UsageError(f"activation {name!r}: its parameter is needed, as in {example}") from None
