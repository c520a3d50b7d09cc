"""A case as text that runs: Python for networks of operators, a file and its listing for models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.printer
from msgspec.structs import fields

from gamma.network.graph import Network
from tests.exact.search.asking import FORMS, Asking
from tests.exact.search.case import Case

_IMPORTS = """from fractions import Fraction
from tests.exact.search.asking import Asking, forms
from tests.exact.search.domains import subproblem
"""
_HEAD = "import numpy as np\nimport gamma\nfrom gamma import ops, tuning\n"


def written(case: Case, folder: Path | None = None, name: str = "case") -> str:
    """Python that asks the same; a model is put into ``folder`` as NAME.onnx."""
    if isinstance(case.source, Network):
        lines = _network(case.source, case.fused)
    else:
        path = Path(f"{name}.onnx") if folder is None else folder / f"{name}.onnx"
        if folder is not None:
            onnx.save(case.source, path)
        listing = onnx.printer.to_text(case.source).strip()
        lines = "".join(f"# {line}\n" for line in listing.splitlines())
        lines += f"net = gamma.load({str(path)!r})\n"
    return f"{_HEAD}{lines}{_boxes(case)}{_asked(case.asking)}"


def _value(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"np.array({value.tolist()!r}, {value.dtype.str!r})"
    return repr(value)


def _network(net: Network, fused: bool) -> str:
    lines = [
        "from gamma.network.graph import Builder",
        f"b = Builder(ops.Input(), {net.input_shape}, 'x')",
    ]
    for node in net.nodes[1:]:
        values = [(f, getattr(node.op, f.name)) for f in fields(type(node.op))]
        given = ", ".join(
            _value(v) if f.required else f"{f.name}={_value(v)}"
            for f, v in values
            if f.required or v is not f.default
        )
        inputs = ", ".join(map(str, node.inputs))
        lines.append(f"b.add(ops.{type(node.op).__name__}({given}), {inputs}, name={node.name!r})")
    lines.append(f"net = b.build({net.output})")
    if fused:
        lines += ["from gamma.network.simplify import simplify", "net = simplify(net)"]
    return "\n".join(lines) + "\n"


def _boxes(case: Case) -> str:
    low, high = case.lower.tolist(), case.upper.tolist()
    box = case.asking.inputs(case.lower, case.upper)
    ball = ""
    if box.center is not None:
        ball = f", {box.norm!r}, np.array({box.center.tolist()}), {box.radius!r}"
    ends = f"np.array({low}), np.array({high})"
    return f"box = gamma.Box({ends}{ball}).batched(net.input_shape)\n"


def _asked(asking: Asking) -> str:
    options = f"guarantee={asking.guarantee!r}, dtype={asking.dtype!r}"
    text = f"# {asking}\n"
    if asking.question in (*FORMS, "splits"):  # numbers come from the seed: run in the checkout
        function = "subproblem" if asking.question == "splits" else "forms"
        return f"{text}{_IMPORTS}print({function}(net, box, {asking!r}))\n"
    if asking.question == "positions":
        axis = f"{asking.seed} % len(net.input_shape)"
        text += "from gamma.propagate import ParallelConfig, ParallelVerifier\n"
        text += f"v = ParallelVerifier(ParallelConfig({asking.method!r}, 1, {asking.threads}))\n"
        call = f"v.verify_positions_parallel(net, box, {axis}, {options}).output_bounds"
    else:
        if asking.streaming != "off":
            text += "from gamma.propagate import StreamingConfig\n"
            options += f", streaming={asking.config!r}"
        layers = ", intermediate=True" if asking.question == "layers" else ""
        call = f"gamma.bounds(net, box, method={asking.method!r}, {options}{layers})"
    around = f"tuning.disabled({', '.join(map(repr, asking.gates))})"
    if asking.limits:
        text += "from tests.exact.search import limits\n"
        around += f", limits.moved({', '.join(map(repr, asking.limits))})"
    if asking.isa != "numpy":
        text += "from gamma.tensor import kernels\n"
        around += f", kernels.pinned({asking.isa!r})"
    return f"{text}with {around}:\n    print({call})\n"
