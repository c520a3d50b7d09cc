"""Tables as pandas has them, for those who have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gamma.errors import UsageError


def frame(columns: Mapping[str, Any], index: Sequence[Any] | None = None) -> Any:
    """A DataFrame of ``columns``, rows named by ``index`` (tuples make a MultiIndex).

    Raises UsageError when pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise UsageError("to_pandas needs the package pandas: pip install pandas") from None
    if index is not None and index and isinstance(index[0], tuple):
        index = pandas.MultiIndex.from_tuples(index)
    return pandas.DataFrame(dict(columns), index=index)
