"""Text by the vocabulary of a GGUF file: the same ids as the tokenizer it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter

from gamma.errors import FormatError, UnsupportedError
from gamma.formats.gguf import open_gguf
from gamma.formats.gguf.tokenizer import COMPOSED, CUTS, encode

tokenizers = pytest.importorskip("tokenizers")
TEXTS = ("hello world", "Don't 12345 stop\n\n  now", "naïve cafe\u0301 <|end|> x", "", "数学 🙂")


def trained(cut: str) -> Any:
    """A byte-level tokenizer with this way of cutting text, and a control token."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=cut == "llama-bpe"))
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not CUTS[cut])
    pattern = CUTS[cut]
    if pattern is None:
        made.pre_tokenizer = level
    else:
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
        made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, level])
    if cut in COMPOSED:
        made.normalizer = tokenizers.normalizers.NFC()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|end|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["hello hello world 1234 don't stop now naive cafe"] * 9, trainer)
    return made


def written(path: Path, made: Any, cut: str, **more: Any) -> Path:
    import json

    model = json.loads(made.to_str())["model"]
    words = sorted(model["vocab"], key=model["vocab"].get)
    writer = GGUFWriter(path, "qwen3")
    writer.add_tokenizer_model(more.get("model", "gpt2"))
    writer.add_tokenizer_pre(cut)
    writer.add_token_list(words)
    writer.add_token_types([3 if word == "<|end|>" else 1 for word in words])
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    writer.add_token_merges(more.get("merges", merges))
    writer.add_bos_token_id(0)
    writer.add_add_bos_token(more.get("bos", False))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("cut", CUTS)
def test_same_ids(tmp_path: Path, cut: str) -> None:
    made = trained(cut)
    file = open_gguf(written(tmp_path / "a.gguf", made, cut))
    for text in TEXTS:
        assert encode(file, text) == made.encode(text).ids
    assert 0 in encode(file, TEXTS[2])


def test_the_first_token(tmp_path: Path) -> None:
    file = open_gguf(written(tmp_path / "a.gguf", trained("gpt-2"), "gpt-2", bos=True))
    assert encode(file, "hello") == [0, *encode(file, "hello", special=False)]


def test_other_tokenizers_are_refused(tmp_path: Path) -> None:
    made = trained("gpt-2")
    with pytest.raises(UnsupportedError, match=r"pre: is 'tekken'.*gpt-2, llama-bpe, qwen2"):
        encode(open_gguf(written(tmp_path / "a.gguf", made, "tekken")), "a")
    with pytest.raises(UnsupportedError, match=r"model: is 'llama'"):
        encode(open_gguf(written(tmp_path / "b.gguf", made, "gpt-2", model="llama")), "a")
    with pytest.raises(FormatError, match="expected pairs"):
        encode(open_gguf(written(tmp_path / "c.gguf", made, "gpt-2", merges=["a b c"])), "a")
    with pytest.raises(FormatError, match="merges"):
        encode(open_gguf(written(tmp_path / "d.gguf", made, "gpt-2", merges=["qqq zzz"])), "a")
