"""Text to token ids by the vocabulary in a GGUF file: byte-pair encoding of GPT-2, Llama 3, Qwen,
and the pieces of `gamma.formats.gguf.pieces`.

llama.cpp names the way text is cut before the merges in ``tokenizer.ggml.pre``; a way, or a kind of
tokenizer, that is not in this table is refused, never replaced by another.
"""

from __future__ import annotations

from typing import Any

from gamma.errors import FormatError, UnsupportedError, UsageError
from gamma.formats.gguf.pieces import TOKENS, array, sentence_pieces, surrounded, word_pieces
from gamma.formats.gguf.reader import GgufFile
from gamma.formats.tokens import guarded

WHOLE = (3, 4)
"""Types of tokens (control, user defined) that stand for themselves wherever their text is."""

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
_SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
CUTS: dict[str, str | None] = {
    "gpt-2": None,  # the pattern that byte-level tokenizers have by default
    "llama-bpe": _WORDS % "{1,3}" + _SPACES,
    "qwen2": _WORDS % "" + _SPACES,
}
COMPOSED = ("qwen2",)
"""Those that bring text into Unicode's composed form first."""


def encode(file: GgufFile, text: str, special: bool = True) -> list[int]:
    """Token ids of ``text``; ``special``: with the tokens that the file adds around every text.

    Raises:
        UnsupportedError: another kind of tokenizer, or another way to cut text.
        FormatError: keys that contradict each other.
        UsageError: the package that does it is not installed.
    """
    kind = file.text("tokenizer.ggml.model")
    if kind not in KINDS:
        known = ", ".join(KINDS)
        message = f"is {kind[:40]!r}, gamma reads {known}: give ids"
        raise UnsupportedError.at(file.path, "tokenizer.ggml.model", message)
    return KINDS[kind](file, text, special)


def _byte_pairs(file: GgufFile, text: str, special: bool) -> list[int]:
    cut = file.text("tokenizer.ggml.pre") if "tokenizer.ggml.pre" in file.metadata else "gpt-2"
    if cut not in CUTS:
        message = f"is {cut[:40]!r}, gamma reads byte-pair encodings of {', '.join(CUTS)}: give ids"
        raise UnsupportedError.at(file.path, "tokenizer.ggml.pre", message)
    ids = _ids(file, cut, text)
    return surrounded(file, ids, False, False) if special else ids


def _ids(file: GgufFile, cut: str, text: str) -> list[int]:
    try:
        import tokenizers
        from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers
    except ImportError:
        raise UsageError(
            "text needs the package tokenizers: pip install 'gamma-verify[text]', or give ids"
        ) from None
    words = [str(word) for word in array(file, TOKENS)]
    pairs: list[Any] = [tuple(str(p).split(" ")) for p in array(file, "tokenizer.ggml.merges")]
    if any(len(pair) != 2 for pair in pairs):
        raise FormatError.at(file.path, "tokenizer.ggml.merges", "expected pairs of two tokens")
    whole = cut == "llama-bpe"  # words of the vocabulary are tokens whatever the merges say
    vocabulary = {word: k for k, word in enumerate(words)}
    pattern = CUTS[cut]
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)]
    if pattern is not None:
        steps.insert(0, pre_tokenizers.Split(Regex(pattern), "isolated"))
    special: list[str] = []
    if "tokenizer.ggml.token_type" in file.metadata:
        kinds = list(array(file, "tokenizer.ggml.token_type"))
        special = [w for w, t in zip(words, kinds, strict=False) if t in WHOLE]

    def ids() -> list[int]:
        made = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=whole))
        made.pre_tokenizer = pre_tokenizers.Sequence(steps)
        if cut in COMPOSED:
            made.normalizer = normalizers.NFC()
        made.add_special_tokens([AddedToken(word, normalized=False) for word in special])
        return list(made.encode(text, add_special_tokens=False).ids)

    return guarded(file.path, "tokenizer.ggml.merges", ids)


KINDS = {"gpt2": _byte_pairs, "llama": sentence_pieces, "bert": word_pieces}
