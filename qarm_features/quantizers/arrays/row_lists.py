"""Inverted lists over one shard of a bank, by faiss: what makes a large bank quick to search, not quite exactly.

In: rows (N, D). Out: an ``IndexIVFFlat`` in a file, and candidates of queries from its nearest lists. Which lists are nearest
is decided as exactly as the nearest rows are (faiss's own choice depends on the queries beside a query), so that the
candidates do not depend on batches.

Source: faiss, ``IndexIVFFlat`` with inner product.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from qarm_features.quantizers.arrays.nearest_rows import Nearest, Rows, merge_shard

_LEAST_ROWS_OF_LIST, _MOST_ROWS_OF_LIST = 39, 64  # of the sample that centroids are trained on
_ITERATIONS = 10


def count_lists(num_rows: int) -> int:
    """Returns how many lists N rows are cut into: about 2 sqrt(N), of at least 39 rows each."""
    return max(1, min(round(2 * math.sqrt(num_rows)), num_rows // _LEAST_ROWS_OF_LIST))


def build_lists(embeddings: np.ndarray, file: str, *, seed: int) -> None:
    """Cuts rows (N, D) float32 into lists and writes them. One thread trains: the same rows and seed, the same lists."""
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
def read_lists(file: str, digest: str):
    """Maps the lists of this sha256 into memory, once per Python worker; returns index and centroids (K, D) float32."""
    import faiss

    index = faiss.read_index(file, faiss.IO_FLAG_MMAP)
    return index, index.quantizer.reconstruct_n(0, index.nlist)


def probe_lists(lists, queries: np.ndarray, count: int, num_probes: int) -> tuple[np.ndarray, np.ndarray]:
    """Looks through the lists nearest to each query.

    Args:
        lists: as `read_lists` returns them.
        queries: (B, D) float32, finite.
        count: candidates of a query, at least 1.
        num_probes: lists of a query, at least 1.

    Returns:
        (query, row) indices of the candidates, fewer than ``count`` of a query whose lists hold fewer rows.
    """
    index, centroids = lists
    of_centroids = Rows(
        centroids, np.zeros(len(centroids), np.int32), 0, float(np.linalg.norm(centroids, axis=1).max())
    )
    nearest = Nearest.none(len(queries), min(num_probes, len(centroids)))
    nearest = merge_shard(queries, np.full(len(queries), -1), of_centroids, nearest)
    similarities = np.ascontiguousarray(nearest.similarities, dtype=np.float32)
    index.nprobe = nearest.positions.shape[1]
    _, rows = index.search_preassigned(np.ascontiguousarray(queries), count, nearest.positions, similarities)
    query_at, rank = np.nonzero(rows >= 0)
    return query_at, rows[query_at, rank]
