"""Settings of the micro benches: short, grouped, the processor's instruction set in every name."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """About a fiftieth of a second per bench: there are hundreds."""
    config.option.benchmark_max_time = "0.02"
    config.option.benchmark_min_rounds = 3
    config.option.benchmark_warmup = "off"
    config.option.benchmark_group_by = "group"
    config.option.benchmark_columns = ["min", "median", "rounds"]
    config.option.benchmark_sort = "name"
