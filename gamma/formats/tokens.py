"""Text to token ids, through a model's tokenizer.json (extra ``gamma-verify[text]``)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from gamma.errors import FormatError, UsageError
from gamma.runtime.files import open_regular, refused

TOKENIZER = "tokenizer.json"
Result = TypeVar("Result")
LIMIT = 64 << 20  # bytes; the largest vocabularies in use take 35 MB


def encode(path: str | Path, text: str, special: bool = True) -> list[int]:
    """Token ids of ``text``, neither padded nor cut.

    Args:
        path: a tokenizer.json, or the folder that holds one.
        special: with the tokens that the file adds around every text.

    Raises:
        FormatError: a missing or damaged file.
        UsageError: the package ``tokenizers`` is not installed.
    """
    path = Path(path)
    file = path / TOKENIZER if path.is_dir() else path
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UsageError(
            "text needs the package tokenizers: pip install 'gamma-verify[text]', or give ids"
        ) from None
    try:
        with open_regular(file) as stream:
            text_of_file = stream.read(LIMIT + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise refused(file, f"cannot be read: {reason}") from None
    if len(text_of_file) > LIMIT:
        raise refused(file, f"has more than {LIMIT} bytes")

    def ids() -> list[int]:
        tokenizer = Tokenizer.from_str(text_of_file)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return list(tokenizer.encode(text, add_special_tokens=special).ids)

    return guarded(file, "", ids)


def guarded(path: Path, where: str, call: Callable[[], Result]) -> Result:
    """What a call of the package ``tokenizers`` gives; FormatError for whatever it raises.

    It raises bare Exception, and where it panics a BaseException after a report on stderr.
    """
    try:
        with _quiet():
            return call()
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:120]
        raise FormatError.at(path, where, f"is no tokenizer ({reason})") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing that native code writes to stderr is seen."""
    try:
        kept = os.dup(2)
    except OSError:  # closed already
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
