"""Whether items that are near each other as embeddings are near each other as codes.

In: embeddings and codes of all items. Out: overlap of the k nearest items in both, for a drawn sample of items against the
whole catalog. Nearness of codes is the cosine of what they decode to, the sum of their centroids.

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

_BLOCK = 4096  # items whose scores against all queries are held at once
_STEPS = 2.0**20  # scores are rounded, so that equal codes tie whatever rows stand beside them
_PERSISTENCE = 0.9  # of rank-biased overlap: 0.9 gives the first 10 ranks 86% of the weight


def neighborhood_overlap(
    rows: DataFrame, codebooks: np.ndarray, *, k: int = 20, max_queries: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Compares the k nearest items of a sample of items, by embedding and by code.

    Args:
        rows: ``item_id``, ``embedding`` (D), ``rq_codes`` (L), all items.
        codebooks: (L, K, D) float32.
        k: Nearest items looked at, at least 1; ties go to the smaller item ID.
        max_queries: Items drawn, by a hash of their ID.
        seed: Of the draw.

    Returns:
        ``k``, ``queries``, ``jaccard`` and ``rank_biased_overlap``: means over the queries, in [0, 1]; None where the
        catalog has no second item.
    """
    draw = rows.orderBy(F.xxhash64(F.lit(seed), "item_id"), "item_id").limit(max_queries)
    drawn = draw.select("item_id", "embedding", "rq_codes").toArrow().combine_chunks()  # at most max_queries rows
    if drawn.num_rows < 2 and rows.count() < 2:
        return {"k": k, "queries": 0, "jaccard": None, "rank_biased_overlap": None}
    embeddings, codes = (drawn[name].combine_chunks() for name in ("embedding", "rq_codes"))
    queries = _unit(matrix(embeddings)), _unit(decode(matrix(codes, np.int32), codebooks))
    shared = rows.sparkSession.sparkContext.broadcast((queries, drawn["item_id"].to_numpy(), codebooks))

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
    by_query: dict[int, dict[bool, list]] = {}
    for row in lists.collect():  # 2 k items of at most max_queries queries
        by_query.setdefault(row["query"], {})[row["by_code"]] = [item["item_id"] for item in row["items"]]
    shared.unpersist()
    pairs = [(lists[False], lists[True]) for _, lists in sorted(by_query.items())]
    return {
        "k": k,
        "queries": len(pairs),
        "jaccard": float(np.mean([jaccard(*both) for both in pairs])),
        "rank_biased_overlap": float(np.mean([rank_biased_overlap(*both) for both in pairs])),
    }


def decode(codes: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
    """Returns the sums of the centroids, (B, D) float32, of codes (B, L) under codebooks (L, K, D)."""
    return sum(centroids[codes[:, level]] for level, centroids in enumerate(codebooks))


def jaccard(one: Sequence, other: Sequence) -> float:
    """Returns the items in both lists by the items in either, in [0, 1]."""
    return len(set(one) & set(other)) / len(set(one) | set(other))


def rank_biased_overlap(one: Sequence, other: Sequence, *, persistence: float = _PERSISTENCE) -> float:
    """Returns the overlap of two rankings without ties, weighted toward their tops, in [0, 1].

    Args:
        one: Items, the nearest first.
        other: Likewise, of the same length.
        persistence: Weight of a rank by that of the one before, in (0, 1).
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
    """Returns the k best of a block for each query, by embedding and by code; a query is not its own neighbor."""
    ids = batch["item_id"].to_numpy(zero_copy_only=False)
    order = np.argsort(ids, kind="stable")
    spaces = matrix(batch["embedding"]), decode(matrix(batch["rq_codes"], np.int32), codebooks)
    found = []
    for by_code, (items, of_space) in enumerate(zip(spaces, queries)):
        scores = np.rint(_STEPS * (of_space @ _unit(items[order]).T)).astype(np.int64)  # (queries, block)
        scores[query_ids[:, None] == ids[order][None]] = -(2**40)
        # One integer per item, larger for a higher score and, among equals, for a smaller ID.
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
