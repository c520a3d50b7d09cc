"""Memory of streamed walks: peaks of processes next to the formula.

    python -m benches.streaming                      the table of docs/memory.md (some minutes)
    python -m benches.streaming --large              its table of a 2 GB file in 300 MB
    python -m benches.streaming --shortened          what shortened bounds save and lose
    python -m benches.streaming [...] --docs         and write it there
    python -m benches.streaming --make FILE LAYERS WIDTH
    python -m benches.streaming --measure FILE METHOD INTERVAL F16 [LIMIT [BOXES]]   one JSON record

INTERVAL 0 is the ordinary walk. Every measurement is a process of its own: the highest resident
memory above what the imports took.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

SHORTENED = (
    "mnist_fc_256x2_p0_0.03",
    "mnist_fc_256x4_p0_0.05",
    "mnist_fc_256x6_p0_0.03",
    "oval21_base",
    "oval21_deep",
    "oval21_wide",
)
ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "memory.md"


def shapes_of(layers: int, width: int) -> list[tuple[int, int]]:
    return [(width, 16), *[(width, width)] * (layers - 2), (4, width)]


def write_weights(file: BinaryIO, shapes: list[tuple[int, int]]) -> None:
    """Weight and bias of each layer, a few rows in memory at a time."""
    import numpy as np

    rng = np.random.default_rng(0)
    for m, n in shapes:
        scale = np.float32(0.06 / n**0.5)
        for start in range(0, m, 256):
            rows = min(256, m - start)
            file.write((rng.standard_normal((rows, n), np.float32) * scale).tobytes())
        file.write(np.full(m, 0.01, np.float32).tobytes())


def make(path: Path, layers: int, width: int) -> None:
    """A dense ReLU network: a state_dict, or for .onnx a graph with external data beside it."""
    shapes = shapes_of(layers, width)
    if path.suffix == ".onnx":
        with path.with_suffix(".data").open("wb") as file:
            write_weights(file, shapes)
        path.write_bytes(onnx_graph(path.with_suffix(".data").name, shapes))
        return
    entries: dict[str, Any] = {}
    at = 0
    for k, (m, n) in enumerate(shapes):
        for name, shape in ((f"{k:03}.weight", [m, n]), (f"{k:03}.bias", [m])):
            size = 4 * math.prod(shape)
            entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
            at += size
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 64 + 56)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        write_weights(file, shapes)


def onnx_graph(location: str, shapes: list[tuple[int, int]]) -> bytes:
    """Gemm with the weight as PyTorch writes it, and every other layer MatMul and Add."""
    from onnx import TensorProto, helper

    nodes, tensors, at, last = [], [], 0, "x"
    for k, (m, n) in enumerate(shapes):
        # The same bytes serve both: the networks only have to be of that size.
        plain = k % 2 == 1
        for name, dims in ((f"w{k}", [n, m] if plain else [m, n]), (f"b{k}", [m])):
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
            tensor.data_location = TensorProto.EXTERNAL
            size = 4 * math.prod(dims)
            for key, value in (("location", location), ("offset", at), ("length", size)):
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
            at += size
        if plain:
            nodes.append(helper.make_node("MatMul", [last, f"w{k}"], [f"m{k}"]))
            nodes.append(helper.make_node("Add", [f"m{k}", f"b{k}"], [f"y{k}"]))
        else:
            nodes.append(helper.make_node("Gemm", [last, f"w{k}", f"b{k}"], [f"y{k}"], transB=1))
        last = f"y{k}"
        if k + 1 < len(shapes):
            nodes.append(helper.make_node("Relu", [last], [f"r{k}"]))
            last = f"r{k}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name, size in (("x", shapes[0][1]), (last, shapes[-1][0]))
    ]
    graph = helper.make_graph(nodes, "dense", ends[:1], ends[1:], tensors)
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def measure(path: Path, method: str, interval: int, f16: bool, limit: int, boxes: int) -> Any:
    """Peak, time and mean width of one call, in this process."""
    import numpy as np
    import onnx  # noqa: F401  an ONNX file imports it

    import gamma
    import gamma.architectures.mlp
    import gamma.formats.onnx
    import gamma.formats.safetensors
    import gamma.propagate
    from benches.memory import peak_of, resident
    from gamma.propagate import StreamingConfig, StreamingVerifier

    base = resident()

    def call() -> Any:
        options = {} if path.suffix == ".onnx" else {"activation": "relu"}
        network = gamma.load(path, **options)
        x = np.random.default_rng(1).random((boxes, 16))
        region = gamma.Box.linf(x, 0.001)
        config = None
        if interval:
            config = StreamingConfig(
                checkpoint_interval=interval, use_f16_checkpoints=f16, max_memory_bytes=limit
            )
        started = time.perf_counter()
        found = gamma.bounds(network, region, method=method, streaming=config)
        seconds = time.perf_counter() - started
        plan = None
        if config is not None:
            plan = StreamingVerifier(config).plan(network, boxes, method)
        return found, seconds, plan

    (found, seconds, plan), peak = peak_of(call)
    width = found.upper.astype(np.float64) - found.lower
    return {
        "peak": None if peak is None else peak - base,
        "predicted": None if plan is None else plan.predicted,
        "parts": None if plan is None else plan.parts,
        "seconds": seconds,
        "width": float(width.mean()),
        "finite": bool(np.isfinite(width).all()),
    }


def child(path: Path, method: str, interval: int, f16: bool, limit: int = 0, boxes: int = 1) -> Any:
    """`measure` in a process of its own."""
    flags = [str(path), method, str(interval), str(int(f16)), str(limit), str(boxes)]
    done = subprocess.run(
        [sys.executable, "-m", "benches.streaming", "--measure", *flags],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    return json.loads(done.stdout)


def table(folder: Path) -> Iterator[str]:
    """Interval and form of the checkpoints by depth: peak, share, formula, time, width."""
    yield "| layers | checkpoints | peak MB | of full | predicted MB | time | × full | wider |"
    yield "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for layers in (20, 100):
        path = folder / f"{layers}.safetensors"
        make(path, layers, 512)
        boxes = 256
        full = child(path, "crown-ibp", 0, False, boxes=boxes)
        yield (
            f"| {layers} | full storage | {full['peak'] / 1e6:.0f} | 100 % | | "
            f"{full['seconds']:.2f} s | 1.00 | |"
        )
        for interval in (1, 5, 10, 50):
            for f16 in (False, True):
                found = child(path, "crown-ibp", interval, f16, boxes=boxes)
                form = f"every {interval}, {'shortened' if f16 else 'exact'}"
                yield (
                    f"| {layers} | {form} | {found['peak'] / 1e6:.0f} | "
                    f"{found['peak'] / full['peak']:.0%} | {found['predicted'] / 1e6:.0f} | "
                    f"{found['seconds']:.2f} s | {found['seconds'] / full['seconds']:.2f} | "
                    f"{found['width'] / full['width'] - 1:.1e} |"
                )


def shortened(shared: Path) -> Iterator[str]:
    """What shortened bounds save and lose on the networks of the benchmarks."""
    yield "| network | method | bytes | of float32 | wider |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for name in SHORTENED:
        for method in ("crown-ibp", "crown"):
            found = loss_of(shared, name, method, 1)
            yield (
                f"| {name} | {method} | {found['bytes']} | "
                f"{found['bytes'] / found['single']:.0%} | {found['wider']:.1e} |"
            )


def loss_of(shared: Path, name: str, method: str, interval: int) -> dict[str, float]:
    """Bytes of shortened bounds, of the same in float32, and the growth of the output's width."""
    import numpy as np

    import gamma
    from benches.cases import case
    from gamma.ops import Linear
    from gamma.propagate import StreamingConfig
    from gamma.propagate.memory.store import CheckpointedBounds
    from gamma.propagate.memory.streaming import streamed_walk
    from gamma.propagate.options import Options

    found = case(name, shared)
    network, shape = found.network, found.network.input_shape
    box = gamma.Box(found.lower.reshape(shape), found.upper.reshape(shape))
    config = StreamingConfig(checkpoint_interval=interval, use_f16_checkpoints=True)
    widths = []
    for streaming in (None, config):
        out = gamma.bounds(network, box, method=method, streaming=streaming)
        widths.append(float((out.upper.astype(np.float64) - out.lower).mean()))
    walk = streamed_walk(network, box.batched(shape), Options(method=method), config)
    if isinstance(walk.bounds, CheckpointedBounds):
        kept = walk.bounds.ends[1:-1]
        held = walk.bounds.nbytes - walk.bounds._kept[0].nbytes
    else:
        kept = list(range(1, network.output))
        held = walk.bounds.nbytes - walk.bounds._packed[0].nbytes
    single = 0
    for index in kept:
        op = network.nodes[index].op
        single += network.nodes[index].size * (20 if isinstance(op, Linear) and not op.moves else 8)
    return {"bytes": held, "single": single, "wider": widths[1] / widths[0] - 1}


def large(folder: Path) -> Iterator[str]:
    """IBP and CROWN-IBP of a 2 GB file within 300 MB."""
    path, limit = folder / "large.safetensors", 300_000_000
    make(path, 32, 4096)
    yield (
        f"A file of {path.stat().st_size / 1e9:.2f} GB (32 layers of 4096, float32), one box, "
        f"limit {limit / 1e6:.0f} MB:"
    )
    yield ""
    yield "| method | peak MB | predicted MB | time |"
    yield "| --- | ---: | ---: | ---: |"
    for method in ("ibp", "crown-ibp"):
        found = child(path, method, 10, False, limit)
        yield (
            f"| {method} | {found['peak'] / 1e6:.0f} | {found['predicted'] / 1e6:.0f} | "
            f"{found['seconds']:.1f} s |"
        )


def write(name: str, lines: list[str]) -> None:
    """Put ``lines`` into the page, between the marks of that name."""
    start, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
    before, rest = PAGE.read_text().split(start)
    after = rest.split(end)[1]
    PAGE.write_text(f"{before}{start}\n\n" + "\n".join(lines) + f"\n\n{end}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--make", nargs=3, metavar=("FILE", "LAYERS", "WIDTH"))
    parser.add_argument("--measure", nargs="+")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--shortened", action="store_true")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--docs", action="store_true")
    args = parser.parse_args()
    if args.make:
        make(Path(args.make[0]), int(args.make[1]), int(args.make[2]))
    elif args.measure:
        path, method, interval, f16, *rest = args.measure
        limit, boxes = (int(v) for v in (*rest, *("0", "1")[len(rest) :]))
        print(json.dumps(measure(Path(path), method, int(interval), f16 == "1", limit, boxes)))
    else:
        name = "large" if args.large else "shortened" if args.shortened else "streaming"
        with tempfile.TemporaryDirectory() as folder:
            made = {"large": large, "streaming": table}.get(name)
            lines = list(made(Path(folder)) if made else shortened(args.shared))
        print("\n".join(lines))
        if args.docs:
            write(name, lines)
    return 0


if __name__ == "__main__":
    from gamma.runtime import heap

    heap.own()
    sys.exit(main())
