"""Clicks that were added to the log change the rows of their users and items, from the first of these clicks on.

In: the new clicks, the whole log, and a table that follows from it. Out: the rows of that table that are new or may differ. A
row of a moment depends on the clicks up to it, so that earlier moments stay as they are, and other users too. ::

    interactions           user_behavior
    7  item 1  10:00       7  [1]     10:00:00.000001
    8  item 2  11:00       8  [2]     11:00:00.000001
    7  item 3  12:00  new  7  [1, 3]  12:00:00.000001   the one row that is added
"""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.behavior.impression_history import item_counters

Build = Callable[[DataFrame], DataFrame]
_SINCE = "_since"


def first_moments(clicks: DataFrame, entity: str) -> DataFrame:
    """Return the first moment of each user or item among clicks: the entity and ``_since``."""
    return clicks.groupBy(entity).agg(F.min("event_timestamp").alias(_SINCE))


def earliest_moment(first: DataFrame) -> int | None:
    """Return the earliest of first moments in microseconds since 1970; None if there are none."""
    (earliest,) = first.agg(F.min(F.unix_micros(_SINCE))).collect()[0]
    return None if earliest is None else int(earliest)


def since(rows: DataFrame, micros: int) -> DataFrame:
    """Leave out rows from before a moment, whole files of them where their statistics tell.

    Args:
        rows: Rows with ``event_timestamp``.
        micros: Moment in microseconds since 1970.
    """
    return rows.where(F.col("event_timestamp") >= F.timestamp_micros(F.lit(micros)))


def rows_since(interactions: DataFrame, first: DataFrame, build: Build, *, entity: str) -> DataFrame:
    """Build the rows of some users or items from their first new moment on.

    Args:
        interactions: All rows of ``interactions`` of these users or items at least.
        first: Rows of ``first_moments``.
        build: Function that builds rows of a table, with ``event_timestamp`` just after each moment, from rows of
            ``interactions``.
        entity: Column of the users or items, ``user_id`` or ``item_id``.
    """
    own = interactions.join(first.select(entity), on=entity, how="left_semi")
    return from_first_moment(build(own), first, entity)


def counters_since(interactions: DataFrame, first: DataFrame, present: DataFrame) -> DataFrame:
    """Build the rows of ``item_counters`` of some items from their first new moment on, without their earlier clicks.

    Args:
        interactions: Rows of ``interactions``, those since the earliest of the first moments at least.
        first: Rows of ``first_moments`` of items.
        present: Rows of ``item_counters``, the newest of which before the first moment has the counts up to it.
    """
    with_first = interactions.join(first, on="item_id", how="inner")
    rows = item_counters(with_first.where(F.col("event_timestamp") >= F.col(_SINCE)))
    counts = ["item_positive_count", "item_impression_count"]
    earlier = present.join(first, on="item_id", how="inner").where(F.col("event_timestamp") <= F.col(_SINCE))
    before = earlier.groupBy("item_id").agg(F.max_by(F.struct(*counts), "event_timestamp").alias("before"))
    more = [(F.col(name) + F.coalesce(F.col("before")[name], F.lit(0))).alias(name) for name in counts]
    return rows.join(before, on="item_id", how="left").select("item_id", *more, "event_timestamp")


def from_first_moment(rows: DataFrame, first: DataFrame, entity: str) -> DataFrame:
    """Return the rows of a table from the first new moment of their user or item on.

    Args:
        rows: Rows with the entity and ``event_timestamp``.
        first: Rows of ``first_moments``.
        entity: Column of the users or items, ``user_id`` or ``item_id``.
    """
    # A row is stamped one microsecond after its moment, so that of the first moment lies above it.
    return rows.join(first, on=entity, how="inner").where(F.col("event_timestamp") > F.col(_SINCE)).drop(_SINCE)
