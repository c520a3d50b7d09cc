"""Method auto takes forward forms where few inputs vary and neurons are many."""

from __future__ import annotations

import numpy as np
import pytest

import gamma
from benches import made
from gamma.propagate import blocks, bounding_method


def test_a_generator_is_bounded_by_forward_forms() -> None:
    net = made.generator()
    assert sum(n.size for n in net.nodes if n.op.name != "Relu") > 150_000
    assert bounding_method(net, 5) == "forward+crown"
    assert bounding_method(made.lattice(8), 2) == "crown"
    assert bounding_method(made.smooth(made.SMOOTH["tanh"]), 784) == "crown"


def test_boxes_of_a_generator_are_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "FORWARD_GAIN", 0.0)
    net = made.generator(3, (4, 4, 2))
    x = np.full(3, 0.5)
    y = net.forward(x.astype(np.float32)).ravel()
    label = int(y.argmax())
    box = gamma.Box.linf(x, 0.03)
    first = gamma.verify(net, gamma.robustness(box, label), method="forward+crown", attack=False)
    found = gamma.verify(net, gamma.robustness(box, label), timeout=20)
    assert first.verdict == "unknown"
    assert found.verdict == "verified"
    assert found.phases[0].name == "forward+crown" and found.branched is not None
    far = gamma.verify(net, gamma.robustness(gamma.Box.linf(x, 0.04), label), timeout=20)
    assert far.verdict == "violated"
