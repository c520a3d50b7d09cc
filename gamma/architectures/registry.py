"""What gamma knows of an architecture: one record each, and the table of all.

A record says how a file is recognised (``model_type`` in config.json, ``general.architecture`` in
GGUF metadata), which hyper-parameters it reads from which keys, what its tensors are called, and
how embedding, blocks and outputs become nodes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gamma.architectures.layers import Layers, Pooling
from gamma.architectures.rope import Rope
from gamma.architectures.settings import Settings
from gamma.architectures.tensors import Need
from gamma.errors import UnsupportedError
from gamma.frozen import Frozen
from gamma.ops.base import Operator

GGUF, FOLDER = "GGUF", "config.json"
SENTENCE = "sentence_embedding"
"""The output of models that make one vector of a sentence."""


class Transformer(Frozen, eq=True):
    """Hyper-parameters, as the file states them.

    Attributes:
        layers, hidden, inner: blocks, width of the state, width inside the feed-forward part.
        heads, kv_heads, head_size: of the attention; several heads may share a key and a value.
        context: positions there are at most; 0: no limit. window: positions that one attends to,
            0: all of them.
        vocabulary, types: rows of the embeddings of tokens and of types; 0: not stated.
        epsilon: of the norms. activation: of the feed-forward part, None where it is gated.
        tied: the output layer is the token embeddings.
        rope: rotary positions. normed: queries and keys are normalised head by head.
        form: which file it was, `GGUF` or `FOLDER`.
        biases: layers of a block that have a bias for certain.
        bands: of a spectrogram, where that is the input.
        pooling: what is made of the states of a sentence.
    """

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    context: int
    epsilon: float
    form: str
    vocabulary: int = 0
    activation: Operator | None = None
    tied: bool = False
    rope: Rope | None = None
    normed: bool = False
    window: int = 0
    types: int = 0
    bands: int = 0
    biases: frozenset[str] = frozenset()
    pooling: Pooling | None = None

    @property
    def gguf(self) -> bool:
        """Whether the file is a GGUF file, with its names of tensors."""
        return self.form == GGUF


class Architecture(Frozen):
    """One kind of network.

    Attributes:
        name, title: in messages and in tables. model_types, gguf: names in files.
        read: the hyper-parameters of a file. needs: its tensors.
        prefixes: what a file may put before its tensors' names.
        left_out: names of tensors of other parts of a model, which no network here reads.
        embed: from the input to the state before the first block. block: one block.
        outputs: what a network can end with, the first unless another is asked for. of_last: those
            that read the last position alone, which is all that the last block then computes.
        text: the input is token embeddings.
    """

    name: str
    title: str
    model_types: tuple[str, ...]
    gguf: tuple[str, ...]
    read: Callable[[Settings, str], Transformer]
    needs: Callable[[Transformer], Sequence[Need]]
    left_out: re.Pattern[str]
    embed: Callable[[Layers, Transformer, int], int]
    block: Callable[..., int]
    outputs: Mapping[str, Callable[[Layers, Transformer, int], int]]
    of_last: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ("",)
    text: bool = True

    def input_shape(self, config: Transformer, positions: int) -> tuple[int, ...]:
        """Shape of the network's input: embeddings, or a spectrogram."""
        if self.text:
            return (positions, config.hidden)
        return (config.bands, 2 * positions)


def architectures() -> tuple[Architecture, ...]:
    """All records."""
    from gamma.architectures import bert, decoder, gpt2, whisper

    return (bert.BERT, *decoder.DECODERS, gpt2.GPT2, whisper.WHISPER)


def find(path: Path, form: str, name: Any) -> Architecture:
    """The record for ``name``. Raises UnsupportedError that lists the known ones."""
    for record in architectures():
        if name in (record.gguf if form == GGUF else record.model_types):
            return record
    if form == GGUF and any(name in a.model_types for a in architectures()):
        raise UnsupportedError.at(
            path,
            "general.architecture",
            f"is {name!r}, of which no public converter writes GGUF files: give the folder with "
            "config.json and model.safetensors",
        )
    key = "general.architecture" if form == GGUF else "model_type"
    known = sorted(
        {n for a in architectures() for n in (a.gguf if form == GGUF else a.model_types)}
    )
    raise UnsupportedError.at(
        path, key, f"is {str(name)[:60]!r}, gamma builds networks for {', '.join(known)}"
    )
