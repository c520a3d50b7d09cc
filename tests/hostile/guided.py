"""libFuzzer's search over the files and changes of `tests.hostile.fuzz` (gamma-verify[fuzz]).

python -m tests.hostile.guided FORMAT [-max_total_time=60 ...]
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["gamma"]):
    from tests.hostile import changes, fuzz


def main() -> None:
    """Search until the time is over or something breaks; libFuzzer names the file."""
    name, options = sys.argv[1], sys.argv[2:]
    folder = Path(tempfile.mkdtemp(prefix="gamma-guided-"))
    target, path, start = fuzz.TARGETS[name], folder / fuzz.TARGETS[name].name, folder / "corpus"
    start.mkdir()
    for number, data in enumerate(fuzz.corpus()[name]):
        (start / str(number)).write_bytes(data)

    def one(data: bytes) -> None:
        path.write_bytes(data)
        fuzz.read(target, path)
        path.unlink()

    def change(data: bytes, most: int, seed: int) -> bytes:
        return changes.changed(target.change, bytes(data), random.Random(seed))[:most]

    fuzz.limited()
    defaults = [f"-artifact_prefix={folder}/", f"-max_len={4 * fuzz.LARGEST}", "-timeout=60"]
    command = [sys.argv[0], *defaults, *options, str(start)]
    atheris.Setup(command, one, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
