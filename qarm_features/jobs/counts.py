"""The row counts that each job returns.

In: nothing. Out: ``Counts``.
"""

from __future__ import annotations

from typing import NamedTuple


class Counts(NamedTuple):
    """The row counts of a finished job, with a remark and warnings for people. Rows in are rows out plus rows rejected.

    ``exit_code`` is 1 if the job worked and what it found is past a limit, so that a scheduler can act; otherwise 0.
    """

    rows_in: int
    rows_out: int
    rows_rejected: int = 0
    remark: str = ""
    warnings: tuple[str, ...] = ()
    exit_code: int = 0
