"""Item pairs are mined from both sources and brought into the form of ``item_pairs``.

In: positives, the section ``item_pairs`` of the settings, and optionally item vectors from the user's own retrieval model.
Out: rows of ``item_pairs`` before the filter.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.item_pairs.item_vectors import als_item_vectors
from qarm_features.item_pairs.positives import dense_index, latest_positives
from qarm_features.item_pairs.swing import swing_pairs
from qarm_features.item_pairs.user_to_item import user_to_item_pairs
from qarm_features.settings.sections import ItemPairs


def mine_item_pairs(
    positives: DataFrame, *, settings: ItemPairs, seed: int = 0, item_vectors: DataFrame | None = None
) -> DataFrame:
    """Mine item pairs from every source that the settings name.

    To mine pairs of a period, pass the positives of that period.

    Args:
        positives: ``user_id``, ``item_id``, ``event_timestamp``, and perhaps ``order_in_moment``, at least one row.
        settings: Section ``item_pairs`` of the settings.
        seed: Seed for sampling the users of popular items and for ALS.
        item_vectors: ``item_id``, ``vector`` (D) of any norm. None fits ALS on ``positives``.

    Returns:
        Rows of ``item_pairs``, at most one for each trigger, target and source. They are computed lazily from persisted
        intermediate rows.

    Example::

        pairs = mine_item_pairs(positives(interactions), settings=ItemPairs(sources=["item-to-item"]), seed=0)
    """
    latest = latest_positives(positives, max_items=settings.max_items_per_user).persist()
    item_index = dense_index(latest, "item_id", "item").persist()
    found = []
    if "item-to-item" in settings.sources:
        found.append(_named(swing_pairs(latest, item_index, settings=settings, seed=seed), "item-to-item"))
    if "user-to-item" in settings.sources:
        if item_vectors is None:
            item_vectors = als_item_vectors(latest, item_index, rank=settings.als_rank, seed=seed)
        pairs = user_to_item_pairs(latest, item_vectors, behavior_length=settings.behavior_length)
        found.append(_named(pairs, "user-to-item"))
    return reduce(DataFrame.unionByName, found)


def _named(pairs: DataFrame, source: str) -> DataFrame:
    return pairs.select(
        "trigger_item_id",
        "target_item_id",
        F.lit(source).alias("source"),
        F.col("weight").cast("double").alias("weight"),
        F.timestamp_micros("micros").alias("event_timestamp"),
    )
