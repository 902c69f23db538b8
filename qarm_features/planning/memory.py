"""Memory and disk that a plan needs: of the driver, of Redis, of an executor, and of a training process.

In: sizes of the catalog and the cluster. Out: bytes. Each function names the place of the code that holds these bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from qarm_features.planning.constants import FIXED, RedisConstants
from qarm_features.planning.sizes import GIB, Cluster, Sizes
from qarm_features.planning.work import codebook_bytes, item_table_bytes
from qarm_features.quantizers.passes.sum_trees import COMBINE_BYTES, LEAST_LEFT

SPLIT_BYTES = 128 << 20  # spark.sql.files.maxPartitionBytes
DRIVER_BASE_BYTES = 2 * GIB  # a JVM with Spark's own books, and a Python process that has imported Feast and torch
EXPANSION = 3.0  # bytes of a row in a sort of Spark, by its bytes in a shuffle; an assumption
SORT_SHARE = 0.3  # of an executor's memory: spark.memory.fraction, half of it left by persisted rows; an assumption
_VOCABULARY_BYTES = 56  # an integer ID in a pandas index with its hash table, and its two counts
_WEIGHT_COPIES = 5  # weights, gradients, two moments of AdamW, and the best weights so far


def fit_partitions(sizes: Sizes, cluster: Cluster) -> int:
    """Returns the number of partitions of a fit, which are the splits of ``item_embeddings``."""
    return max(cluster.cores, math.ceil(item_table_bytes(sizes) / SPLIT_BYTES))


def step_result_bytes(sizes: Sizes) -> int:
    """Returns the bytes of the sums (K, D) float64 and counts (K,) that a task of a Lloyd step returns."""
    return 8 * sizes.codebook_size * (sizes.dim + 1)


def fetched_bytes(sizes: Sizes, cluster: Cluster) -> int:
    """Returns the most bytes that the driver fetches in a Lloyd step: all results, or what a tree of sums leaves."""
    partitions, one = fit_partitions(sizes, cluster), step_result_bytes(sizes)
    return min(partitions, max(LEAST_LEFT, COMBINE_BYTES // one)) * one


def driver_bytes(sizes: Sizes, cluster: Cluster) -> int:
    """Returns the memory of the driver in a fit: results in the JVM and again in Python, the sample, and the centroids."""
    sample = 4 * max(64 << 20, 4 * sizes.codebook_size * sizes.dim)
    return DRIVER_BASE_BYTES + 2 * fetched_bytes(sizes, cluster) + sample + 4 * codebook_bytes(sizes)


def refit_pairs_bytes(sizes: Sizes) -> int:
    """Returns the bytes of the counts of (new, old) codes of a refit, at most K x K rows, which the driver holds."""
    return DRIVER_BASE_BYTES + 24 * min(sizes.codebook_size**2, sizes.items)


def redis_bytes(sizes: Sizes, redis: RedisConstants) -> float:
    """Returns the memory of all keys of items and users in Redis."""
    of_key = redis.item_key
    item = of_key[FIXED] + sizes.releases * (of_key["release"] + of_key["code"] * sizes.levels)
    lengths = (sizes.behaviors, sizes.impressions)
    rows = (sizes.positives / sizes.users, sizes.events / sizes.users)
    mean = sum(min(most, count) for most, count in zip(lengths, rows)) / 2
    return sizes.items * item + sizes.users * interpolated(redis.user_key, mean)


def interpolated(points: Sequence[tuple[float, float]], place: float) -> float:
    """Returns the value at a place on the line through points, which goes on straight after the last and before the first.

    Example:
        >>> interpolated([(0, 1.0), (10, 2.0), (20, 4.0)], 30)
        6.0
    """
    after = next((n for n, (x, _) in enumerate(points[1:], 1) if place <= x), len(points) - 1)
    (x0, y0), (x1, y1) = points[after - 1 : after + 1]
    return y0 + (y1 - y0) * (place - x0) / (x1 - x0)


def fit_disk_bytes(sizes: Sizes, cluster: Cluster) -> float:
    """Returns the local disk of an executor that a fit takes: its rows of a level and of the next, and their codes."""
    return sizes.items * (8.0 * sizes.dim + 8) / cluster.executors


def step_memory_bytes(sizes: Sizes, cluster: Cluster) -> float:
    """Returns the memory of an executor in a Lloyd step: sums, centroids and factors of each core's Python worker."""
    return cluster.cores_per_executor * (24.0 * sizes.codebook_size * (sizes.dim + 1) + (256 << 20))


def trainer_bytes(sizes: Sizes) -> float:
    """Returns the memory of a training process: the table of item IDs with what AdamW keeps of it, and the vocabulary."""
    known = min(float(sizes.items), 2.0 * sizes.events)
    return GIB + known * (4.0 * _WEIGHT_COPIES * sizes.item_dim + _VOCABULARY_BYTES)
