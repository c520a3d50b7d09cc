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
    with pytest.raises(UnsupportedError, match=r"model: is 't5'.*gpt2, llama, bert: give ids"):
        encode(open_gguf(written(tmp_path / "b.gguf", made, "gpt-2", model="t5")), "a")
    with pytest.raises(FormatError, match="expected pairs"):
        encode(open_gguf(written(tmp_path / "c.gguf", made, "gpt-2", merges=["a b c"])), "a")
    with pytest.raises(FormatError, match="merges"):
        encode(open_gguf(written(tmp_path / "d.gguf", made, "gpt-2", merges=["qqq zzz"])), "a")


def vocabulary(path: Path, model: str, words: list[str], **more: Any) -> Any:
    """A GGUF file with a vocabulary of pieces; ``more``: keys of the tokenizer."""
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list(words)
    for name, value in more.items():
        key = f"tokenizer.ggml.{name}"
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        else:
            writer.add_uint32(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return open_gguf(path)


PIECES = (*TEXTS, "  two  spaces ", "aaaa aaa abab", "<s> a")


def test_sentence_pieces(tmp_path: Path) -> None:
    """The ids of SentencePiece itself, bytes of unknown letters too; the text starts with <s>."""
    sentencepiece = pytest.importorskip("sentencepiece")
    lines = ["hello hello world aaab don't stop now naive abab cafe two spaces"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(tmp_path / "a"),
        model_type="bpe",
        vocab_size=330,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    made = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "a.model"))
    count = made.get_piece_size()
    words = [made.id_to_piece(i) for i in range(count)]
    kinds = [
        2 if made.is_unknown(i) else 3 if made.is_control(i) else 6 if made.is_byte(i) else 1
        for i in range(count)
    ]
    more = {"scores": [float(made.get_score(i)) for i in range(count)], "token_type": kinds}
    file = vocabulary(tmp_path / "a.gguf", "llama", words, bos_token_id=1, **more)
    for text in PIECES:
        assert encode(file, text, special=False) == made.encode(text)
        assert encode(file, text) == [1, *made.encode(text)]
    bare = vocabulary(tmp_path / "b.gguf", "llama", words, add_space_prefix=False, **more)
    assert encode(bare, "hello", special=False) != made.encode("hello")
    odd = vocabulary(tmp_path / "c.gguf", "llama", words, **{**more, "scores": [0.0]})
    with pytest.raises(FormatError, match="tokens: is no tokenizer"):
        encode(odd, "a")
    with pytest.raises(FormatError, match="scores: is missing"):
        encode(vocabulary(tmp_path / "d.gguf", "llama", words), "a")


def test_word_pieces(tmp_path: Path) -> None:
    """The ids of the tokenizer whose vocabulary it is, in llama.cpp's spelling."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made = tokenizers.BertWordPieceTokenizer()
    made.train_from_iterator(
        ["hello world don't stop now naive cafe 1234 数学"] * 9, 200, special_tokens=special,
        show_progress=False,
    )  # fmt: skip
    words = sorted(made.get_vocab(), key=made.get_vocab().get)
    spelled = [w if w in special else w[2:] if w.startswith("##") else f"\u2581{w}" for w in words]
    ids = {"cls_token_id": 2, "seperator_token_id": 3}
    file = vocabulary(tmp_path / "a.gguf", "bert", spelled, **ids)
    for text in (*TEXTS, "Hello WORLD", "cafés, [SEP] (now)"):
        bare = made.encode(text, add_special_tokens=False).ids
        assert encode(file, text, special=False) == bare
        assert encode(file, text) == [2, *bare, 3]
    capital = vocabulary(tmp_path / "b.gguf", "bert", [*spelled, "\u2581The"], **ids)
    with pytest.raises(UnsupportedError, match="capital letters"):
        encode(capital, "The")
    with pytest.raises(FormatError, match=r"no .UNK."):
        encode(vocabulary(tmp_path / "c.gguf", "bert", ["\u2581a"], **ids), "a")
