"""Items that share a semantic ID: each gets its place among them, and an over-full bucket may send its overflow elsewhere.

In: codes of items that are being assigned now, and the rows assigned before, which never move. Out: a collision index, from
0 per bucket; and, where buckets have a cap, codes whose last level is the next nearest centroid with room. ::

    item_id  rq_codes           item_id  rq_codes  collision_index
    1        [4, 7]      ->     1        [4, 7]    0
    2        [4, 7]             2        [4, 7]    1

A move changes the last code only, so items compete with those of the same prefix alone. One sorted pass therefore settles
all: no rounds, and a task holds K counts and one Arrow batch, however many items share a prefix.
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
    """Numbers the items of a bucket, by item ID, after those that are there already.

    A bucket is sorted by one task, which spills to disk: a bucket of a million near-duplicates costs seconds, not memory.

    Args:
        new: ``item_id``, ``rq_codes``; rows being assigned now.
        assigned: ``rq_codes``, ``collision_index`` of one codebook version; null in rows from before there was one.
        keep_order: Column of an earlier index, by which items come first; null where there is none.

    Returns:
        ``new`` with ``collision_index``, int.
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
    """Moves the overflow of over-full buckets to the next nearest centroid of the last level that has room.

    Of a bucket above its cap, items that kept an old ID stay first, then those for whom moving is dearest, then the smaller
    item IDs. The others, cheapest first, go to the nearest bucket with room. One that finds none within ``most_extra`` stays
    where it was: the cap then does not hold. Rows of ``assigned`` take room and never move.

    Args:
        new: ``item_id``, ``embedding`` (D) of about unit norm, ``rq_codes`` (nearest, or kept), ``kept`` (boolean).
        assigned: ``rq_codes`` of the same codebook version.
        codebooks: (L, K, D) float32.
        bucket_cap: Most items of a bucket, at least 1.
        most_extra: Most squared error that a move may add to an item.

    Returns:
        ``new`` with other ``rq_codes`` where an item moved, and ``moved`` (boolean).
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
    """Computes the squared error of each row under every last code, its earlier codes held.

    Args:
        embeddings: (B, D) float32 of about unit norm.
        codes: (B, L) int32.
        codebooks: (L, K, D) float32.

    Returns:
        (B, K) float64, K of the last level, exact on a grid of 2**-20: the same on every CPU and whatever rows stand
        together.
    """
    residuals = embeddings
    for level, centroids in enumerate(codebooks[:-1]):
        residuals = residuals - centroids[codes[:, level]]
    rows, centroids = (np.rint(np.ldexp(v.astype(np.float64), _BITS)) for v in (residuals, levels_of(codebooks)[-1]))
    squares = [np.einsum("ij,ij->i", values, values) for values in (rows, centroids)]
    return np.ldexp(squares[0][:, None] - 2 * (rows @ centroids.T) + squares[1], -2 * _BITS)


def place_overflow(errors: np.ndarray, home: np.ndarray, room: np.ndarray, most_extra: float) -> np.ndarray:
    """Gives rows, one after another, the nearest code with room; one without any within the budget stays at home.

    Args:
        errors: (B, K), squared error under each code.
        home: (B,), the code of the over-full bucket.
        room: (K,), items that each code still takes; lowered here.
        most_extra: Most squared error that a move may add.

    Returns:
        (B,) int32.
    """
    codes = home.astype(np.int32)
    for row, of_row in enumerate(errors):
        if not (room > 0).any():
            break
        open_to = np.where(room > 0, of_row, np.inf)
        best = int(open_to.argmin())
        if open_to[best] <= of_row[home[row]] + most_extra:
            codes[row] = best
            room[best] -= 1
    return codes


def _next_costs(batches: Iterator[pa.RecordBatch], codebooks: np.ndarray) -> Iterator[pa.RecordBatch]:
    """Yields what moving to the nearest other last code adds to the error of each item, at least 0."""
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
    """Places the overflow of sorted prefixes; a prefix begins with the counts of its buckets."""
    last, room, size = None, np.empty(0, np.int64), level_sizes(codebooks)[-1]
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
                if prefix != last:
                    last, room = prefix, np.full(size, bucket_cap, np.int64)
                np.subtract.at(room, codes[group, -1], items[group])
                group = group[waiting[group]]
                codes[group, -1] = place_overflow(errors[group], codes[group, -1], room, most_extra)
            found = [part["item_id"].filter(pa.array(waiting)), pa.array(codes[waiting, -1])]
            yield pa.RecordBatch.from_arrays(found, ["item_id", "new_code"])
