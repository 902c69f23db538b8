"""Pairs of items that a user liked, on which encoders and codes are measured.

In: ``interactions``. Out: co-clicks, which are two positives of one user at different moments; items bought together, which
are two positives of one user at one moment; and the period that no encoder was trained on. ::

    user_id  item_id  event_timestamp      trigger  target
    7        3        10:00            ->  3        9       co-click
    7        9        11:00                3        4       co-click
    7        4        11:00                4        9       bought together
                                           9        4       bought together
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.settings.ranking import Ranking
from qarm_features.storage.moments import drawn, in_moment
from qarm_features.training.time_split import split_moments

_KEY = ("user_id", "item_id", "event_timestamp")


class Period(NamedTuple):
    """The time from which pairs are taken.

    Attributes:
        since: First moment.
        words: Reason for this moment, for people.
    """

    since: datetime
    words: str


def evaluation_period(item_pairs: DataFrame, interactions: DataFrame, ranking: Ranking) -> Period:
    """Return the period after all item pairs. Where none were mined, return that of the valid and test split.

    Args:
        item_pairs: Rows of ``item_pairs``.
        interactions: Rows of ``interactions``.
        ranking: Section ``ranking`` of the settings, which gives the split.
    """
    since = after_all_pairs(item_pairs)
    if since is not None:
        return Period(since, "later than all item pairs")
    return Period(split_moments(interactions, ranking)[0], "the valid and test split, because no item pairs were mined")


def after_all_pairs(item_pairs: DataFrame) -> datetime | None:
    """Return the moment just after the latest item pair, or None if there are no pairs.

    No encoder was aligned on co-clicks from this moment on.

    Args:
        item_pairs: Rows of ``item_pairs``.
    """
    row = item_pairs.agg(F.unix_micros(F.max("event_timestamp")).alias("last")).first()
    last = None if row is None else row["last"]
    return None if last is None else datetime.fromtimestamp((last + 1) / 1e6, UTC)


def co_clicks(interactions: DataFrame) -> DataFrame:
    """Pair every positive with a positive of the same user at the latest moment before it.

    Of several positives at that moment the last one is taken, in the order of ``moments.in_moment``.

    Args:
        interactions: Rows of ``interactions``.

    Returns:
        The positives that have another item before them, with ``trigger_item_id``.
    """
    positives = interactions.where(F.col("label") == 1)
    keys = in_moment(positives)
    micros = F.unix_micros("event_timestamp")
    places = [micros.alias("micros"), *[key.alias(f"key_{number}") for number, key in enumerate(keys)]]
    rows = positives.withColumn("place", F.struct(*places, F.col("item_id").alias("item_id")))
    before = Window.partitionBy("user_id").orderBy(micros).rangeBetween(Window.unboundedPreceding, -1)
    rows = rows.withColumn("trigger_item_id", F.max("place").over(before)["item_id"])
    return rows.where(F.col("trigger_item_id") != F.col("item_id"))


def future_co_clicks(interactions: DataFrame, *, since: datetime, max_pairs: int, seed: int) -> DataFrame:
    """Sample the co-clicks whose target is liked from ``since`` on.

    Args:
        interactions: Rows of ``interactions``.
        since: First moment of the target.
        max_pairs: Largest number of pairs. More are sampled by hash.
        seed: Seed of the hash.

    Returns:
        ``pair`` (bigint from 0), ``trigger_item_id``, ``target_item_id``, ``user_id``. The two items of a pair always
        differ.
    """
    rows = co_clicks(interactions).where(F.col("event_timestamp") >= F.lit(since))
    return _sampled(rows, max_pairs, seed)


def bought_together(interactions: DataFrame, *, since: datetime, max_pairs: int, seed: int) -> DataFrame:
    """Pair every positive from ``since`` on with another positive of the same user at the same moment, drawn by hash.

    Args:
        interactions: Rows of ``interactions``.
        since: First moment of the pairs.
        max_pairs: Largest number of pairs. More are sampled by hash.
        seed: Seed of the hash.

    Returns:
        ``pair`` (bigint from 0), ``trigger_item_id``, ``target_item_id``, ``user_id``. The two items of a pair always
        differ.
    """
    rows = interactions.where((F.col("label") == 1) & (F.col("event_timestamp") >= F.lit(since)))
    moment = Window.partitionBy("user_id", "event_timestamp").orderBy(*drawn())
    whole = moment.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    # The positives of a moment stand in a circle of random order, and each is paired with the one before it.
    before = F.coalesce(F.lag("item_id").over(moment), F.last("item_id").over(whole))
    rows = rows.withColumn("trigger_item_id", before).where(F.col("trigger_item_id") != F.col("item_id"))
    return _sampled(rows, max_pairs, seed)


def shuffled(pairs: DataFrame, *, seed: int) -> DataFrame:
    """Exchange the targets of pairs among them at random.

    What is still found is found by the popularity of triggers and targets alone.

    Args:
        pairs: ``pair`` (bigint from 0), ``trigger_item_id``, ``target_item_id``, of bounded number.
        seed: Seed of the order.

    Returns:
        The same columns; a pair whose new target is its trigger is left out.
    """
    draw = Window.orderBy(F.xxhash64(F.lit(seed), "pair"), "pair")  # in one task
    targets = pairs.select((F.row_number().over(draw) - 1).cast("bigint").alias("pair"), "target_item_id")
    moved = pairs.select("pair", "trigger_item_id").join(targets, on="pair", how="inner")
    return moved.where(F.col("trigger_item_id") != F.col("target_item_id"))


def _sampled(rows: DataFrame, max_pairs: int, seed: int) -> DataFrame:
    """Sample pairs by hash and number them from 0."""
    draw: list[Column] = [F.xxhash64(F.lit(seed), "user_id", "item_id", "event_timestamp"), *map(F.col, _KEY)]
    sampled = rows.orderBy(*draw).limit(max_pairs)
    number = F.row_number().over(Window.orderBy(*draw)) - 1  # in one task, of at most max_pairs rows
    ends = "trigger_item_id", F.col("item_id").alias("target_item_id")
    return sampled.select(number.cast("bigint").alias("pair"), *ends, "user_id")
