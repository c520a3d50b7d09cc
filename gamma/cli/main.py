"""The entry point: parse, dispatch, and turn every outcome into an exit status."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from gamma import __version__
from gamma.cli import settings
from gamma.cli.options import build_parser, in_options
from gamma.cli.output import INTERRUPTED, note, prepare_streams, silence
from gamma.errors import GammaError, InternalError, ResourceError

INTERNAL, USAGE, RESOURCE, PIPE = 1, 2, 5, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Never raises, except SystemExit of argparse."""
    prepare_streams()
    try:
        status = _run(argv)
        sys.stdout.flush()
        return status
    except SystemExit:
        _settle()
        raise
    except KeyboardInterrupt:
        note("gamma: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        silence(sys.stdout)  # its reader has gone: nobody wants the rest
        return PIPE
    except MemoryError:
        return _fail(RESOURCE, "out of memory; use --method ibp or a smaller input set")
    except InternalError as error:
        return _fail(INTERNAL, f"internal error: {error}; {REPORT}")
    except ResourceError as error:
        return _fail(RESOURCE, str(error))
    except GammaError as error:
        return _fail(USAGE, str(error))
    except Exception as error:
        # Errors of files name them; stdout has no name.
        if isinstance(error, OSError) and error.filename is None:
            return _fail(RESOURCE, f"stdout cannot be written: {error.strerror or error}")
        return _fail(INTERNAL, f"internal error: {type(error).__name__}: {error}; {REPORT}")


REPORT = "this is a bug in gamma: please report it with the output of `gamma info`"

FILES = ("model", "property")
"""Arguments that name a file to read, of every command that has them."""


def _run(argv: Sequence[str] | None) -> int:
    parser = build_parser()
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:2] == ["suite", "merge"]:
        words = words[1:]
    origins = () if {"-h", "--help"} & {*words} else settings.apply(parser, words)
    args = parser.parse_args(words)
    args.settings = origins
    if args.version:
        print(__version__)
        return 0
    if args.command is None:
        parser.error(
            "no command given: verify, bounds, ranges, overflow, suite, "
            "inspect, info, bench, tune, schema or completion"
        )
    if args.command == "completion":
        from gamma.cli.completion import script

        print(script(parser, args.shell))
        return 0
    from gamma.cli.profile import profiled
    from gamma.formats.compressed import existing
    from gamma.runtime import heap

    for path in (getattr(args, name, None) for name in FILES):
        if path is not None:
            existing(path)  # a name that is mistyped is said before anything that follows from it

    heap.own()

    with profiled(args):
        status: int = importlib.import_module(f"gamma.cli.{args.command}").run(args)
    return status


def _fail(status: int, message: str) -> int:
    if os.environ.get("GAMMA_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    _settle()
    note("gamma: " + in_options(" ".join(message.split())))
    return status


def _settle() -> None:
    """Write what stdout still holds; where that fails, let the interpreter not fail again."""
    try:
        sys.stdout.flush()
    except OSError:
        silence(sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
