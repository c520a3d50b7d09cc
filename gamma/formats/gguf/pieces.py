"""Vocabularies of pieces in GGUF files: SentencePiece (Llama 2, Mistral) and WordPiece (BERT).

Both are the tokenizers of their own packages, made anew from the pieces, scores and types that
llama.cpp's converter writes.
"""

from __future__ import annotations

from typing import Any

from gamma.errors import FormatError, UnsupportedError, UsageError
from gamma.formats.gguf.reader import GgufFile
from gamma.formats.gguf.values import ArrayValue
from gamma.formats.tokens import guarded

TOKENS = "tokenizer.ggml.tokens"
SPACE = "\u2581"
"""Stands for the space before a piece, in both vocabularies."""


def sentence_pieces(file: GgufFile, text: str, special: bool) -> list[int]:
    """Token ids by SentencePiece's byte-pair encoding: the pair of the best score is joined first.

    Raises:
        UnsupportedError: pieces that are joined in another way. FormatError: a damaged vocabulary.
        UsageError: the package ``sentencepiece`` is not installed.
    """
    try:
        from sentencepiece import SentencePieceProcessor
        from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]
    except ImportError:
        raise UsageError(
            "text needs the package sentencepiece: pip install 'gamma-verify[text]', or give ids"
        ) from None
    if "tokenizer.ggml.precompiled_charsmap" in file.metadata:
        key = "tokenizer.ggml.precompiled_charsmap"
        raise UnsupportedError.at(file.path, key, "gamma does not read such rules: give ids")
    parts = (TOKENS, "tokenizer.ggml.scores", "tokenizer.ggml.token_type")
    columns = [list(array(file, key)) for key in parts]
    prefix = flag(file, "add_space_prefix", True)

    def made_ids() -> list[int]:
        made: Any = ModelProto()
        for piece, score, kind in zip(*columns, strict=True):
            made.pieces.add(piece=str(piece), score=float(score), type=int(kind))
        made.trainer_spec.model_type = made.trainer_spec.BPE
        made.trainer_spec.byte_fallback = True
        made.normalizer_spec.name = "identity"
        made.normalizer_spec.remove_extra_whitespaces = False
        made.normalizer_spec.add_dummy_prefix = prefix
        return list(SentencePieceProcessor(model_proto=made.SerializeToString()).encode(text))

    ids = guarded(file.path, TOKENS, made_ids)
    return surrounded(file, ids, True, False) if special else ids


def word_pieces(file: GgufFile, text: str, special: bool) -> list[int]:
    """Token ids by WordPiece (Wu et al. 2016) as uncased BERT models have it.

    Raises:
        UnsupportedError: a vocabulary with capital letters, for which programs disagree about them.
        UsageError: the package ``tokenizers`` is not installed.
    """
    try:
        import tokenizers
        from tokenizers import models, normalizers, pre_tokenizers
    except ImportError:
        raise UsageError(
            "text needs the package tokenizers: pip install 'gamma-verify[text]', or give ids"
        ) from None
    words = [str(word) for word in array(file, TOKENS)]
    whole = [word for word in words if word.startswith("[") and word.endswith("]")]
    if any(w != w.lower() for w in words if w not in set(whole)):
        message = "has capital letters, which llama.cpp makes small: give ids"
        raise UnsupportedError.at(file.path, TOKENS, message)
    own = {word: word for word in whole}
    own |= {word: word[1:] for word in words if word.startswith(SPACE)}
    vocabulary = {own.get(word, f"##{word}"): k for k, word in enumerate(words)}
    if "[UNK]" not in vocabulary:
        raise FormatError.at(file.path, TOKENS, "has no [UNK], expected a WordPiece vocabulary")

    def made_ids() -> list[int]:
        made = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        made.add_special_tokens(whole)
        made.normalizer = normalizers.BertNormalizer(lowercase=True)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return list(made.encode(text, add_special_tokens=False).ids)

    ids = guarded(file.path, TOKENS, made_ids)
    return surrounded(file, ids, True, True) if special else ids


def surrounded(file: GgufFile, ids: list[int], first: bool, last: bool) -> list[int]:
    """``ids`` with the tokens that start and end every text; the flags say what files mean that
    state nothing."""
    if flag(file, "add_bos_token", first):
        cls = "tokenizer.ggml.cls_token_id"
        key = cls if last and cls in file.metadata else "tokenizer.ggml.bos_token_id"
        ids = [file.whole(key), *ids]
    if last and flag(file, "add_sep_token", True):
        return [*ids, file.whole("tokenizer.ggml.seperator_token_id")]  # llama.cpp's spelling
    if flag(file, "add_eos_token", False):
        return [*ids, file.whole("tokenizer.ggml.eos_token_id")]
    return ids


def flag(file: GgufFile, name: str, default: bool) -> bool:
    """``tokenizer.ggml.name``; FormatError where it is neither true nor false."""
    found = file.metadata.get(f"tokenizer.ggml.{name}")
    if found is None:
        return default
    if type(found.value) is not bool:
        raise FormatError.at(file.path, f"tokenizer.ggml.{name}", "expected true or false")
    return found.value


def array(file: GgufFile, key: str) -> ArrayValue:
    """The array of ``key``; FormatError where there is none."""
    found = file.metadata.get(key)
    if found is None or not isinstance(found.value, ArrayValue):
        raise FormatError.at(file.path, key, "is missing, expected an array")
    return found.value
