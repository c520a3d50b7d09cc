"""Hyper-parameters as a file states them, and where each was read.

Two sources: the object in config.json, and the typed metadata of a GGUF file. A value that decides
what the network computes is read or refused; nothing is guessed from shapes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct, field

from gamma.errors import FormatError, UnsupportedError

T = TypeVar("T")
LARGEST, LARGEST_NUMBER = 1 << 31, 1e30
MISSING: Any = object()

# Of config.json: training, generation and bookkeeping; none changes one forward pass.
HARMLESS = re.compile(
    r"_name_or_path|architectures|model_type|transformers_version|torch_dtype|dtype|torchscript"
    r"|auto_map|id2label|label2id|num_labels|problem_type|tokenizer_class|prefix|gradient_\w+"
    r"|.*_dropout(_prob)?|.*dropout|.*_pdrop|dropout\w*|initializer_\w+|init_std|use_cache"
    r"|.*_token_id|.*_token_ids|suppress_tokens|begin_suppress_tokens|forced_\w+|max_length"
    r"|min_length|do_sample|num_beams\w*|early_stopping|temperature|top_[kp]|typical_p|task_\w+"
    r"|repetition_penalty|length_penalty|no_repeat_\w+|output_\w+|return_dict\w*|pretraining_tp"
    r"|is_encoder_decoder|finetuning_task|median_filter_width|apply_spec_augment|mask_\w+"
    r"|use_weighted_layer_sum|classifier_proj_size|max_window_layers|remove_invalid_values"
    r"|diversity_penalty|encoder_no_repeat_\w+|exponential_decay_length_penalty|bad_words_ids"
    r"|tf_legacy_loss|use_bfloat16|summary_\w+|language_model\w*|attn_implementation"
    r"|_attn_implementation\w*|unsloth_\w+|eos_\w+|bos_\w+"
    r"|pooler_\w+|directionality"
)
# Of GGUF metadata: who made the file, its tokenizer, and what was done to its numbers.
HARMLESS_GGUF = re.compile(r"general\..*|tokenizer\..*|quantize\..*|[\w-]+\.vocab_size")


class Settings(Struct, eq=False):
    """The values of one file, each read by the key that decides it.

    Attributes:
        path: the file. prefix: of GGUF keys (``qwen3.``). ready: name -> (value, where it was
            read), for `gamma inspect`.
    """

    path: Path
    values: Mapping[str, Any]
    prefix: str = ""
    harmless: re.Pattern[str] = HARMLESS
    ready: dict[str, tuple[Any, str]] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def whole(self, name: str, *keys: str, default: int | None = MISSING) -> int:
        """A positive integer; ``default`` is what the format says of a file without the key."""
        value = self._find(name, keys, default)
        if type(value) is not int or not 1 <= value < LARGEST:
            raise self._misfit(name, value, f"a whole number above 0 and below {LARGEST}")
        return value

    def number(
        self, name: str, *keys: str, default: float = MISSING, positive: bool = False
    ) -> float:
        """A finite number that is not negative, and not 0 where it must be ``positive``."""
        value = self._find(name, keys, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._misfit(name, value, "a number")
        if not 0 <= value < LARGEST_NUMBER or (positive and value == 0):
            sign = "> 0" if positive else ">= 0"
            raise self._misfit(name, value, f"a number {sign} and below {LARGEST_NUMBER:g}")
        return float(value)

    def flag(self, name: str, *keys: str, default: bool = MISSING) -> bool:
        """True or false."""
        value = self._find(name, keys, default)
        if type(value) is not bool:
            raise self._misfit(name, value, "true or false")
        return value

    def choice(self, name: str, known: Mapping[str, T], *keys: str, default: str = MISSING) -> T:
        """What ``known`` has for the text found. UnsupportedError for another text."""
        value = self._find(name, keys, default)
        if not isinstance(value, str):
            raise self._misfit(name, value, f"one of {', '.join(known)}")
        if value not in known:
            key = self.ready[name][1]
            raise UnsupportedError.at(
                self.path, key, f"{value[:60]!r} is not known, expected {', '.join(known)}"
            )
        return known[value]

    def split(self, width: int, heads: int) -> int:
        """Width of one head where the heads share ``width``. FormatError when they do not."""
        if width % heads:
            raise FormatError.at(
                self.path, "", f"width {width} is no multiple of its {heads} attention heads"
            )
        return width // heads

    def refuse(self, key: str, allowed: Collection[Any], what: str) -> None:
        """UnsupportedError when ``key`` is there with a value that is not ``allowed``."""
        value = self.values.get(self.prefix + key)
        self._taken.add(self.prefix + key)
        if value is not None and not any(type(value) is type(a) and value == a for a in allowed):
            raise UnsupportedError.at(
                self.path, self.prefix + key, f"is {_shown(value)}: gamma does not read {what}"
            )

    def constant(self, name: str, value: Any) -> Any:
        """A value that the architecture itself fixes."""
        self.ready[name] = value, "fixed by the architecture"
        return value

    def has(self, key: str) -> bool:
        """Whether the file states a value for ``key``."""
        return self.values.get(self.prefix + key) is not None

    def get(self, key: str) -> Any:
        """A value that the caller checks itself; None where there is none."""
        self._taken.add(self.prefix + key)
        return self.values.get(self.prefix + key)

    def finish(self) -> None:
        """UnsupportedError for a key that nobody asked for and that may change the network."""
        for key, value in self.values.items():
            idle = value is None or value is False or value in ("", [], {})
            if key not in self._taken and not idle and not self.harmless.fullmatch(key):
                raise UnsupportedError.at(
                    self.path,
                    str(key)[:80],
                    f"is {_shown(value)}: gamma does not know what this changes in the network",
                )

    def _find(self, name: str, keys: Collection[str], default: Any) -> Any:
        present = [self.prefix + key for key in keys if self.prefix + key in self.values]
        self._taken.update(present)
        for key in present:
            if self.values[key] is not None:
                self.ready[name] = self.values[key], key
                return self.values[key]
        if default is MISSING:
            wanted = " or ".join(self.prefix + key for key in keys)
            raise FormatError.at(self.path, wanted, f"is missing: it states the {name}")
        self.ready[name] = default, f"the format's default for {self.prefix}{next(iter(keys))}"
        return default

    def misfit(self, name: str, wanted: str) -> FormatError:
        """The error for a value that was read and is not ``wanted``."""
        return self._misfit(name, self.ready[name][0], wanted)

    def _misfit(self, name: str, value: Any, wanted: str) -> FormatError:
        key = self.ready[name][1] if name in self.ready else name
        return FormatError.at(self.path, key, f"is {_shown(value)}, expected {wanted}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
