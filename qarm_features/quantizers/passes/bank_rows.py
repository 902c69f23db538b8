"""The rows of a DataFrame as the shards of a bank.

In: a DataFrame of ``item_id`` and ``embedding``, array<float>. Out: shards on disk, each written by one task, and facts about
them. A shard holds a range of item IDs with a given number of rows, so the shards are the same for any partitioning and row
order. The driver receives a few facts per shard.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.quantizers.passes.embedding_batches import to_matrix, valid_matrix
from qarm_features.quantizers.passes.item_bank import ShardFacts, write_shard
from qarm_features.quantizers.passes.task_device import task_partition

Batches = Iterator[pa.RecordBatch]
_FACTS = "rows long, null_ids long, null_rows long, bad_rows long, min_dim int, max_dim int"
_WRITTEN = "shard int, rows long, repeated_ids long, max_norm double, sha256 string, lists_sha256 string"


class BankFacts(NamedTuple):
    """What one pass over the rows found.

    Attributes:
        rows: Number of rows.
        null_ids: Number of rows without an item ID.
        null_rows: Number of rows without an embedding.
        bad_rows: Number of rows with NaN or infinite values.
        min_dim: Least dimension of a row, None if there is no embedding.
        max_dim: Largest dimension of a row, None if there is no embedding.
    """

    rows: int
    null_ids: int
    null_rows: int
    bad_rows: int
    min_dim: int | None
    max_dim: int | None


def describe_rows(rows: DataFrame) -> BankFacts:
    """Count rows of ``item_id`` and ``embedding``, and those with faults, in one pass."""
    facts = rows.mapInArrow(_describe_batches, _FACTS)
    sums = [F.sum(name) for name in ("rows", "null_ids", "null_rows", "bad_rows")]
    (counted,) = facts.agg(*sums, F.min("min_dim"), F.max("max_dim")).collect()
    return BankFacts(*(value or 0 for value in counted[:4]), *counted[4:])


def write_shards(rows: DataFrame, folder: str, *, num_rows: int, shard_rows: int, seed: int | None) -> list[ShardFacts]:
    """Write all shards into a folder that the executors can reach.

    Args:
        rows: Rows of ``item_id`` and ``embedding``, without faults.
        folder: Folder of the bank.
        num_rows: Number of rows N.
        shard_rows: Number of rows of a shard; the last shard may have fewer.
        seed: Seed for training inverted lists; None builds no lists.

    Returns:
        The facts of each shard, in order.
    """
    starts = _shard_starts(rows.select("item_id"), num_rows, shard_rows)
    id_type = rows.schema["item_id"].dataType.simpleString()
    numbered = rows.mapInArrow(
        partial(_number_batches, starts=starts), f"item_id {id_type}, embedding array<float>, shard int"
    )

    # A plain function, because pyspark reads its type hints and fails on those of a partial.
    def write(key: tuple[pa.Scalar, ...], group: pa.Table) -> pa.Table:
        return _write_group(key, group, folder, seed)

    written = numbered.groupBy("shard").applyInArrow(write, _WRITTEN).collect()  # one row per shard
    return sorted(ShardFacts(*row) for row in written)


def _shard_starts(item_ids: DataFrame, num_rows: int, shard_rows: int) -> list[int | str]:
    """Return the first ID of every shard but the first, which stands at every shard_rows-th place of the ordered IDs."""
    if num_rows <= shard_rows:
        return []
    ordered = item_ids.repartitionByRange("item_id").sortWithinPartitions("item_id").persist()
    sizes = {row[0]: row[1] for row in ordered.mapInArrow(_count_batches, "part int, rows long").collect()}
    before = 0
    offsets: dict[int, int] = {}
    for part in sorted(sizes):
        offsets[part], before = before, before + sizes[part]
    id_type = item_ids.schema["item_id"].dataType.simpleString()
    worker = partial(_pick_batches, offsets=offsets, shard_rows=shard_rows)
    starts = ordered.mapInArrow(worker, f"position long, item_id {id_type}").orderBy("position").collect()
    ordered.unpersist()
    return [row["item_id"] for row in starts]


def _describe_batches(batches: Batches) -> Batches:
    """Yield one row of facts per batch."""
    for batch in batches:
        matrix, facts = to_matrix(batch["embedding"])
        bad = 0 if matrix is None else int(np.count_nonzero(~np.isfinite(matrix).all(axis=1)))
        values = (batch.num_rows, batch["item_id"].null_count, facts.null_rows, bad)
        types = [*[pa.int64()] * 4, pa.int32(), pa.int32()]
        columns = [pa.array([v], t) for v, t in zip((*values, facts.min_dim, facts.max_dim), types)]
        yield pa.RecordBatch.from_arrays(columns, list(BankFacts._fields))


def _count_batches(batches: Batches) -> Batches:
    """Yield the number of the partition and its number of rows."""
    rows = sum(batch.num_rows for batch in batches)
    part = pa.array([task_partition()], pa.int32())
    yield pa.RecordBatch.from_arrays([part, pa.array([rows], pa.int64())], ["part", "rows"])


def _pick_batches(batches: Batches, offsets: dict[int, int], shard_rows: int) -> Batches:
    """Yield the IDs at every shard_rows-th place among all rows, except the very first."""
    start = offsets[task_partition()]
    for batch in batches:
        places = np.arange(start, start + batch.num_rows)
        picked = np.flatnonzero((places % shard_rows == 0) & (places > 0))
        start += batch.num_rows
        item_ids = batch["item_id"].take(pa.array(picked))
        yield pa.RecordBatch.from_arrays([pa.array(places[picked]), item_ids], ["position", "item_id"])


def _number_batches(batches: Batches, starts: list[int | str]) -> Batches:
    """Add the number of its shard to every row."""
    texts = [start.encode() for start in starts if isinstance(start, str)]
    text = bool(texts)
    edges: np.ndarray = np.array(texts, object) if text else np.array(starts, np.int64)
    for batch in batches:
        item_ids = batch["item_id"]
        keys = np.array(item_ids.cast(pa.binary()).to_pylist(), object) if text else item_ids
        shard = np.searchsorted(edges, keys, side="right").astype(np.int32) if starts else np.zeros(len(keys), np.int32)
        arrays = [item_ids, batch["embedding"], pa.array(shard)]
        yield pa.RecordBatch.from_arrays(arrays, ["item_id", "embedding", "shard"])


def _write_group(key: tuple[pa.Scalar, ...], rows: pa.Table, folder: str, seed: int | None) -> pa.Table:
    """Write the shard of a group of rows and return one row of facts about it."""
    rows = rows.combine_chunks()
    embeddings = valid_matrix(rows["embedding"].combine_chunks())
    facts = write_shard(folder, key[0].as_py(), rows["item_id"].combine_chunks(), embeddings, seed=seed)
    types = [pa.int32(), pa.int64(), pa.int64(), pa.float64(), pa.string(), pa.string()]
    return pa.table([pa.array([value], kind) for value, kind in zip(facts, types)], names=list(ShardFacts._fields))
