"""Text to token ids, through a model's tokenizer.json (extra ``gamma-verify[text]``)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from gamma.errors import FormatError, UsageError
from gamma.formats.safetensors import parse_json
from gamma.runtime.files import open_regular, refused

TOKENIZER = "tokenizer.json"
Result = TypeVar("Result")
MOST_TEXT = 1 << 18
"""Characters that rules of a file may make of a text, or four times as many as it has."""
CHARACTER = 18.0
"""Characters that a table of characters is taken to make of one."""
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
    check_growth(file, text_of_file, text)

    def ids() -> list[int]:
        tokenizer = Tokenizer.from_str(text_of_file)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return list(tokenizer.encode(text, add_special_tokens=special).ids)

    return guarded(file, "", ids)


def check_growth(path: Path, tokenizer: str, text: str) -> None:
    """FormatError where rules of a tokenizer.json may make far more of a text than is in it.

    Replacements that follow each other multiply, and so does a template that repeats the text.
    """
    found = parse_json(path, "", tokenizer)
    rules = found.get("normalizer") if isinstance(found, dict) else None
    size = float(len(text) + 1)
    for rule in _listed(rules, "normalizers"):
        pattern, content = rule.get("pattern"), rule.get("content")
        if isinstance(content, str) and isinstance(pattern, dict):
            least = pattern.get("String")
            size *= (len(content) + 1) / max(len(least) if isinstance(least, str) else 0, 1)
        elif "precompiled_charsmap" in rule:
            size *= CHARACTER
    for rule in _listed(
        found.get("post_processor") if isinstance(found, dict) else None, "processors"
    ):
        single = rule.get("single")
        size *= max(1, len(single) if isinstance(single, list) else 1)
    most = max(MOST_TEXT, 4 * len(text))
    if size > most:
        message = f"makes up to {size:.3g} characters of {len(text)}, expected at most {most}"
        raise FormatError.at(path, "", message)


def _listed(rule: Any, inner: str) -> Iterator[dict[str, Any]]:
    """A rule, or those that a sequence of rules holds, at any depth."""
    waiting = [rule]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one[inner] if isinstance(one.get(inner), list) else []


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
