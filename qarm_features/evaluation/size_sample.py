"""A bounded sample of embeddings, and embeddings of pairs, from the tables.

In: embeddings of all items, and the log. Out: arrays on the driver whose sizes do not grow with the catalog.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.codebooks.errors import matrix
from qarm_features.evaluation.co_click_pairs import future_co_clicks


class SizeSample(NamedTuple):
    """What codebook sizes are proposed from.

    Attributes:
        items: Number of items with an embedding.
        embeddings: (B, D) float32 of the sampled items, in the order of a hash of their IDs.
        pairs: (P, 2, D) float32 of co-clicks.
    """

    items: int
    embeddings: np.ndarray
    pairs: np.ndarray


def size_sample(
    embeddings: DataFrame,
    interactions: DataFrame | None,
    *,
    until: datetime | None,
    max_items: int,
    max_pairs: int,
    seed: int,
) -> SizeSample:
    """Sample items and co-clicks by hash, so that partitions and the order of rows change nothing.

    Args:
        embeddings: ``item_id``, ``embedding`` (D) of one encoder version.
        interactions: Rows of ``interactions``, or None without a log.
        until: Moment before which co-clicks count, so that those on which models are tested stay unseen.
        max_items: Largest number of items.
        max_pairs: Largest number of co-clicks.
        seed: Seed of the hashes.
    """
    rows = embeddings.select("item_id", "embedding")
    order = F.xxhash64(F.lit(seed), F.col("item_id").cast("string")), F.col("item_id")
    sampled = rows.orderBy(*order).limit(max_items).select("embedding").toArrow()
    vectors = matrix(sampled["embedding"].combine_chunks())
    dim = vectors.shape[1]
    pairs = np.zeros((0, 2, dim), np.float32)
    if interactions is not None and until is not None and len(vectors):
        log = interactions.where(F.col("event_timestamp") < F.lit(until))
        ends = future_co_clicks(log, since=datetime(1, 1, 2, tzinfo=UTC), max_pairs=max_pairs, seed=seed)
        for side in ("trigger", "target"):
            of_side = rows.select(F.col("item_id").alias(f"{side}_item_id"), F.col("embedding").alias(side))
            ends = ends.join(of_side, on=f"{side}_item_id", how="inner")
        found = ends.orderBy("pair").select("trigger", "target").toArrow()  # at most max_pairs rows
        if found.num_rows:
            pairs = np.stack([matrix(found[side].combine_chunks()) for side in ("trigger", "target")], axis=1)
    return SizeSample(rows.count(), vectors, pairs)
