"""Text to token ids by the vocabulary in a GGUF file: byte-pair encoding of GPT-2, Llama 3, Qwen.

llama.cpp names the way text is cut before the merges in ``tokenizer.ggml.pre``; a way, or a kind of
tokenizer, that is not in this table is refused, never replaced by another.
"""

from __future__ import annotations

from typing import Any

from gamma.errors import FormatError, UnsupportedError, UsageError
from gamma.formats.gguf.reader import GgufFile
from gamma.formats.gguf.values import ArrayValue
from gamma.formats.tokens import guarded

TOKENS = "tokenizer.ggml.tokens"
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
    """Token ids of ``text``; ``special``: with the token that starts every text, if there is one.

    Raises:
        UnsupportedError: another tokenizer than byte-pair encoding, or another way to cut text.
        FormatError: keys that contradict each other.
        UsageError: the package ``tokenizers`` is not installed.
    """
    kind = file.text("tokenizer.ggml.model")
    cut = file.text("tokenizer.ggml.pre") if "tokenizer.ggml.pre" in file.metadata else "gpt-2"
    if kind != "gpt2" or cut not in CUTS:
        raise UnsupportedError.at(
            file.path,
            "tokenizer.ggml.pre" if kind == "gpt2" else "tokenizer.ggml.model",
            f"is {(cut if kind == 'gpt2' else kind)[:40]!r}, gamma reads byte-pair encodings of "
            f"{', '.join(CUTS)}: give ids",
        )
    ids = _ids(file, cut, text)
    first = file.metadata.get("tokenizer.ggml.add_bos_token")
    if special and first is not None and first.value is True:
        ids.insert(0, file.whole("tokenizer.ggml.bos_token_id"))
    return ids


def _ids(file: GgufFile, cut: str, text: str) -> list[int]:
    try:
        import tokenizers
        from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers
    except ImportError:
        raise UsageError(
            "text needs the package tokenizers: pip install 'gamma-verify[text]', or give ids"
        ) from None
    words = [str(word) for word in _array(file, TOKENS)]
    pairs: list[Any] = [tuple(str(p).split(" ")) for p in _array(file, "tokenizer.ggml.merges")]
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
        kinds = list(_array(file, "tokenizer.ggml.token_type"))
        special = [w for w, t in zip(words, kinds, strict=False) if t in WHOLE]

    def ids() -> list[int]:
        made = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=whole))
        made.pre_tokenizer = pre_tokenizers.Sequence(steps)
        if cut in COMPOSED:
            made.normalizer = normalizers.NFC()
        made.add_special_tokens([AddedToken(word, normalized=False) for word in special])
        return list(made.encode(text, add_special_tokens=False).ids)

    return guarded(file.path, "tokenizer.ggml.merges", ids)


def _array(file: GgufFile, key: str) -> ArrayValue:
    found = file.metadata.get(key)
    if found is None or not isinstance(found.value, ArrayValue):
        raise FormatError.at(file.path, key, "is missing, expected an array")
    return found.value
