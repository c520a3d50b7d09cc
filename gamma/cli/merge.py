"""``gamma suite merge``: the records of shards become those of the whole list."""

from __future__ import annotations

import argparse
from pathlib import Path

from gamma.cli import suite_files
from gamma.cli.output import check_writable, note, write_text
from gamma.cli.suite import finish
from gamma.errors import UsageError
from gamma.verification.merging import merged
from gamma.verification.records import seal
from gamma.verification.suite import read_list

INCOMPLETE = 2


def run(args: argparse.Namespace) -> int:
    """Merge, print the table, return what ``gamma suite`` would; 2 when instances are missing."""
    path = Path(args.list)
    suite_files.check(args)
    instances = read_list(path)
    files = [Path(name) for name in args.records] or suite_files.shards_of(path)
    if not files:
        raise UsageError(f"{path}: no {path.stem}.results.I-of-N.jsonl beside it: name the files")
    out = Path(args.output) if args.output else suite_files.beside(path, None)
    check_writable(str(out))
    if out.exists() and not args.force:
        raise UsageError(f"{out}: exists already; give --force to replace it, or another file")
    results, missing = merged(instances, files)
    write_text(out, "".join(map(seal, results)))
    status = finish(args, results, path)
    print(f"\n{len(results)} records of {len(files)} files: {out}")
    for instance in missing[:1]:
        note(
            f"{len(missing)} of {len(instances)} instances have no record, {instance.model} "
            f"{instance.prop} the first: run their shards again with --resume"
        )
    return INCOMPLETE if missing else status
