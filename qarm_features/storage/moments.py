"""The order of log rows that one user has at one moment, which their timestamps do not give.

In: rows of ``interactions``. Out: columns to sort by, and the share of rows whose order is not known. A moment is all rows of
a user with one ``event_timestamp``, for example a basket. Their order must not come from item IDs: where neighboring IDs
are similar items, it would put similar items side by side, and every figure about "the next item" would be too good. ::

    user_id  item_id  event_timestamp      in the order of a hash of user, item and moment:
    7        84029G   08:26            ->  7  71053   08:26
    7        84029E   08:26                7  84029G  08:26
    7        71053    08:26                7  84029E  08:26
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.storage.tables import ORDER_IN_MOMENT


class Ties(NamedTuple):
    """How many consecutive rows of a user share their moment.

    Attributes:
        consecutive: Number of rows with a row of the same user before them.
        tied: Number of those that share their moment with the row before.
    """

    consecutive: int
    tied: int

    def words(self, rows: str) -> str:
        """Return a clause for people.

        Args:
            rows: Name of the rows.

        Example:
            >>> Ties(consecutive=4, tied=1).words("positives")
            '25.0% of 4 consecutive positives share their moment with the one before'
        """
        if not self.consecutive:
            return f"there are no consecutive {rows}"
        share = self.tied / self.consecutive
        return f"{share:.1%} of {self.consecutive:,} consecutive {rows} share their moment with the one before"


def drawn(*columns: str) -> list[Column]:
    """Return the columns that sort rows of one moment by a hash of user, item and moment, the same for any partitions.

    Args:
        columns: Columns to sort by first.
    """
    hashed = F.xxhash64("user_id", "item_id", "event_timestamp")
    return [*map(F.col, columns), hashed, F.col("item_id")]  # the ID alone decides between equal hashes


def in_moment(rows: DataFrame) -> list[Column]:
    """Return the columns that sort the rows of one user at one moment.

    These are ``order_in_moment`` if the rows have it, and then a hash of user, item and moment.

    Args:
        rows: ``user_id``, ``item_id``, ``event_timestamp``, and perhaps ``order_in_moment``. Rows without it come first.
    """
    return drawn(*[name for name in (ORDER_IN_MOMENT,) if name in rows.columns])


def count_ties(rows: DataFrame, *, since: datetime | None = None) -> Ties:
    """Count the consecutive rows of users, and those that share their moment with the row before.

    Args:
        rows: ``user_id``, ``event_timestamp``.
        since: First moment of the rows to count. Rows before it only count as the rows before. None counts all rows.
    """
    by_time = Window.partitionBy("user_id").orderBy("event_timestamp")
    moments = rows.groupBy("user_id", "event_timestamp").agg(F.count("*").alias("rows"))
    moments = moments.withColumn("is_first", F.row_number().over(by_time) == 1)
    if since is not None:
        moments = moments.where(F.col("event_timestamp") >= F.lit(since))
    sums = moments.agg(
        F.sum("rows").alias("rows"), F.count("*").alias("moments"), F.count_if("is_first").alias("first")
    )
    found = sums.first()
    assert found is not None  # an aggregate without a key has one row
    all_rows = found["rows"] or 0
    return Ties(all_rows - found["first"], all_rows - found["moments"])
