"""The tensors an architecture needs, found in a file under the file's own names.

Every tensor is used, or belongs to what the architecture leaves out by name, or is an error; so is
one that is missing or of another shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.errors import FormatError
from gamma.frozen import Frozen
from gamma.tensor.weights import Weight

Array = npt.NDArray[Any]


class Need(Frozen, eq=True):
    """One tensor: gamma's name, the file's, its shape there; ``optional`` ones may be absent.

    A size of 0 is any: of a table whose number of rows nothing else states. ``@`` at the start of
    the file's name stands for the file's prefix.
    """

    name: str
    file_name: str
    shape: tuple[int, ...]
    optional: bool = False


class Tensors(Frozen):
    """gamma's name -> weight source on the mapped file; checked by `match`.

    Attributes:
        needs: what is there, by gamma's name. left_out: the file's tensors that no network reads.
    """

    path: Path
    source: Mapping[str, Any]
    needs: dict[str, Need]
    left_out: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name in self.needs

    def weight(self, name: str) -> Weight:
        """The tensor as it is stored."""
        found: Weight = self.source[self.needs[name].file_name]
        return found

    def vector(self, name: str) -> Array:
        """A small tensor in float32 (float64 where it is stored so). FormatError when infinite."""
        return self.weight(name).array()

    def rows(self, name: str, indices: Sequence[int]) -> Array:
        """Some rows of a matrix, exact: (len(indices), columns)."""
        weight = self.weight(name)
        dtype = np.float64 if weight.kind == "f64" else np.float32
        found = np.empty((len(indices), weight.columns), dtype)
        for at, index in enumerate(indices):
            found[at] = weight.panel(index, index + 1, dtype)[0]
        return found


def _called(source: Mapping[str, Any], need: Need, prefix: str) -> str:
    """The name in the file; exports of old TensorFlow models call gains gamma and biases beta."""
    name = need.file_name.replace("@", prefix, 1)
    older = name.replace("LayerNorm.weight", "LayerNorm.gamma")
    older = older.replace("LayerNorm.bias", "LayerNorm.beta")
    return older if older in source else name


def match(
    path: Path,
    source: Mapping[str, Any],
    needs: Sequence[Need],
    left_out: re.Pattern[str],
    prefixes: Sequence[str] = ("",),
) -> Tensors:
    """The tensors of ``source``. Raises FormatError naming what is missing, left over or misshaped.

    Args:
        source: the file's names -> weights. left_out: names that belong to other parts of a model,
            after the prefix. prefixes: those that a file of this kind may have.
    """
    first = needs[0].file_name
    prefix = next((p for p in prefixes if first.replace("@", p, 1) in source), prefixes[0])
    needs = [replace(need, file_name=_called(source, need, prefix)) for need in needs]
    present = {need.name: need for need in needs if need.file_name in source}
    for need in needs:
        if need.name not in present and not need.optional:
            raise FormatError.at(
                path, need.file_name, f"is missing, expected a tensor of shape {need.shape}"
            )
    used = {need.file_name for need in present.values()}
    rest = [name for name in source if name not in used]
    idle = tuple(name for name in rest if left_out.fullmatch(name.removeprefix(prefix)))
    unknown = [name for name in rest if name not in set(idle)]
    if unknown:
        more = f" ({len(unknown)} such tensors)" if len(unknown) > 1 else ""
        raise FormatError.at(
            path, unknown[0], f"nothing in this architecture uses this tensor{more}"
        )
    for need in present.values():
        shape = source[need.file_name].shape
        if len(shape) != len(need.shape) or any(
            b not in (0, a) for a, b in zip(shape, need.shape, strict=True)
        ):
            raise FormatError.at(
                path, need.file_name, f"has shape {tuple(shape)}, its hyper-parameters {need.shape}"
            )
    return Tensors(path, source, present, idle)
