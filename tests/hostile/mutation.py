"""Valid files changed by their own rules: in every one gamma finds an answer or raises GammaError.

    python -m tests.hostile.mutation [--seconds 60] [--seed 0]

The atheris targets in fuzz/ use the same changes.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from gamma.errors import GammaError
from gamma.formats import load
from gamma.formats.npy import read_npy
from gamma.formats.vnnlib import read_vnnlib
from tests.hostile import models, texts, weights

SLOW = 10  # seconds of the clock for one small file
NUMBERS = (0, 1, -1, 2, 7, 16, 17, 255, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1,
           -(1 << 63))  # fmt: skip
WORDS = (b"0", b"-1", b"1e400", b"1e-400", b"1e2001", b"9" * 40, b"9" * 5000, b"nan", b"(", b")",
         b"(and", b"(or", b"(<=", b"X_0", b"Y_0", b"Y_1", b"X[0]", b";", b"\n", b"\0",
         "é".encode())  # fmt: skip


def seeds() -> dict[str, list[bytes]]:
    """Small files of every format: the good ones, and what the hostile cases hold."""
    found: dict[str, list[bytes]] = {"onnx": [], "safetensors": [], "npy": [], "vnnlib": []}
    for case in (*models.cases(), *weights.cases(), *texts.cases()):
        if not case.quick:
            continue
        with tempfile.TemporaryDirectory() as folder:
            case.write(Path(folder))
            for kind, files in found.items():
                for path in sorted(Path(folder).glob(f"*.{kind}"))[:3]:
                    if path.is_file() and path.stat().st_size < 1 << 14:
                        files.append(path.read_bytes())
    return found


def changed(kind: str, data: bytes, rng: random.Random) -> bytes:
    """One to three changes of a file, by the rules of its format or of bytes."""
    for _ in range(rng.randint(1, 3)):
        rule = CHANGES[kind] if rng.random() < 0.7 else _bytes
        try:
            data = rule(data, rng)
        except (
            DecodeError,
            ValueError,
            KeyError,
            IndexError,
            TypeError,
        ):
            data = _bytes(data, rng)
    return data


def _bytes(data: bytes, rng: random.Random) -> bytes:
    """A byte, a piece repeated, moved or cut out."""
    if not data:
        return bytes(rng.randrange(256) for _ in range(8))
    start = rng.randrange(len(data))
    stop = min(len(data), start + rng.choice((1, 2, 8, 64)))
    piece = data[start:stop]
    return rng.choice((
        data[:start] + bytes([rng.randrange(256)]) + data[start + 1 :],
        data[:start] + piece * rng.choice((2, 3, 200)) + data[stop:],
        data[:start] + data[stop:],
        data[:start],
    ))  # fmt: skip


def _text(data: bytes, rng: random.Random) -> bytes:
    """Words of a property replaced, doubled, swapped; brackets kept apart from them."""
    words = re.findall(rb"[()]|[^\s()]+|\s+", data)
    at = rng.randrange(len(words))
    words[at : at + 1] = rng.choice(([rng.choice(WORDS)], [words[at]] * 2, [],
                                     [words[rng.randrange(len(words))]]))  # fmt: skip
    if rng.random() < 0.2:
        body = re.findall(rb"\(assert (.*?)\)\)", data, re.DOTALL)
        again = rng.choice(body) + b")" if body else b"(<= Y_0 0)"
        joined = rng.choice((b"and", b"or"))
        words.append(b"(assert (" + joined + b" " + (again + b" ") * rng.choice((2, 9)) + b"))")
    return b"".join(words)


def _protobuf(data: bytes, rng: random.Random) -> bytes:
    """A field of some message of an ONNX model set, cleared, repeated or taken from elsewhere."""
    import onnx

    proto = onnx.ModelProto.FromString(data)
    everything: list[Any] = [proto]
    for message in everything:
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                everything.extend(value if field.is_repeated else [value])
    message = rng.choice(everything)
    _set_field(message, rng.choice(message.DESCRIPTOR.fields), everything, rng)
    return bytes(proto.SerializeToString())


def _set_field(message: Any, field: Any, everything: list[Any], rng: random.Random) -> None:
    if rng.random() < 0.4:
        message.ClearField(field.name)  # and, perhaps, give it another value
    if rng.random() < 0.2:
        return
    if field.type == field.TYPE_MESSAGE:
        same = [m for m in everything if m.DESCRIPTOR is field.message_type and m is not message]
        value = type(same[0]).FromString(rng.choice(same).SerializeToString())
        if field.is_repeated:
            getattr(message, field.name).extend([value] * rng.choice((1, 2, 50)))
        else:
            getattr(message, field.name).CopyFrom(value)
    else:
        value = _scalar(field, everything, rng)
        if field.is_repeated:
            getattr(message, field.name).extend([value] * rng.choice((1, 3, 50)))
        else:
            setattr(message, field.name, value)


def _scalar(field: Any, everything: list[Any], rng: random.Random) -> Any:
    if field.type == field.TYPE_STRING:
        from gamma.formats.onnx import TRANSLATORS

        names = [str(m.name) for m in everything if "name" in m.DESCRIPTOR.fields_by_name]
        return rng.choice((*names, *TRANSLATORS, "", "x" * 3000, "../w.bin", "a\nb"))
    if field.type == field.TYPE_BYTES:
        return bytes(rng.randrange(256) for _ in range(rng.choice((0, 4, 48))))
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return rng.choice((0.0, -1.0, 1e38, 1e-45, float("nan"), float("inf")))
    number = rng.choice((*NUMBERS, *range(25)))
    return number if field.type in (field.TYPE_INT64, field.TYPE_UINT64) else number % (1 << 31)


def _header(data: bytes, rng: random.Random) -> bytes:
    """A number, name or list in the header of a safetensors file, or in its graph's."""
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    metadata = header.get("__metadata__", {})
    if "gamma" in metadata and rng.random() < 0.7:
        graph = json.loads(metadata["gamma"])
        _json(graph, rng)
        metadata["gamma"] = json.dumps(graph)
    else:
        _json(header, rng)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest


def _json(document: Any, rng: random.Random) -> None:
    """Change one place of a document where it stands."""
    places: list[tuple[Any, Any]] = []
    waiting = [document]
    for item in waiting:
        pairs = item.items() if isinstance(item, dict) else enumerate(item)
        for key, value in list(pairs):
            places.append((item, key))
            if isinstance(value, dict | list):
                waiting.append(value)
    holder, key = rng.choice(places)
    other, where = rng.choice(places)
    value = rng.choice((other[where], rng.choice(NUMBERS), [], {}, None, True, 0.5, "Relu", "inf"))
    if rng.random() < 0.2 and isinstance(holder, list):
        holder[:] = holder * rng.choice((2, 50))
    else:
        holder[key] = json.loads(json.dumps(value))


def _array(data: bytes, rng: random.Random) -> bytes:
    """A number or word of an .npy header, its length kept true."""
    length = int.from_bytes(data[8:10], "little")
    text, rest = data[10 : 10 + length], data[10 + length :]
    parts = re.findall(rb"\w+|\W", text)
    parts[rng.randrange(len(parts))] = rng.choice(
        (str(rng.choice(NUMBERS)).encode(), b"True", b"(1,)", b"'|O'", b"(" * 50, b"", b"<f4")
    )
    header = b"".join(parts)[: (1 << 16) - 1]
    return data[:8] + len(header).to_bytes(2, "little") + header + rest


CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "vnnlib": _text, "onnx": _protobuf, "safetensors": _header, "npy": _array,
}  # fmt: skip


def read(kind: str, path: Path) -> None:
    """Read a file as its kind; what is not one clear line of GammaError escapes."""
    try:
        if kind == "vnnlib":
            read_vnnlib(path)
        elif kind == "npy":
            read_npy(path, (2,))
        else:
            load(path)
    except GammaError as error:
        if not str(error).isprintable() or len(str(error)) > 3000:
            raise


def _late(*_: object) -> None:
    raise TimeoutError(f"one file took over {SLOW} s")


def run(seconds: float, seed: int, folder: Path) -> int:
    """Read changed files for so long; how many there were. A fault is left in ``folder``."""
    corpus, rng, count = seeds(), random.Random(seed), 0
    signal.signal(signal.SIGALRM, _late)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        kind = rng.choice(sorted(corpus))
        path = folder / f"changed.{kind}"
        path.write_bytes(changed(kind, rng.choice(corpus[kind]), rng))
        signal.alarm(SLOW)
        try:
            read(kind, path)
        except BaseException:
            path.rename(folder / f"fault-{seed}-{count}.{kind}")
            raise
        finally:
            signal.alarm(0)
        path.unlink()
        count += 1
    return count


def main() -> int:
    """1 when a changed file broke something; it is kept, its place printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gamma-mutation-"))
    try:
        count = run(options.seconds, options.seed, folder)
    except BaseException:
        traceback.print_exc()
        print(f"the file is in {folder}")
        return 1
    print(f"{count} changed files, seed {options.seed}: each read or refused")
    return 0


if __name__ == "__main__":
    sys.exit(main())
