"""``python -m gamma``."""

from __future__ import annotations

import sys

from gamma.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
