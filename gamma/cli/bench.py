"""``gamma bench``: the short bench, for users: this machine's limits and typical networks.

The networks are made here from a seed, in the sizes people verify, so the figures need no files and
compare between machines; every result is checked against the network's values at sampled points.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np

from gamma.cli.measuring import Machine, describe_machine, measure_machine, timed
from gamma.cli.output import note
from gamma.errors import InternalError
from gamma.frozen import Frozen
from gamma.network.graph import Builder, Network
from gamma.tensor.box import Box
from gamma.verification.choices import METHODS

SCHEMA = "gamma.bench/1"


class Case(Frozen, eq=True):
    """One network and its boxes."""

    name: str
    network: Network
    box: Box


def dense_network(sizes: tuple[int, ...], seed: int = 0) -> Network:
    """A ReLU network with the layer ``sizes``, weights as initialised for training."""
    from gamma.ops import Gemm, Input, Relu

    rng = np.random.default_rng(seed)
    builder = Builder(Input(), (sizes[0],))
    last = 0
    for index, (wide, high) in enumerate(zip(sizes, sizes[1:], strict=False)):
        last = builder.add(Relu(), last) if index else last
        weight = rng.standard_normal((high, wide)) * np.sqrt(2 / wide)
        bias = rng.standard_normal(high) * 0.1
        last = builder.add(Gemm(weight.astype(np.float32), bias.astype(np.float32)), last)
    return builder.build(last)


def image_network(size: int, channels: tuple[int, ...], seed: int = 0) -> Network:
    """A convolutional ReLU network on images of ``size``, every layer with stride 2; 10 outputs."""
    from gamma.ops import Conv, Gemm, Input, Relu, Reshape

    rng = np.random.default_rng(seed)
    builder = Builder(Input(), (channels[0], size, size))
    last = 0
    for wide, high in zip(channels, channels[1:], strict=False):
        weight = rng.standard_normal((high, wide, 4, 4)) * np.sqrt(2 / (16 * wide))
        kernel = weight.astype(np.float32), np.zeros(high, np.float32)
        last = builder.add(Conv(*kernel, strides=(2, 2), pads=(1, 1, 1, 1)), last)
        last = builder.add(Relu(), last)
    flat = builder.nodes[last].size
    last = builder.add(Reshape((flat,)), last)
    weight = (rng.standard_normal((10, flat)) / np.sqrt(flat)).astype(np.float32)
    return builder.build(builder.add(Gemm(weight, np.zeros(10, np.float32)), last))


def cases() -> list[Case]:
    """The short form: a controller, a dense classifier (alone and batched), a small image net."""
    rng = np.random.default_rng(1)
    small = dense_network((5, 50, 50, 50, 50, 50, 50, 5))
    dense = dense_network((784, 256, 256, 256, 256, 10))
    image = image_network(32, (3, 16, 32))

    def around(network: Network, radius: float, batch: int = 1) -> Box:
        x = rng.random((batch, *network.input_shape))
        return Box.linf(x, radius, clip=(0, 1))

    return [
        Case("controller 6×50", small, around(small, 0.02)),
        Case("dense 4×256", dense, around(dense, 0.002)),
        Case("dense 4×256, 32 boxes", dense, around(dense, 0.002, 32)),
        Case("image 32×32, 2 convolutions", image, around(image, 0.002)),
    ]


def check(case: Case, lower: Any, upper: Any) -> None:
    """Raise InternalError when a sampled point of a box has an output outside its bounds."""
    rng = np.random.default_rng(2)
    shape = (4, *case.box.shape)
    points = case.box.lower + rng.random(shape) * (case.box.upper - case.box.lower)
    points = np.clip(points, case.box.lower, case.box.upper)
    for point in points:
        y = case.network.forward(point, np.float64)
        slack = 1e-9 * (1 + abs(y))
        if not ((lower - slack <= y).all() and (y <= upper + slack).all()):
            raise InternalError(f"bench {case.name}: an output lies outside its bounds")


def measure(machine: Machine, seconds: float) -> list[dict[str, Any]]:
    """One record per case and method."""
    from gamma.propagate import bounds

    # Method alpha is many walks of crown's: its time says nothing new about a machine.
    methods = [name for name in METHODS if name != "alpha"]
    todo = [(case, method) for case in cases() for method in methods]
    records = []
    for case, method in todo:
        found = bounds(case.network, case.box, method=method)
        check(case, found.lower, found.upper)

        def call(case: Case = case, method: str = method) -> object:
            return bounds(case.network, case.box, method=method)

        timing = timed(call, seconds / len(todo))
        records.append(
            {
                "case": case.name,
                "method": method,
                "neurons": sum(node.size for node in case.network.nodes[1:]),
                "parameters": case.network.parameters,
                "boxes": len(case.box.lower),
                "width": float(np.mean(found.upper.astype(float) - found.lower)),
                **timing.to_dict(),
            }
        )
    return records


def run(args: argparse.Namespace) -> int:
    """Measure, print the table or JSON, return 0."""
    from gamma.verification.verdict import limited_threads

    with limited_threads(args.threads):
        if sys.stderr.isatty():
            note(f"measuring for about {args.seconds:g} s ...")
        machine = measure_machine(args.seconds / 20)
        records = measure(machine, args.seconds * 0.75)
        about = describe_machine()
    if args.json:
        found = {"schema": SCHEMA, "environment": about, "machine": machine.to_dict()}
        print(json.dumps({**found, "records": records}, indent=2))
        return 0
    print("\n".join(table(about, machine, records)))
    return 0


def table(about: dict[str, Any], machine: Machine, records: list[dict[str, Any]]) -> list[str]:
    """The report's lines."""
    from gamma.cli import picture

    rows = [
        (
            record["case"],
            record["method"],
            f"{record['best'] * 1e3:.3g}",
            f"{record['median'] * 1e3:.3g}",
            f"{record['cpu'] * 1e3:.3g}",
            f"{record['boxes'] / record['best']:,.0f}",
        )
        for record in records
    ]
    head = ("network", "method", "best ms", "median", "cpu", "boxes/s")
    return [
        f"{about['processor']}, {about['threads']} BLAS threads, {about['isa']}, {about['blas']}",
        f"copy {machine.copy / 1e9:.1f} GB/s   product float32 {machine.gemm32 / 1e9:.0f} GFLOP/s"
        f"   float64 {machine.gemm64 / 1e9:.0f} GFLOP/s   kernel call {machine.call * 1e6:.2g} µs",
        "",
        *picture.table(rows, head, (False, False, True, True, True, True)),
    ]
