"""The ONNX project's own node tests: which load, agree with the reference outputs, are refused.

    python tests/interop/node_tests.py [--only WORD] [--failed]

Every test whose first input and first output are float32 tensors counts, but for those without a
deterministic tensor to compare (random, sequences, optionals, training) and custom domains. The
first input becomes the network's; further inputs are stored in the file, as weights are.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

import gamma
from gamma.errors import GammaError

_RANDOM = ("Bernoulli", "RandomNormal", "RandomUniform", "Multinomial", "RandomNormalLike")


@dataclass(frozen=True)
class Outcome:
    """What became of one test: ``kind`` is "agrees", "wrong", "refused" or "crashed"."""

    name: str
    kind: str
    message: str = ""


def cases() -> Iterator[Any]:
    """The tests that count."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    for case in sorted(found, key=lambda c: str(c.name)):
        graph = case.model.graph
        domains = {o.domain for o in case.model.opset_import} - {"", "ai.onnx"}
        values = [*graph.input, *graph.output]
        plain = all(v.type.WhichOneof("value") == "tensor_type" for v in values)
        if domains or not plain or not graph.input or "training" in case.name:
            continue
        ends = {v.type.tensor_type.elem_type for v in (graph.input[0], graph.output[0])}
        if ends == {onnx.TensorProto.FLOAT} and not {n.op_type for n in graph.node} & {*_RANDOM}:
            yield case


def run(case: Any, scratch: Path) -> Outcome:
    """Load one test's model, compare its values and its bounds with the reference output."""
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    given, wanted = case.data_sets[0]
    x, expected = _array(given[0]), _array(wanted[0])
    graph = model.graph
    for value, array in zip(list(graph.input)[1:], given[1:], strict=True):
        graph.initializer.append(numpy_helper.from_array(_array(array), value.name))
        graph.input.remove(value)
    path = scratch / "net.onnx"
    onnx.save(model, path)
    try:
        net = gamma.load(path, input_shape=x.shape or None, output=graph.output[0].name)
        point = x.reshape(net.input_shape)
        found = net.forward(point[None], np.float64)[0]
        # Rows of very many neurons would take minutes: intervals for those.
        method = "crown" if x.size <= 1 << 13 else "ibp"
        out = gamma.bounds(net, gamma.Box(point, point), method=method)
    except GammaError as error:
        return Outcome(case.name, "refused", str(error).removeprefix(f"{path}: "))
    except Exception as error:  # the list shows a crash, whatever it is
        return Outcome(case.name, "crashed", f"{type(error).__name__}: {error}")
    return Outcome(case.name, *_compared(found, expected, out))


def _compared(found: np.ndarray, expected: np.ndarray, out: object) -> tuple[str, str]:
    """The reference was computed in float32: it may lie outside real bounds by its rounding."""
    if found.size != expected.size:
        return "wrong", f"{found.size} entries, expected {expected.size}"
    truth = expected.reshape(found.shape).astype(np.float64)
    room = 1e-4 + 1e-3 * abs(truth)
    lower, upper = (np.asarray(v, np.float64).reshape(found.shape) for v in (out.lower, out.upper))
    if not (abs(found - truth) <= room).all():
        return "wrong", f"values differ by {np.abs(found - truth).max():.3g}"
    if not ((lower <= truth + room) & (truth - room <= upper)).all():
        return "wrong", "the reference lies outside the bounds"
    return "agrees", ""


def _array(value: Any) -> np.ndarray:
    """A test states its data as arrays, numbers or TensorProto."""
    return numpy_helper.to_array(value) if hasattr(value, "dims") else np.asarray(value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="run tests whose name holds this word")
    parser.add_argument("--failed", action="store_true", help="list what does not agree only")
    options = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch:
        for case in cases():
            if options.only in case.name:
                outcomes.append(run(case, Path(scratch)))
                last = outcomes[-1]
                if not (options.failed and last.kind == "agrees"):
                    print(f"{last.kind:8} {last.name}  {last.message[:300]}".rstrip())
    kinds = Counter(o.kind for o in outcomes)
    print(", ".join(f"{n} {kind}" for kind, n in kinds.most_common()), f"of {len(outcomes)}")
    if outcomes:
        print(f"{100 * kinds['agrees'] / len(outcomes):.1f} % agree")
        whole = [o for o in outcomes if "_expanded" not in o.name]
        share = 100 * sum(o.kind == "agrees" for o in whole) / max(len(whole), 1)
        print(f"{share:.1f} % of the {len(whole)} that are no expansion of a function")
    return 1 if kinds["wrong"] + kinds["crashed"] else 0


if __name__ == "__main__":
    sys.exit(main())
