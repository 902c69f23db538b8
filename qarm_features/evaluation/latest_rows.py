"""The rows of the last days of a log, counted back from its own last row.

In: the time of the last row. Out: the first moment of the latest rows, and the condition on the others.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from pyspark.sql import Column
from pyspark.sql import functions as F

_SECONDS_PER_DAY = 86_400


class Latest(NamedTuple):
    """The last days of a log.

    Attributes:
        since: Moment after which they begin, in ISO format.
        condition: True for a row of these days.
    """

    since: str
    condition: Column


def latest(column: str, last: int, *, days: int) -> Latest:
    """Return the last days of a log.

    Args:
        column: Column of the times.
        last: Time of the last row, in whole seconds since 1970.
        days: Number of days, at least 1.
    """
    since = last - days * _SECONDS_PER_DAY
    shown = f"{datetime.fromtimestamp(since, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return Latest(shown, F.col(column) > F.timestamp_seconds(F.lit(since)))
