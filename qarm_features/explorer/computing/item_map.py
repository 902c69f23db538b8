"""A map of items, on which near items have similar embeddings.

In: embeddings of at most some ten thousand items, sampled by hash. Out: their places in two dimensions, by t-SNE where
openTSNE is installed, else by principal components. The same items and seed give the same map.

Source: Poličar, Stražar, Zupan, openTSNE, Journal of Statistical Software 2024.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.codebooks.errors import matrix
from qarm_features.explorer.contract import MapPoints

_LEAST_TSNE, _PERPLEXITY, _THREADS = 10, 30, 4
_TSNE = "t-SNE of the item embeddings (perplexity {perplexity:g}, cosine): items that are near here have similar embeddings."
_PCA = "The first two principal components of the item embeddings{why}."


def item_map(rows: DataFrame, *, items: int, most: int, seed: int) -> MapPoints:
    """Place items on a map.

    Args:
        rows: ``item_id``, ``title``, ``rq_codes``, ``item_hash`` and ``embedding`` (D) of the items that are shown.
        items: Number of items that are shown.
        most: Highest number of items of the map, at least 0.
        seed: Seed of t-SNE.
    """
    chosen = rows.orderBy("item_hash", "item_id").limit(most)
    item_id = F.col("item_id").cast("string").alias("item_id")
    table = chosen.select(item_id, "title", "rq_codes", "embedding").toArrow()  # at most ``most`` rows
    embeddings = matrix(table["embedding"].combine_chunks()) if table.num_rows else np.zeros((0, 1), np.float32)
    places, method = place(embeddings, seed=seed)
    return {
        "item_id": table["item_id"].to_pylist(),
        "title": table["title"].to_pylist(),
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "rq_codes": table["rq_codes"].to_pylist(),
        "sampled": table.num_rows < items,
        "method": method,
    }


def place(embeddings: np.ndarray, *, seed: int) -> tuple[np.ndarray, str]:
    """Return places (B, 2) float64, to four digits, and a sentence that says how they were computed.

    Args:
        embeddings: (B, D) float32.
        seed: Seed of t-SNE.
    """
    if len(embeddings) < _LEAST_TSNE:
        places, method = principal_components(embeddings), _PCA.format(why="")
    elif find_spec("openTSNE") is None:
        places, method = principal_components(embeddings), _PCA.format(why=", because openTSNE is not installed")
    else:
        perplexity = min(_PERPLEXITY, (len(embeddings) - 1) / 3)
        places, method = _tsne(embeddings, perplexity, seed), _TSNE.format(perplexity=perplexity)
    return np.round(places, 4), method


def principal_components(embeddings: np.ndarray) -> np.ndarray:
    """Return the coordinates (B, 2) of embeddings (B, D) on the two directions in which they differ most.

    Of the two signs of a direction that one is taken whose largest entry is positive.

    Example:
        >>> principal_components(np.array([[0.0, 3.0], [0.0, -1.0], [0.0, -2.0]], np.float32))[:, 0].tolist()
        [3.0, -1.0, -2.0]
    """
    if len(embeddings) == 0:
        return np.zeros((0, 2))
    centered = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    _, vectors = np.linalg.eigh(centered.T @ centered)
    directions = vectors[:, ::-1][:, :2]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    places = centered @ (directions * np.where(largest < 0, -1.0, 1.0))
    return np.pad(places, ((0, 0), (0, 2 - places.shape[1])))


def _tsne(embeddings: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    from openTSNE import TSNE

    threads = min(_THREADS, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else 1
    # The approximate search for neighbors would give another map on another machine.
    tsne = TSNE(perplexity=perplexity, metric="cosine", neighbors="exact", random_state=seed, n_jobs=threads)
    return np.asarray(tsne.fit(embeddings.astype(np.float64)))
