"""Certified bounds on the outputs of neural networks.

    net = gamma.load("model.onnx")                      a network, from the file people have
    box = gamma.Box.linf(x, 0.01, clip=(0, 1))          a set of inputs (also .l2, .l1, Box(lo, hi))
    out = gamma.bounds(net, box, method="crown")        a BoundedTensor that encloses every output
    prop = gamma.read_vnnlib("prop.vnnlib")             a property, or robustness(box, label=3)
    res = gamma.verify(net, prop, timeout=60)           a Result with a three-valued verdict
    gamma.verify("model.onnx", ["a.vnnlib", ...])       several, from files
    gamma.certified_radius(net, x, label=3)             how far x may move, proved and refuted
    gamma.certified_accuracy(net, xs, labels, 0.01)     of a labelled set
    gamma.layer_bounds(net, box)                        every layer: a mapping and a table
    gamma.linear_bounds(net, box, at="input")           A·x + b below and above the outputs
    gamma.gradients(net, box)                           of bounds in centre, radius and slopes
    gamma.attack(net, prop)                             the search for a witness alone
    gamma.plot(out)                                     a picture of bounds, layers or a result
    net = gamma.from_torch(module, example)             through torch's own ONNX exporter
    gamma.save(net, "model.safetensors")
    model = gamma.open_model("folder or .gguf")         a language model: .embed(ids), .network(n)
    res = gamma.cosine(net, box, 0.99)                  outputs that point where the centre's does
    ext = gamma.extremes(net, box, gap=0.01)            every output's range, proved and reached
    ovf = gamma.overflow(net, box, "float16")           whether it can overflow in few bits
    rng = gamma.ranges(model)                           every activation's range, for every prompt

Every bound is sound in floating point. Names are imported on first use: ``import gamma`` is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gamma import deferred

if TYPE_CHECKING:
    from gamma.architectures.model import Model as Model
    from gamma.drawing import Drawing as Drawing
    from gamma.errors import FormatError as FormatError
    from gamma.errors import GammaError as GammaError
    from gamma.errors import InternalError as InternalError
    from gamma.errors import PropertyError as PropertyError
    from gamma.errors import ResourceError as ResourceError
    from gamma.errors import UnsupportedError as UnsupportedError
    from gamma.errors import UsageError as UsageError
    from gamma.formats.detect import load as load
    from gamma.formats.model import open_model as open_model
    from gamma.formats.save import save as save
    from gamma.formats.torch import from_torch as from_torch
    from gamma.formats.vnnlib import read_vnnlib as read_vnnlib
    from gamma.network.graph import Network as Network
    from gamma.network.property import LinearConstraint as LinearConstraint
    from gamma.network.property import Property as Property
    from gamma.network.property import Region as Region
    from gamma.network.property import robustness as robustness
    from gamma.propagate.api import bounds as bounds
    from gamma.propagate.gradients import BoundGradients as BoundGradients
    from gamma.propagate.gradients import gradients as gradients
    from gamma.propagate.layers import LayerBounds as LayerBounds
    from gamma.propagate.layers import layer_bounds as layer_bounds
    from gamma.propagate.linear import LinearBounds as LinearBounds
    from gamma.propagate.linear import linear_bounds as linear_bounds
    from gamma.tensor.bounded import BoundedTensor as BoundedTensor
    from gamma.tensor.box import Box as Box
    from gamma.verification.accuracy import Accuracy as Accuracy
    from gamma.verification.accuracy import certified_accuracy as certified_accuracy
    from gamma.verification.cosine import cosine as cosine
    from gamma.verification.extremes import Extremes as Extremes
    from gamma.verification.extremes import extremes as extremes
    from gamma.verification.overflow import Overflow as Overflow
    from gamma.verification.overflow import overflow as overflow
    from gamma.verification.plotting import plot as plot
    from gamma.verification.radius import Radius as Radius
    from gamma.verification.radius import certified_radius as certified_radius
    from gamma.verification.ranges import Ranges as Ranges
    from gamma.verification.ranges import ranges as ranges
    from gamma.verification.result import Counterexample as Counterexample
    from gamma.verification.result import Result as Result
    from gamma.verification.search import attack as attack
    from gamma.verification.verdict import verify as verify

__version__ = "0.1.0"

_HOME = {
    "load": "gamma.formats.detect",
    "LayerBounds": "gamma.propagate.layers",
    "layer_bounds": "gamma.propagate.layers",
    "BoundGradients": "gamma.propagate.gradients",
    "gradients": "gamma.propagate.gradients",
    "Accuracy": "gamma.verification.accuracy",
    "certified_accuracy": "gamma.verification.accuracy",
    "Radius": "gamma.verification.radius",
    "certified_radius": "gamma.verification.radius",
    "attack": "gamma.verification.search",
    "Drawing": "gamma.drawing",
    "plot": "gamma.verification.plotting",
    "from_torch": "gamma.formats.torch",
    "Model": "gamma.architectures.model",
    "open_model": "gamma.formats.model",
    "save": "gamma.formats.save",
    "read_vnnlib": "gamma.formats.vnnlib",
    "Network": "gamma.network.graph",
    "LinearConstraint": "gamma.network.property",
    "Property": "gamma.network.property",
    "Region": "gamma.network.property",
    "robustness": "gamma.network.property",
    "LinearBounds": "gamma.propagate.linear",
    "bounds": "gamma.propagate.api",
    "linear_bounds": "gamma.propagate.linear",
    "BoundedTensor": "gamma.tensor.bounded",
    "Box": "gamma.tensor.box",
    "Counterexample": "gamma.verification.result",
    "cosine": "gamma.verification.cosine",
    "Extremes": "gamma.verification.extremes",
    "extremes": "gamma.verification.extremes",
    "Overflow": "gamma.verification.overflow",
    "overflow": "gamma.verification.overflow",
    "Ranges": "gamma.verification.ranges",
    "ranges": "gamma.verification.ranges",
    "Result": "gamma.verification.result",
    "verify": "gamma.verification.verdict",
    **dict.fromkeys(
        (
            "FormatError",
            "GammaError",
            "InternalError",
            "PropertyError",
            "ResourceError",
            "UnsupportedError",
            "UsageError",
        ),
        "gamma.errors",
    ),
}

__all__ = sorted(_HOME)


__getattr__ = deferred.names(__name__, _HOME)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
