"""GGUF files: a checked header, typed metadata, tensors as weight sources."""

from __future__ import annotations

from gamma.formats.gguf.header import Header as Header
from gamma.formats.gguf.header import TensorInfo as TensorInfo
from gamma.formats.gguf.reader import GgufFile as GgufFile
from gamma.formats.gguf.reader import open_gguf as open_gguf
from gamma.formats.gguf.values import ArrayValue as ArrayValue
from gamma.formats.gguf.values import Value as Value
