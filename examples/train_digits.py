"""Train the shipped digits networks and write everything in examples/digits.

    python examples/train_digits.py [--output FOLDER] [--epochs N]

Data: scikit-learn's 1797 handwritten digits (8 x 8 pixels, 0..16, scaled to [0, 1]), 1437 for
training and 360 for testing. Networks: an MLP 64-64-32-10 and a CNN of two convolutions and one
affine layer, trained against small adversarial perturbations. Written: both networks as safetensors
(graph spelled out) and ONNX, one correctly classified test image per digit, and robustness
properties in VNN-LIB. Seeded: the same machine and NumPy give the same bytes.
"""

from __future__ import annotations

import argparse
import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
from digits_training import Affine, Array, Classifier, attack, cnn, mlp, train
from onnx import TensorProto, helper, numpy_helper

import gamma
from gamma.network.graph import Builder, Network
from gamma.ops import Conv, Gemm, Input, Relu, Reshape

TRAINED_RADIUS = 0.1
EPSILONS = ("0.01", "0.03", "0.05", "0.1")
TIMEOUT = 60  # seconds per instance


def load_images() -> tuple[Array, np.ndarray, Array, np.ndarray]:
    """Training images (n, 1, 8, 8) and labels, then the test images and labels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16.0)[:, None]
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    cut = 4 * len(images) // 5
    first, second = order[:cut], order[cut:]
    return images[first], labels[first], images[second], labels[second]


def to_gamma(net: Classifier) -> Network:
    """The trained network in float32, as gamma's graph."""
    builder = Builder(Input(), (1, 8, 8), "image")
    at = 0
    for number, layer in enumerate(net.layers, start=1):
        weight, bias = layer.weight.astype(np.float32), layer.bias.astype(np.float32)
        if isinstance(layer, Affine):
            if len(builder.nodes[at].shape) > 1:
                at = builder.add(Reshape((weight.shape[1],)), at, name="flatten")
            at = builder.add(Gemm(weight, bias), at, name=f"fc{number}")
        else:
            strides, pads = (layer.stride,) * 2, (layer.pad,) * 4
            at = builder.add(Conv(weight, bias, strides, pads), at, name=f"conv{number}")
        if number < len(net.layers):
            at = builder.add(Relu(), at, name=f"relu{number}")
    return builder.build(at)


def to_onnx(net: Classifier) -> onnx.ModelProto:
    """The same network as an ONNX model with a free batch axis."""
    nodes, weights, current = [], [], "image"
    for number, layer in enumerate(net.layers, start=1):
        kind = "fc" if isinstance(layer, Affine) else "conv"
        output = "scores" if number == len(net.layers) else f"{kind}{number}"
        names = [f"{kind}{number}.weight", f"{kind}{number}.bias"]
        for name, array in zip(names, (layer.weight, layer.bias), strict=True):
            weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        if isinstance(layer, Affine):
            if not any(node.op_type == "Flatten" for node in nodes):
                nodes.append(helper.make_node("Flatten", [current], ["flat"], axis=1))
                current = "flat"
            nodes.append(helper.make_node("Gemm", [current, *names], [output], transB=1))
        else:
            geometry = {"strides": [layer.stride] * 2, "pads": [layer.pad] * 4}
            nodes.append(helper.make_node("Conv", [current, *names], [output], **geometry))
        current = output
        if number < len(net.layers):
            nodes.append(helper.make_node("Relu", [current], [f"relu{number}"]))
            current = f"relu{number}"
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "digits", [image], [scores], weights)
    opset = helper.make_opsetid("", 13)
    model = helper.make_model(graph, opset_imports=[opset], producer_name="train_digits")
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def decimal(value: Fraction) -> str:
    """Exact decimal text; the pixels are multiples of 1/16, so it always ends."""
    text = f"{value.numerator * 10**8 // value.denominator:09d}"
    assert Fraction(int(text), 10**8) == value
    return f"{text[:-8]}.{text[-8:]}".rstrip("0").ljust(3, "0")


def vnnlib(image: Array, label: int, epsilon: str) -> str:
    """The unsafe set: some pixel values within epsilon for which another digit scores as high."""
    radius = Fraction(epsilon)
    lines = [
        f"; digit {label}: pixels may change by {epsilon} each and stay in [0, 1]",
        *(f"(declare-const X_{i} Real)" for i in range(64)),
        *(f"(declare-const Y_{i} Real)" for i in range(10)),
    ]
    for i, value in enumerate(image.ravel()):
        pixel = Fraction(float(value))
        lines.append(f"(assert (>= X_{i} {decimal(max(pixel - radius, Fraction(0)))}))")
        lines.append(f"(assert (<= X_{i} {decimal(min(pixel + radius, Fraction(1)))}))")
    others = " ".join(f"(and (>= Y_{i} Y_{label}))" for i in range(10) if i != label)
    return "\n".join([*lines, f"(assert (or {others}))", ""])


def write_images(folder: Path, networks: list[Classifier], x: Array, labels: np.ndarray) -> None:
    """One image per digit that every network classifies correctly, and its properties."""
    good = np.all([net.forward(x).argmax(1) == labels for net in networks], axis=0)
    (folder / "images").mkdir(exist_ok=True)
    (folder / "properties").mkdir(exist_ok=True)
    instances = []
    for label in range(10):
        usable = np.flatnonzero(good & (labels == label))
        if not usable.size:
            raise SystemExit(f"no image of a {label} is classified correctly: train for longer")
        image = x[usable[0]]
        np.save(folder / "images" / f"digit{label}.npy", image.astype(np.float32))
        for epsilon in EPSILONS:
            name = f"properties/digit{label}_eps{epsilon}.vnnlib"
            (folder / name).write_text(vnnlib(image, label, epsilon), encoding="ascii")
            instances += [(f"{net}.onnx", name, TIMEOUT) for net in ("mlp", "cnn")]
    with (folder / "instances.csv").open("w", encoding="ascii", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(sorted(instances))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the example networks on handwritten digits")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "digits")
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    folder: Path = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    x, labels, test_x, test_labels = load_images()
    networks = []
    for name, make, decay in (("mlp", mlp, 0.2), ("cnn", cnn, 0.2)):
        rng = np.random.default_rng(1)
        net = make(rng)
        train(net, x, labels, rng, epsilon=TRAINED_RADIUS, epochs=arguments.epochs, decay=decay)
        networks.append(net)
        rounded = to_gamma(net)
        gamma.save(rounded, folder / f"{name}.safetensors")
        (folder / f"{name}.onnx").write_bytes(to_onnx(net).SerializeToString(deterministic=True))
        print(f"{name}: {rounded.parameters} parameters", end="")
        print(f", test accuracy {net.accuracy(test_x, test_labels):.1%}", end="")
        for epsilon in (0.05, 0.1):
            moved = attack(net, test_x, test_labels, epsilon, 20, test_x)
            print(f", {net.accuracy(moved, test_labels):.1%} attacked at {epsilon}", end="")
        print()
    write_images(folder, networks, test_x, test_labels)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    print(f"wrote {folder}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
