"""What runtimes' float32 functions really err by, against what `float32_error` assumes.

`python -m tests.exact.runtimes` prints the table of docs/soundness.md. A figure is the largest
error found, as a share of the error that the guarantee allows: above 1 the assumption is false.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gamma import ops
from gamma.ops import Elementwise
from gamma.ops.execution import FLOAT32_MAX
from gamma.ops.relaxation import VALUE_ERROR

Array = Any
F = np.float32
NORMAL = 2.0**-126
FLUSHING = ("XLA",)
Function = Callable[[Array], Array]

# One record of every function, with the ONNX nodes that a file may spell it with: (op, inputs,
# output, attributes); constants by name.
Spelling = tuple[list[tuple[str, list[str], str, dict[str, Any]]], dict[str, float]]
_SIGMOID: Any = ("Sigmoid", ["x"], "s", {})
_ERF: Any = [
    ("Div", ["x", "root"], "a", {}),
    ("Erf", ["a"], "b", {}),
    ("Add", ["b", "one"], "c", {}),
]
FUNCTIONS: dict[str, tuple[Elementwise, list[Spelling]]] = {
    "Relu": (ops.Relu(), [([("Relu", ["x"], "y", {})], {})]),
    "LeakyRelu": (
        ops.LeakyRelu(float(F(0.3))),
        [([("LeakyRelu", ["x"], "y", {"alpha": 0.3})], {})],
    ),
    "PRelu": (
        ops.PRelu(np.array(0.3, F)),
        [([("PRelu", ["x", "a"], "y", {})], {"a": 0.3})],
    ),
    "Clip": (ops.Clip(-1.0, 6.0), [([("Clip", ["x", "a", "b"], "y", {})], {"a": -1.0, "b": 6.0})]),
    "Abs": (ops.Abs(), [([("Abs", ["x"], "y", {})], {})]),
    "Sign": (ops.Sign(), [([("Sign", ["x"], "y", {})], {})]),
    "HardSigmoid": (
        ops.HardSigmoid(float(F(0.2)), 0.5),
        [([("HardSigmoid", ["x"], "y", {})], {})],
    ),
    "HardSwish": (
        ops.HardSwish(),
        [
            ([("HardSwish", ["x"], "y", {})], {}),
            (
                [
                    ("Add", ["x", "three"], "a", {}),
                    ("Clip", ["a", "zero", "six"], "b", {}),
                    ("Mul", ["x", "b"], "c", {}),
                    ("Div", ["c", "six"], "y", {}),
                ],
                {"three": 3.0, "zero": 0.0, "six": 6.0},
            ),
        ],
    ),
    "Sigmoid": (ops.Sigmoid(), [([("Sigmoid", ["x"], "y", {})], {})]),
    "Tanh": (ops.Tanh(), [([("Tanh", ["x"], "y", {})], {})]),
    "Elu": (ops.Elu(1.5), [([("Elu", ["x"], "y", {"alpha": 1.5})], {})]),
    "Softplus": (
        ops.Softplus(),
        [
            ([("Softplus", ["x"], "y", {})], {}),
            (
                [
                    ("Exp", ["x"], "a", {}),
                    ("Add", ["a", "one"], "b", {}),
                    ("Log", ["b"], "y", {}),
                ],
                {"one": 1.0},
            ),
        ],
    ),
    "Exp": (ops.Exp(), [([("Exp", ["x"], "y", {})], {})]),
    "Log": (ops.Log(), [([("Log", ["x"], "y", {})], {})]),
    "Sqrt": (ops.Sqrt(), [([("Sqrt", ["x"], "y", {})], {})]),
    "Reciprocal": (ops.Reciprocal(), [([("Reciprocal", ["x"], "y", {})], {})]),
    "Pow 2": (ops.Pow(2.0), [([("Pow", ["x", "p"], "y", {})], {"p": 2.0})]),
    "Pow 3": (ops.Pow(3.0), [([("Pow", ["x", "p"], "y", {})], {"p": 3.0})]),
    "Pow 1.5": (ops.Pow(1.5), [([("Pow", ["x", "p"], "y", {})], {"p": 1.5})]),
    "Pow 0.5": (ops.Pow(0.5), [([("Pow", ["x", "p"], "y", {})], {"p": 0.5})]),
    "Pow -2": (ops.Pow(-2.0), [([("Pow", ["x", "p"], "y", {})], {"p": -2.0})]),
    "Pow -0.5": (ops.Pow(-0.5), [([("Pow", ["x", "p"], "y", {})], {"p": -0.5})]),
    "Erf": (ops.Erf(), [([("Erf", ["x"], "y", {})], {})]),
    "Gelu": (
        ops.Gelu(),
        [
            ([("Gelu", ["x"], "y", {})], {}),
            (
                [*_ERF, ("Mul", ["x", "c"], "d", {}), ("Mul", ["d", "half"], "y", {})],
                {"root": float(F(2**0.5)), "one": 1.0, "half": 0.5},
            ),
        ],
    ),
    "Gelu tanh": (
        ops.Gelu("tanh"),
        [
            ([("Gelu", ["x"], "y", {"approximate": "tanh"})], {}),
            (
                [
                    ("Pow", ["x", "three"], "a", {}),
                    ("Mul", ["a", "k"], "b", {}),
                    ("Add", ["x", "b"], "c", {}),
                    ("Mul", ["c", "r"], "d", {}),
                    ("Tanh", ["d"], "e", {}),
                    ("Add", ["e", "one"], "f", {}),
                    ("Mul", ["x", "half"], "g", {}),
                    ("Mul", ["g", "f"], "y", {}),
                ],
                {"three": 3.0, "k": 0.044715, "r": (2 / np.pi) ** 0.5, "one": 1.0, "half": 0.5},
            ),
        ],
    ),
    "Silu": (ops.Silu(), [([_SIGMOID, ("Mul", ["x", "s"], "y", {})], {})]),
    "Sin": (ops.Sin(), [([("Sin", ["x"], "y", {})], {})]),
    "Cos": (ops.Cos(), [([("Cos", ["x"], "y", {})], {})]),
    **{
        name: (ops.TABLE[name](), [([(name, ["x"], "y", {})], {})])
        for name in (
            *("Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"),
            *("Floor", "Ceil", "Round"),
        )
    },
}
_NUMPY = {"Asin": "arcsin", "Acos": "arccos", "Atan": "arctan", "Asinh": "arcsinh",
          "Acosh": "arccosh", "Atanh": "arctanh"}  # fmt: skip
"""Names in which torch and jax differ from ONNX, in lower case otherwise."""


def grid() -> Array:
    """Float32 numbers of both signs: dense about 0 to 100, every exponent, the range's ends."""
    rng = np.random.default_rng(11)
    every = 2.0 ** np.arange(-149, 128)
    parts = [
        np.linspace(0, 2, 20001),
        np.linspace(2, 30, 20001),
        np.linspace(30, 110, 5001),
        every,
        (every[None] * rng.uniform(1, 2, (40, 1))).ravel(),
        [0.0, FLOAT32_MAX, 88.0, 88.72, 88.73, 103.9, 104.0, 18.0, 17.99, 9.0],
    ]
    with np.errstate(all="ignore"):
        positive = np.concatenate(parts).astype(F)
    positive = positive[np.isfinite(positive)]
    return np.concatenate((positive, -positive))


def share(op: Elementwise, x: Array, y: Array, flushes: bool = False) -> tuple[float, float]:
    """Largest error as a share of the assumed one, and where; both float32 results at float32 x.

    Points outside the domain, and points of which the guarantee claims nothing, are left out; NaN
    or an infinity elsewhere is an infinite error. A runtime that ``flushes`` subnormal numbers is
    outside the guarantee; it is measured where flushing changes nothing but that.
    """
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        value = op.function(wide)
        low, high = op.interval(wide, wide)
        noise = op.float32_noise(wide, wide, low, high)
        reach = np.maximum(abs(low - noise), abs(high + noise))
        asked = np.isfinite(value) & (reach <= FLOAT32_MAX / 2) & (value != np.inf)
        asked &= op.float32_peak(abs(wide)) * 1.01 <= FLOAT32_MAX
        if flushes:
            asked, noise = asked & ~((x != 0) & (abs(wide) < NORMAL)), noise + NORMAL
        error = abs(y.astype(np.float64) - value) + VALUE_ERROR * abs(value)
        ratio = np.where(error <= VALUE_ERROR * abs(value), 0.0, error / noise)
    ratio = np.where(asked, np.where(np.isnan(ratio), np.inf, ratio), 0.0)
    worst = int(ratio.argmax())
    return float(ratio[worst]), float(x[worst])


def runtimes(name: str) -> Iterator[tuple[str, Function]]:
    """Every runtime present and every way in which it can be asked for the function ``name``."""
    op, spellings = FUNCTIONS[name]
    for k, spelling in enumerate(spellings):
        yield f"onnxruntime{' spelled' * k}", onnxruntime_function(spelling)
    yield "numpy", numpy_function(op)
    for runtime, module, made in (("torch", "torch", torch_function), ("XLA", "jax", xla_function)):
        if importlib.util.find_spec(module):
            yield runtime, made(name)


def onnxruntime_function(spelling: Spelling) -> Function:
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = spelling
    graph = helper.make_graph(
        [helper.make_node(op, i, [o], **a) for op, i, o, a in nodes],
        "f",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.array(v, F), k) for k, v in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    data = made.SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(None, {"x": x})[0])


def numpy_function(op: Elementwise) -> Function:
    """The record's own formula in float32 (erf and GELU are float64 in it: rounded at the end)."""
    return lambda x: np.asarray(op.forward(x), F)


def torch_function(name: str) -> Function:
    import torch
    from torch.nn import functional as nn

    exponent = float(name.split()[1]) if name.startswith("Pow") else 1.0
    known: dict[str, Any] = {
        "Relu": nn.relu,
        "LeakyRelu": lambda x: nn.leaky_relu(x, 0.3),
        "PRelu": lambda x: nn.prelu(x, torch.tensor([0.3])),
        "Clip": lambda x: torch.clamp(x, -1.0, 6.0),
        "Abs": torch.abs,
        "Sign": torch.sign,
        "HardSigmoid": lambda x: torch.clamp(x * 0.2 + 0.5, 0, 1),
        "HardSwish": nn.hardswish,
        "Sigmoid": torch.sigmoid,
        "Tanh": torch.tanh,
        "Elu": lambda x: nn.elu(x, 1.5),
        "Softplus": nn.softplus,
        "Exp": torch.exp,
        "Log": torch.log,
        "Sqrt": torch.sqrt,
        "Reciprocal": torch.reciprocal,
        "Erf": torch.erf,
        "Gelu": nn.gelu,
        "Gelu tanh": lambda x: nn.gelu(x, approximate="tanh"),
        "Silu": nn.silu,
        "Sin": torch.sin,
        "Cos": torch.cos,
    }
    known |= {op: getattr(torch, op.lower()) for op in ops.TABLE if hasattr(torch, op.lower())
              and op not in known and issubclass(ops.TABLE[op], Elementwise)}  # fmt: skip
    function = known.get(name, lambda x: torch.pow(x, exponent))
    return lambda x: function(torch.from_numpy(x)).numpy()


def xla_function(name: str) -> Function:
    import jax
    from jax import numpy as jnp

    exponent = float(name.split()[1]) if name.startswith("Pow") else 1.0
    known: dict[str, Any] = {
        "Relu": jax.nn.relu,
        "LeakyRelu": lambda x: jax.nn.leaky_relu(x, 0.3),
        "PRelu": lambda x: jnp.where(x >= 0, x, F(0.3) * x),
        "Clip": lambda x: jnp.clip(x, -1.0, 6.0),
        "Abs": jnp.abs,
        "Sign": jnp.sign,
        "HardSigmoid": lambda x: jnp.clip(x * F(0.2) + F(0.5), 0, 1),
        "HardSwish": jax.nn.hard_swish,
        "Sigmoid": jax.nn.sigmoid,
        "Tanh": jnp.tanh,
        "Elu": lambda x: jax.nn.elu(x, 1.5),
        "Softplus": jax.nn.softplus,
        "Exp": jnp.exp,
        "Log": jnp.log,
        "Sqrt": jnp.sqrt,
        "Reciprocal": lambda x: F(1) / x,
        "Erf": jax.lax.erf,
        "Gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "Gelu tanh": lambda x: jax.nn.gelu(x, approximate=True),
        "Silu": jax.nn.silu,
        "Sin": jnp.sin,
        "Cos": jnp.cos,
    }
    for op in set(FUNCTIONS) - set(known):
        found = getattr(jnp, _NUMPY.get(op, op.lower()), None)
        if op in ops.TABLE and found is not None:
            known[op] = found
    function = jax.jit(known.get(name, lambda x: x ** F(exponent)))
    return lambda x: np.asarray(function(x))


def main() -> int:
    """Print the table; status 1 when an assumption is false."""
    x, worst = grid(), 0.0
    for name, (op, _) in FUNCTIONS.items():
        found = []
        with np.errstate(all="ignore"):
            for runtime, function in runtimes(name):
                ratio, at = share(op, x, function(x), runtime in FLUSHING)
                worst = max(worst, ratio)
                found.append(f"{runtime} {ratio:.2g}" + (f" at {at:.9g}" if ratio > 1 else ""))
        first, second, third = (f"{e:.2g}" for e in op.float32_error)
        print(f"| {name} | {first} | {second} | {third} | {' | '.join(found)} |", flush=True)
    return int(worst > 1)


if __name__ == "__main__":
    sys.exit(main())
