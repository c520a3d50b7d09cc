#!/bin/bash
# VNN-COMP: install gamma into an environment of its own. Argument: the version of the interface, v1.
# GAMMA_ENV says where (default: .vnncomp at the top), PYTHON what makes it, GAMMA_PACKAGE what is
# installed (default: this tree, with a C compiler; or a wheel of it).
set -euo pipefail
[ "${1:-}" = v1 ] || { echo "usage: install_tool.sh v1" >&2; exit 1; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
env=${GAMMA_ENV:-$root/.vnncomp}
[ -x "$env/bin/python" ] || "${PYTHON:-python3}" -m venv "$env"
"$env/bin/python" -m pip install --quiet "${GAMMA_PACKAGE:-$root}" onnxruntime
"$env/bin/gamma" info
