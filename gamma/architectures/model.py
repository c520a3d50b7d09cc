"""A model file opened: its architecture, its weights where they are stored, and the networks in it.

A network belongs to a number of positions; its input is the prompt's token embeddings (or a
spectrogram, or the state before some block), so that a set of inputs is a set around these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.architectures.layers import Layers
from gamma.architectures.registry import Architecture, Transformer
from gamma.architectures.settings import Settings
from gamma.architectures.tensors import Tensors
from gamma.errors import UsageError
from gamma.frozen import Frozen
from gamma.network.graph import Builder, Network, Node, Source
from gamma.ops import Gemm, Input, ReduceMax, Reshape, StoredGemm, StoredMargins
from gamma.tensor.exactly import exact_integer

TIE = 2.0**-30
"""Rivals that stay this far below a label are not looked at any closer."""

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]


class Model(Frozen):
    """One file or folder of weights whose architecture gamma knows.

    Attributes:
        path: what was opened. architecture: its record. config: hyper-parameters, and in
            ``settings.ready`` where each was read. tensors: the weights.
    """

    path: Path
    architecture: Architecture
    config: Transformer
    settings: Settings
    tensors: Tensors
    source: Source | None = None

    @cached_property
    def _built_last(self) -> dict[tuple[Any, ...], Network]:
        return {}

    @property
    def vocabulary(self) -> int:
        """Rows of the token embeddings, 0 where the input is no text."""
        return self.tensors.weight("token_embd.weight").rows if self.architecture.text else 0

    @property
    def outputs(self) -> tuple[str, ...]:
        """What a network of this model can end with; the first unless another is asked for."""
        return tuple(self.architecture.outputs)

    @property
    def parameters(self) -> int:
        """Stored weights of the tensors that networks read."""
        sizes = (self.tensors.weight(name) for name in self.tensors.needs)
        return sum(weight.rows * weight.columns for weight in sizes)

    def embed(self, ids: Sequence[int]) -> Float32:
        """Token embeddings (positions, hidden), exactly as stored.

        Raises UsageError for no tokens, too many, and ids that the vocabulary does not have.
        """
        if not self.architecture.text:
            raise UsageError(f"{self.path}: the input of {self.architecture.title} is no text")
        ids = [exact_integer(i, "a token id", least=0) for i in ids]
        for token in ids:
            if token >= self.vocabulary:
                raise UsageError(
                    f"{self.path}: token id {token}, the vocabulary has {self.vocabulary}"
                )
        self.check_positions(len(ids))
        return self.tensors.rows("token_embd.weight", ids)

    def check_positions(self, count: int) -> None:
        """Raise UsageError for a number of positions that the model does not take."""
        most = min(n for n in (self.config.context, self.config.window) if n)
        if not 1 <= count <= most:
            raise UsageError(f"{self.path}: {count} positions, the model takes 1 to {most}")

    def input_shape(self, positions: int, block: int | None = None) -> tuple[int, ...]:
        """Shape of the input of `network`."""
        if block is not None:
            return (positions, self.config.hidden)
        return self.architecture.input_shape(self.config, positions)

    def network(
        self,
        positions: int,
        *,
        block: int | None = None,
        until: int | None = None,
        output: str | None = None,
    ) -> Network:
        """The network from embeddings (a spectrogram, or the state before ``block``) to an output.

        Args:
            positions: of the prompt; of a spectrogram, half its frames.
            block: the input is the state before this block, counted from 0.
            until: the output is the state before this block, or behind the last one.
            output: one of `outputs`, or the name of any node before the first of these.

        Raises UsageError for a block, an output or a number of positions that there is not.
        """
        asked, last = (positions, block, until, output), self._built_last
        found = last.get(asked)  # ranges for every prompt and bounds of one often share a network
        if found is None:
            found = self._network(positions, block, until, output)
            last.clear()
            last[asked] = found
        return found

    def _network(
        self, positions: int, block: int | None, until: int | None, output: str | None
    ) -> Network:
        builder = Builder(Input(), self.input_shape(positions, block))
        self.check_positions(positions)
        if until is None:
            return self._built(builder, 0, block, output)
        x = self._state(Layers(builder, self.tensors), 0, block, until)
        return builder.build(x, self.source, self.notes)

    def segment(
        self, start: npt.ArrayLike, end: npt.ArrayLike, *, output: str | None = None
    ) -> Network:
        """The network of t in [0, 1], whose embeddings are start + t·(end - start).

        ``start`` and ``end`` (positions, hidden) are float32 numbers.
        """
        a, b = (np.asarray(x, np.float32).astype(np.float64) for x in (start, end))
        wanted = self.input_shape(len(a))
        if a.shape != wanted or b.shape != wanted:
            raise UsageError(f"segment: ends of shape {a.shape} and {b.shape}, expected {wanted}")
        step = (b - a).reshape(-1, 1)
        builder = Builder(Input(), (1,))
        line = Gemm(step, a.reshape(-1), weight_error=abs(step) * 2.0**-53)
        x = builder.add(Reshape(a.shape), builder.add(line, 0, name="segment"), name="embeddings")
        self.check_positions(len(a))
        return self._built(builder, x, None, output)

    def _built(self, builder: Builder, x: int, block: int | None, output: str | None) -> Network:
        c, record, layers = self.config, self.architecture, Layers(builder, self.tensors)
        named = output or self.outputs[0]
        finish = record.outputs.get(named)
        if named in record.of_last:
            x = self._state(layers, x, block, c.layers - 1)
            x = record.block(layers, c, c.layers - 1, x, last=True)
        else:
            x = self._state(layers, x, block, c.layers)
        x = (finish or record.outputs[self.outputs[0]])(layers, c, x)
        if finish is None:
            x = self._node(builder, named)
        return builder.build(x, self.source, self.notes)

    def _state(self, layers: Layers, x: int, block: int | None, until: int) -> int:
        """The state before block ``until``, of the input or of the state before ``block``."""
        first = 0 if block is None else exact_integer(block, "block", least=0)
        count = self.config.layers
        if first >= count or not first <= until <= count:
            raise UsageError(f"{self.path}: block {max(first, until)}, expected 0 to {count - 1}")
        if block is None:
            x = self.architecture.embed(layers, self.config, x)
        for i in range(first, until):
            x = self.architecture.block(layers, self.config, i, x)
        return x

    def rivals(self, net: Network, label: int) -> Network:
        """A network that ends with scores, made to end with one number: by how much the best other
        score is above that of ``label``. It is negative where ``label`` wins."""
        last = net.nodes[net.output]
        label = exact_integer(label, "label", least=0)
        if not isinstance(last.op, StoredGemm) or len(last.shape) != 1 or last.op.bias is not None:
            raise UsageError(f"{self.path}: the output {last.name} is no plain layer of scores")
        if label >= last.shape[0]:
            raise UsageError(f"{self.path}: token id {label}, the vocabulary has {last.shape[0]}")
        margins = StoredMargins(last.op.weight, label)
        nodes = [*net.nodes[: net.output]]
        nodes.append(Node("margins", margins, last.inputs, (last.shape[0] - 1,)))
        nodes.append(Node("rival", ReduceMax(aim=-TIE), (net.output,), ()))
        return Network(tuple(nodes), net.output + 1, net.source, net.notes)

    def _node(self, builder: Builder, name: str) -> int:
        for index, node in enumerate(builder.nodes[1:], start=1):
            if node.name == name and not node.inner:
                return index
        raise UsageError(
            f"{self.path}: output {name[:60]!r} is none of {', '.join(self.outputs)}, nor a node "
            "that gamma bounds --all-layers lists"
        )

    def states(self, x: npt.ArrayLike, block: int) -> Float32:
        """The state before ``block`` for one input, evaluated in float64, to the nearest float32.

        A point, not a bound: what is proved about inputs around it is proved about that point.
        """
        wanted = exact_integer(block, "block", least=0)
        if wanted >= self.config.layers:
            raise UsageError(f"{self.path}: block {block}, expected 0 to {self.config.layers - 1}")
        return next(islice(self.all_states(x), wanted, None))

    def all_states(self, x: npt.ArrayLike) -> Iterator[Float32]:
        """`states` before every block in turn, in one evaluation of the network."""
        values = np.asarray(x, np.float64)
        positions = values.shape[0] if self.architecture.text else values.shape[-1] // 2
        values = self.network(positions, until=0).forward(values, np.float64)
        for block in range(self.config.layers):
            yield values.astype(np.float32)
            net = self.network(positions, block=block, until=block + 1)
            values = net.forward(values, np.float64)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out of the file."""
        left = self.tensors.left_out
        if not left:
            return ()
        more = f", {len(left)} tensors in all" if len(left) > 1 else ""
        return (f"{left[0]} is no part of this network{more}",)
