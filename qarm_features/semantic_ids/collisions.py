"""Collisions, which are items that share a semantic ID. The items of one semantic ID are a bucket.

In: codes of new items, and the rows that were assigned before, which never move. Out: a collision index, from 0 in each
bucket. If buckets have a cap, surplus items get other codes, whose last level is the next nearest centroid with room. ::

    item_id  rq_codes           item_id  rq_codes  collision_index
    1        [4, 7]      ->     1        [4, 7]    0
    2        [4, 7]             2        [4, 7]    1

A move changes only the last code, so only items with the same prefix compete for room. Hence one sorted pass is enough, and a
task needs memory for K counts and one Arrow batch, for any number of items with one prefix.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.codebooks.errors import matrix
from qarm_features.quantizers.arrays.codebooks import level_sizes, levels_of

_BITS = 20  # products of values below 2 on this grid are exact in float64 in any order
_BLOCK = 1024


def with_collision_index(new: DataFrame, assigned: DataFrame, *, keep_order: str | None = None) -> DataFrame:
    """Number the new items of each bucket in the order of their IDs, after the items that were assigned before.

    One task sorts a bucket and can spill it to disk. A bucket of a million near-duplicates takes seconds, but little memory.

    Args:
        new: Rows of ``item_id`` and ``rq_codes`` of the new items.
        assigned: Rows of ``rq_codes`` and ``collision_index`` of the same codebook version; the index is null in old rows.
        keep_order: Name of the column of an earlier index, null for items without one. Items with an index come first, in
            the order of that index.

    Returns:
        The rows of ``new`` with ``collision_index``, int.
    """
    used = F.greatest(F.count("*"), F.coalesce(F.max("collision_index") + 1, F.lit(0))).alias("used")
    taken = assigned.groupBy("rq_codes").agg(used)
    order = [F.col(keep_order).asc_nulls_last()] if keep_order else []
    place = F.row_number().over(Window.partitionBy("rq_codes").orderBy(*order, "item_id")) - 1
    rows = new.withColumn("place", place).join(taken, on="rq_codes", how="left")
    index = (F.col("place") + F.coalesce("used", F.lit(0))).cast("int")
    return rows.withColumn("collision_index", index).drop("place", "used")


def resolve_overflow(
    new: DataFrame, assigned: DataFrame, codebooks: np.ndarray, *, bucket_cap: int, most_extra: float
) -> DataFrame:
    """Move surplus items of full buckets to the next nearest centroid of the last level that has room.

    In a bucket above its cap, items with an old ID have the first claim to stay. Next are those whose error would rise most
    by a move, then those with smaller item IDs. The other items move to the nearest bucket with room, those with the least
    additional error first. An item stays if no bucket within ``most_extra`` has room; then its bucket exceeds the cap. Rows
    of ``assigned`` take room and never move.

    Args:
        new: Rows of ``item_id``, ``embedding`` (D) of about unit norm, ``rq_codes`` and ``kept`` (boolean, the item has its
            old ID).
        assigned: Rows of ``rq_codes`` of the same codebook version.
        codebooks: Codebooks (L, K, D) float32.
        bucket_cap: Maximal number of items of a bucket, at least 1.
        most_extra: Squared error that a move may add to an item, at least 0.

    Returns:
        The rows of ``new``, with other ``rq_codes`` for items that moved, and with ``moved`` (boolean).
    """
    depth = len(codebooks) - 1
    id_type = new.schema["item_id"].dataType.simpleString()
    costs = new.select("item_id", "embedding", "rq_codes", "kept").mapInArrow(
        partial(_next_costs, codebooks=codebooks), f"item_id {id_type}, rq_codes array<int>, kept boolean, cost double"
    )
    taken = assigned.groupBy("rq_codes").agg(F.count("*").alias("taken"))
    first = Window.partitionBy("rq_codes").orderBy(F.desc("kept"), F.desc("cost"), "item_id")
    ranked = costs.join(taken, on="rq_codes", how="left").withColumn("rank", F.row_number().over(first))
    stays = F.col("rank") <= F.lit(bucket_cap) - F.coalesce("taken", F.lit(0))
    ranked = ranked.select("item_id", "rq_codes", "cost", stays.alias("stays")).persist()
    prefix = F.slice("rq_codes", 1, depth).alias("prefix")
    overflow = ranked.where(~F.col("stays")).join(new.select("item_id", "embedding"), on="item_id", how="inner")
    overflow = overflow.select("item_id", "embedding", "rq_codes", "cost", prefix)
    settled = ranked.where("stays").select("rq_codes").unionByName(assigned.select("rq_codes"))
    settled = settled.groupBy("rq_codes").agg(F.count("*").alias("items")).select("rq_codes", "items", prefix)
    settled = settled.join(overflow.select("prefix").distinct(), on="prefix", how="left_semi")
    stream = overflow.unionByName(settled.withColumn("cost", F.lit(-1.0)), allowMissingColumns=True)
    stream = stream.repartition("prefix").sortWithinPartitions("prefix", "cost", "item_id", "rq_codes")
    place = partial(_place_batches, codebooks=codebooks, bucket_cap=bucket_cap, most_extra=most_extra)
    stream = stream.select("item_id", "embedding", "rq_codes", "items")
    placed = stream.mapInArrow(place, f"item_id {id_type}, new_code int")
    moved = F.col("new_code").isNotNull() & (F.col("new_code") != F.get("rq_codes", F.lit(depth)))
    codes = F.concat(F.slice("rq_codes", 1, depth), F.array(F.col("new_code")))
    rows = new.join(placed, on="item_id", how="left").withColumn("moved", F.coalesce(moved, F.lit(False)))
    return rows.withColumn("rq_codes", F.when(F.col("moved"), codes).otherwise(F.col("rq_codes"))).drop("new_code")


def last_level_errors(embeddings: np.ndarray, codes: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
    """Compute the squared error of each row for every code of the last level, with its earlier codes held.

    Args:
        embeddings: Embeddings (B, D) float32 of about unit norm.
        codes: Codes (B, L) int32.
        codebooks: Codebooks (L, K, D) float32.

    Returns:
        Squared errors (B, K) float64, where K is that of the last level. They are exact on a grid of 2**-20, so they are the
        same on every CPU and for any division of rows into batches.
    """
    residuals = embeddings
    for level, centroids in enumerate(codebooks[:-1]):
        residuals = residuals - centroids[codes[:, level]]
    rows, centroids = (np.rint(np.ldexp(v.astype(np.float64), _BITS)) for v in (residuals, levels_of(codebooks)[-1]))
    squares = [np.einsum("ij,ij->i", values, values) for values in (rows, centroids)]
    return np.ldexp(squares[0][:, None] - 2 * (rows @ centroids.T) + squares[1], -2 * _BITS)


def place_overflow(errors: np.ndarray, home: np.ndarray, room: np.ndarray, most_extra: float) -> np.ndarray:
    """Give each row, one after another, the nearest code with room, or its old code if no such code is near enough.

    Args:
        errors: Squared error (B, K) of each row for each code.
        home: Code (B,) of the full bucket of each row.
        room: Number of items (K,) that each code can still take; the function lowers it.
        most_extra: Squared error that a move may add to a row, at least 0.

    Returns:
        Codes (B,) int32.

    Example:
        >>> errors, home = np.array([[0.1, 0.3, 0.2], [0.1, 0.3, 0.2]]), np.array([0, 0])
        >>> place_overflow(errors, home, room=np.array([0, 1, 1]), most_extra=0.15).tolist()
        [2, 0]
    """
    codes = home.astype(np.int32)
    for row, row_errors in enumerate(errors):
        if not (room > 0).any():
            break
        open_errors = np.where(room > 0, row_errors, np.inf)
        best = int(open_errors.argmin())
        if open_errors[best] <= row_errors[home[row]] + most_extra:
            codes[row] = best
            room[best] -= 1
    return codes


def _next_costs(batches: Iterator[pa.RecordBatch], codebooks: np.ndarray) -> Iterator[pa.RecordBatch]:
    """Yield the squared error that a move to the nearest other last code would add to each item, at least 0."""
    for batch in batches:
        costs = np.zeros(batch.num_rows)
        for start in range(0, batch.num_rows, _BLOCK):
            part = batch.slice(start, _BLOCK)
            codes = matrix(part["rq_codes"], np.int32)
            errors, rows = last_level_errors(matrix(part["embedding"]), codes, codebooks), np.arange(len(codes))
            own = errors[rows, codes[:, -1]]
            errors[rows, codes[:, -1]] = np.inf
            costs[start : start + _BLOCK] = np.maximum(errors.min(axis=1) - own, 0.0)
        columns = [batch["item_id"], batch["rq_codes"], batch["kept"], pa.array(costs)]
        yield pa.RecordBatch.from_arrays(columns, ["item_id", "rq_codes", "kept", "cost"])


def _place_batches(
    batches: Iterator[pa.RecordBatch], codebooks: np.ndarray, bucket_cap: int, most_extra: float
) -> Iterator[pa.RecordBatch]:
    """Give surplus items their new codes. Rows are sorted by prefix, and those that count buckets come first."""
    last_prefix, room, size = b"", np.empty(0, np.int64), level_sizes(codebooks)[-1]
    started = False
    for batch in batches:
        for start in range(0, batch.num_rows, _BLOCK):
            part = batch.slice(start, _BLOCK)
            codes, waiting = matrix(part["rq_codes"], np.int32).copy(), part["embedding"].is_valid().to_numpy(False)
            items = part["items"].fill_null(0).to_numpy()
            errors = np.empty((len(codes), size))
            if waiting.any():
                rows = matrix(part["embedding"].drop_null())
                errors[waiting] = last_level_errors(rows, codes[waiting], codebooks)
            changes = np.flatnonzero((codes[1:, :-1] != codes[:-1, :-1]).any(axis=1)) + 1
            for group in np.split(np.arange(len(codes)), changes):
                prefix = codes[group[0], :-1].tobytes()
                if not started or prefix != last_prefix:
                    started, last_prefix, room = True, prefix, np.full(size, bucket_cap, np.int64)
                np.subtract.at(room, codes[group, -1], items[group])
                group = group[waiting[group]]
                codes[group, -1] = place_overflow(errors[group], codes[group, -1], room, most_extra)
            found = [part["item_id"].filter(pa.array(waiting)), pa.array(codes[waiting, -1])]
            yield pa.RecordBatch.from_arrays(found, ["item_id", "new_code"])
