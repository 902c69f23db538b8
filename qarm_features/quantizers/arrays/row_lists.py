"""Inverted lists over one shard of a bank, by faiss, for a fast but approximate search in a large bank.

In: rows (N, D). Out: an ``IndexIVFFlat`` in a file, and candidates of queries from its nearest lists. The nearest lists are
chosen as exactly as the nearest rows, so that the candidates do not depend on batches. The choice that faiss itself makes
depends on the other queries of a batch.

Source: faiss, ``IndexIVFFlat`` with inner product.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from qarm_features.quantizers.arrays.nearest_rows import Nearest, Rows, merge_shard

_LEAST_ROWS_OF_LIST, _MOST_ROWS_OF_LIST = 39, 64  # in the sample on which centroids are trained
_ITERATIONS = 10


def count_lists(num_rows: int) -> int:
    """Return the number of lists of N rows, about 2 sqrt(N), with at least 39 rows per list.

    Example:
        >>> count_lists(10_000)
        200
    """
    return max(1, min(round(2 * math.sqrt(num_rows)), num_rows // _LEAST_ROWS_OF_LIST))


def build_lists(embeddings: np.ndarray, file: str, *, seed: int) -> None:
    """Divide rows into lists and write them to a file.

    A single thread trains the lists, so that the same rows and seed give the same lists.

    Args:
        embeddings: Rows (N, D) float32, finite.
        file: Path of the file to write.
        seed: Seed for training, at least 0.
    """
    import faiss

    rows, dim = embeddings.shape
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, count_lists(rows), faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.niter = seed % 2**31, _ITERATIONS
    index.cp.max_points_per_centroid = _MOST_ROWS_OF_LIST
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        index.train(embeddings)
        index.add(embeddings)
    finally:
        faiss.omp_set_num_threads(threads)
    faiss.write_index(index, file)


@functools.lru_cache(maxsize=4096)
def read_lists(file: str, digest: str) -> tuple[Any, np.ndarray]:
    """Map the lists of a file into memory, once per Python worker.

    Args:
        file: Path of the file.
        digest: SHA-256 of the file, by which a changed file is read again.

    Returns:
        The index of faiss, and the centroids (K, D) float32 of the lists.
    """
    import faiss

    index: Any = faiss.read_index(file, faiss.IO_FLAG_MMAP)
    return index, index.quantizer.reconstruct_n(0, index.nlist)


def probe_lists(
    lists: tuple[Any, np.ndarray], queries: np.ndarray, count: int, num_probes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find candidates in the lists that are nearest to each query.

    Args:
        lists: Index and centroids as ``read_lists`` returns them.
        queries: Queries (B, D) float32, finite.
        count: Maximal number of candidates of a query, at least 1.
        num_probes: Number of lists to search for a query, at least 1.

    Returns:
        Query indices (P,) and row indices (P,) of the candidates.
    """
    index, centroids = lists
    max_norm = float(np.linalg.norm(centroids, axis=1).max())
    centroid_rows = Rows(centroids, np.zeros(len(centroids), np.int32), 0, max_norm)
    nearest = Nearest.none(len(queries), min(num_probes, len(centroids)))
    nearest = merge_shard(queries, np.full(len(queries), -1), centroid_rows, nearest)
    similarities = np.ascontiguousarray(nearest.similarities, dtype=np.float32)
    index.nprobe = nearest.positions.shape[1]
    _, rows = index.search_preassigned(np.ascontiguousarray(queries), count, nearest.positions, similarities)
    query_at, rank = np.nonzero(rows >= 0)
    return query_at, rows[query_at, rank]
