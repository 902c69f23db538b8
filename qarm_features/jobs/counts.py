"""The row counts that each job returns.

In: nothing. Out: ``Counts``.
"""

from __future__ import annotations

from typing import NamedTuple


class Counts(NamedTuple):
    """The row counts of a finished job, with a remark and warnings for people. Rows in are rows out plus rows rejected."""

    rows_in: int
    rows_out: int
    rows_rejected: int = 0
    remark: str = ""
    warnings: tuple[str, ...] = ()
