"""Neighborhoods of items by code are compared with their neighborhoods by embedding.

In: embeddings and codes of all items. Out: the overlap of the k nearest items by code and by embedding, for a sample of
items and the whole catalog. Codes are decoded to the sum of their centroids, and compared by cosine.

Source: rank-biased overlap, Webber, Moffat, Zobel, TOIS 2010, equation 7 cut at k and divided by its largest value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.codebooks.errors import matrix

_BLOCK = 4096  # number of items whose scores with all queries are in memory at once
_STEPS = 2.0**20  # scores are rounded to 1 / 2**20, so that equal codes tie whatever the rows of a batch
_PERSISTENCE = 0.9  # gives the first 10 ranks 86% of the weight in rank-biased overlap


def neighborhood_overlap(
    rows: DataFrame, codebooks: np.ndarray, *, k: int = 20, max_queries: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Compare the k nearest items by embedding with the k nearest items by code, for a sample of items.

    Args:
        rows: ``item_id``, ``embedding`` (D), ``rq_codes`` (L) of all items.
        codebooks: (L, K, D) float32 centroids.
        k: Number of nearest items, at least 1. Of equally near items the smaller IDs come first.
        max_queries: Largest number of sampled items.
        seed: Seed of the hash of item IDs by which items are sampled.

    Returns:
        ``k``, ``queries`` (number of sampled items), ``jaccard`` and ``rank_biased_overlap``. The last two are means over
        the queries in [0, 1], or None if the catalog has fewer than two items.
    """
    sample = rows.orderBy(F.xxhash64(F.lit(seed), "item_id"), "item_id").limit(max_queries)
    sampled = sample.select("item_id", "embedding", "rq_codes").toArrow().combine_chunks()  # at most max_queries rows
    if sampled.num_rows < 2 and rows.count() < 2:
        return {"k": k, "queries": 0, "jaccard": None, "rank_biased_overlap": None}
    embeddings, codes = (sampled[name].combine_chunks() for name in ("embedding", "rq_codes"))
    queries = _unit(matrix(embeddings)), _unit(decode(matrix(codes, np.int32), codebooks))
    shared = rows.sparkSession.sparkContext.broadcast((queries, sampled["item_id"].to_numpy(), codebooks))

    def nearest(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for start in range(0, batch.num_rows, _BLOCK):
                yield _nearest_of(batch.slice(start, _BLOCK), *shared.value, k=k)

    id_type = rows.schema["item_id"].dataType.simpleString()
    schema = f"query int, by_code boolean, item_id {id_type}, score long"
    best = Window.partitionBy("query", "by_code").orderBy(F.desc("score"), "item_id")
    found = rows.select("item_id", "embedding", "rq_codes").mapInArrow(nearest, schema)
    found = found.withColumn("rank", F.row_number().over(best)).where(F.col("rank") <= k)
    lists = found.groupBy("query", "by_code").agg(
        F.array_sort(F.collect_list(F.struct("rank", "item_id"))).alias("items")
    )
    by_query: dict[int, dict[bool, list[int | str]]] = {}
    for row in lists.collect():  # 2 k items of at most max_queries queries
        by_query.setdefault(row["query"], {})[row["by_code"]] = [item["item_id"] for item in row["items"]]
    shared.unpersist()
    pairs = [(nearest_items[False], nearest_items[True]) for _, nearest_items in sorted(by_query.items())]
    return {
        "k": k,
        "queries": len(pairs),
        "jaccard": float(np.mean([jaccard(*both) for both in pairs])),
        "rank_biased_overlap": float(np.mean([rank_biased_overlap(*both) for both in pairs])),
    }


def decode(codes: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
    """Decode codes to the sums of their centroids.

    Args:
        codes: (B, L) codes.
        codebooks: (L, K, D) float32 centroids.

    Returns:
        (B, D) float32.

    Example:
        >>> codebooks = np.array([[[1, 0], [0, 1]], [[0.5, 0], [0, 0.5]]], np.float32)
        >>> decode(np.array([[0, 1]]), codebooks).tolist()
        [[1.0, 0.5]]
    """
    decoded: np.ndarray = sum(centroids[codes[:, level]] for level, centroids in enumerate(codebooks))
    return decoded


def jaccard(one: Sequence, other: Sequence) -> float:
    """Return the number of items in both lists divided by the number of items in either, in [0, 1].

    Example:
        >>> jaccard([1, 2, 3], [2, 3, 4])
        0.5
    """
    return len(set(one) & set(other)) / len(set(one) | set(other))


def rank_biased_overlap(one: Sequence, other: Sequence, *, persistence: float = _PERSISTENCE) -> float:
    """Return the overlap of two rankings without ties, in [0, 1]. The first ranks have the largest weights.

    Args:
        one: Items, the nearest first.
        other: Items of the other ranking, as many.
        persistence: Weight of a rank divided by the weight of the rank before, in (0, 1).

    Example:
        >>> rank_biased_overlap([1, 2], [1, 2]), round(rank_biased_overlap([1, 2], [2, 1]), 4)
        (1.0, 0.4737)
    """
    overlap = [len(set(one[:depth]) & set(other[:depth])) / depth for depth in range(1, len(one) + 1)]
    weights = persistence ** np.arange(len(one))
    return float(weights @ overlap / weights.sum())


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _nearest_of(
    batch: pa.RecordBatch,
    queries: tuple[np.ndarray, np.ndarray],
    query_ids: np.ndarray,
    codebooks: np.ndarray,
    *,
    k: int,
) -> pa.RecordBatch:
    """Return the k nearest items of a block to each query, by embedding and by code. A query is not its own neighbor.

    Args:
        batch: ``item_id``, ``embedding`` (D) and ``rq_codes`` (L) of a block of items.
        queries: Embeddings and decoded codes of the queries, (Q, D) each.
        query_ids: (Q,) item IDs of the queries.
        codebooks: (L, K, D) float32 centroids.
        k: Number of nearest items, at least 1.

    Returns:
        ``query``, ``by_code``, ``item_id``, ``score``.
    """
    ids = batch["item_id"].to_numpy(zero_copy_only=False)
    order = np.argsort(ids, kind="stable")
    spaces = matrix(batch["embedding"]), decode(matrix(batch["rq_codes"], np.int32), codebooks)
    found = []
    for by_code, (items, space_queries) in enumerate(zip(spaces, queries)):
        scores = np.rint(_STEPS * (space_queries @ _unit(items[order]).T)).astype(np.int64)  # (queries, block)
        scores[query_ids[:, None] == ids[order][None]] = -(2**40)
        # Each item gets one integer, which is larger for a higher score, and for a smaller ID among equal scores.
        keys = scores * len(ids) + np.arange(len(ids))[::-1]
        most = min(k, len(ids))
        best = np.argpartition(-keys, most - 1, axis=1)[:, :most]
        query = np.repeat(np.arange(len(best), dtype=np.int32), most)
        value = np.take_along_axis(scores, best, axis=1).ravel()
        real = value > -(2**40)
        items_found = batch["item_id"].take(pa.array(order[best.ravel()][real]))
        columns = [
            pa.array(query[real]),
            pa.array(np.full(real.sum(), bool(by_code))),
            items_found,
            pa.array(value[real]),
        ]
        found.append(pa.RecordBatch.from_arrays(columns, ["query", "by_code", "item_id", "score"]))
    return pa.concat_batches(found)
