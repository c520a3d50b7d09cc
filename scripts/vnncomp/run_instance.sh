#!/bin/bash
# VNN-COMP: decide one instance. Arguments: v1 CATEGORY ONNX VNNLIB RESULTS TIMEOUT (seconds).
# RESULTS gets unsat, sat and the witness, unknown, timeout, or error. A second of the time is kept
# for the end of the process, which the competition's clock counts.
set -uo pipefail
[ "${1:-}" = v1 ] && [ $# -eq 6 ] || { echo "usage: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS TIMEOUT" >&2; exit 1; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
gamma=${GAMMA_ENV:-$root/.vnncomp}/bin/gamma
last=${TMPDIR:-/tmp}/gamma-vnncomp.$(id -u).pid
limit=$(awk -v t="$6" 'BEGIN { print (t > 4 ? t - 1 : t * 0.75) }')
rm -f "$5" # of an earlier run: it is no answer
set -m # a process group of its own, which prepare_instance.sh ends if this one does not
"$gamma" verify "$3" --property "$4" --timeout "$limit" --format vnncomp -o "$5" &
echo $! >"$last"
wait $!
status=$?
rm -f "$last"
case $status in
0 | 3 | 4 | 5) [ -s "$5" ] || echo unknown >"$5" ;;
*) echo error >"$5" ;;
esac
