"""The command line as a program, many times: one process imports it, and a fork of it is a run.

A run has its own process, exit status and streams, and the imports are paid for once. What is
decided by the environment at import needs a process of its own: `run` starts one where an
environment is given.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENV = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

Done = subprocess.CompletedProcess[str]
_servers: list[subprocess.Popen[str]] = []


def run(*args: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> Done:
    """``gamma`` with these arguments in the folder ``cwd``, warnings being errors."""
    words = list(map(str, args))
    if env:
        return alone(*args, env=env)
    if not _servers:
        command = [sys.executable, "-W", "error", "-m", "tests.cli.program"]
        pipe = subprocess.PIPE
        _servers.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=ENV))
    server = _servers[0]
    assert server.stdin is not None and server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps([words, str(cwd or Path.cwd()), folder]), file=server.stdin, flush=True)
        status = json.loads(server.stdout.readline())
        out, err = ((Path(folder) / name).read_text() for name in ("out", "err"))
    assert status is not None, f"no end within a minute: {words}"
    return Done(words, status, out, err)


def alone(*args: object, env: dict[str, str] | None = None) -> Done:
    """The same in a process that starts from nothing."""
    command = [sys.executable, "-W", "error", "-m", "gamma", *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=ENV | (env or {})
    )


def _child(words: list[str], place: str, folder: str) -> Any:
    """Becomes the run; never returns."""
    os.chdir(place)
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    from gamma.cli.main import main

    sys.argv = ["gamma", *words]
    try:
        status = main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _serve() -> None:
    import gamma.cli.main
    import gamma.cli.suite
    import gamma.cli.verify
    import gamma.formats.onnx
    import gamma.formats.vnnlib
    import gamma.verification.verdict  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    for line in iter(sys.stdin.readline, ""):
        process = os.fork()
        if process == 0:
            _child(*json.loads(line))
        begin, status = time.monotonic(), None
        while time.monotonic() < begin + 60:
            ended, code = os.waitpid(process, os.WNOHANG)
            if ended:
                status = os.waitstatus_to_exitcode(code)
                break
            time.sleep(0.002)
        else:
            os.kill(process, 9)
            os.waitpid(process, 0)
        print(json.dumps(status), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
