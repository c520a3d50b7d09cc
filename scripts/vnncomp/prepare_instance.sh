#!/bin/bash
# VNN-COMP: before the clock of an instance starts. Arguments: v1 CATEGORY ONNX VNNLIB.
# Nothing of an earlier instance is left running, and the files can be read. Status 1 skips the
# instance: gamma does not read the network.
set -euo pipefail
[ "${1:-}" = v1 ] && [ $# -eq 4 ] || { echo "usage: prepare_instance.sh v1 CATEGORY ONNX VNNLIB" >&2; exit 1; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
gamma=${GAMMA_ENV:-$root/.vnncomp}/bin/gamma
last=${TMPDIR:-/tmp}/gamma-vnncomp.$(id -u).pid
if [ -f "$last" ]; then
    kill -KILL -- "-$(cat "$last")" 2>/dev/null || true
    rm -f "$last"
fi
[ -r "$4" ] || [ -r "$4.gz" ] || { echo "$4: cannot be read" >&2; exit 1; }
"$gamma" inspect "$3" >/dev/null
