"""Measures of codes, the same for every quantizer.

In: a catalog and codes. Out: a flat dict of numbers.
"""

from __future__ import annotations

import numpy as np

from qarm_features.evaluation.co_clicks import CodedPairs, expected_hits, shared_lengths, shuffled_shares
from qarm_features.evaluation.popularity import MATCHED, MATCHED_SHARE

from .catalogs import Catalog, Pairs
from .quantizers import Codes

NEIGHBORS, CANDIDATES, _QUERIES = 10, 100, 1000


def measure(catalog: Catalog, found: Codes) -> dict[str, float | None]:
    """Return all measures of codes but those of a ranking model.

    Returns:
        - ``bits``, ``levels``, ``seconds``,
        - ``explained``: explained variance of what the quantizer decodes, None if it decodes nothing,
        - ``explained_by_sums``: that of a sum of one vector per code, each the mean of what the levels before leave; this is
          what a model can learn that adds one embedding per code,
        - ``distinct``: distinct IDs divided by items, ``unique``: share of items with an ID of their own,
        - ``usage``: share of codes in use, ``perplexity``: perplexity divided by the number of codes, means over levels,
        - for co-clicks and pairs bought together ``lift_1`` and ``lift_2`` over exchanged targets of the first one and two
          codes, ``matched_1`` and ``matched_2`` over items as popular as the target, and ``beats``, the share of these items
          that share a shorter prefix with the trigger than the target,
        - ``neighbors``: share of the 10 nearest items by embedding among the 100 that share most codes.
    """
    codes = found.codes
    _, group, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    by_level = [np.bincount(codes[:, level], minlength=size) for level, size in enumerate(found.sizes)]
    figures: dict[str, float | None] = {
        "bits": float(np.log2(found.sizes).sum()),
        "levels": float(len(found.sizes)),
        "seconds": found.seconds,
        "explained": None if found.decoded is None else explained_variance(catalog.embeddings, found.decoded),
        "explained_by_sums": explained_variance(catalog.embeddings, sums_of_means(catalog.embeddings, codes)),
        "distinct": len(counts) / len(codes),
        "unique": float((counts[group.ravel()] == 1).mean()),
        "usage": float(np.mean([(count > 0).mean() for count in by_level])),
        "perplexity": float(np.mean([2 ** _entropy(count) / len(count) for count in by_level])),
        "neighbors": neighbors_kept(catalog.embeddings, found),
    }
    for name, pairs in catalog.pairs.items():
        figures |= {f"{name} {measured}": value for measured, value in lifts(catalog, codes, pairs).items()}
    return figures


def explained_variance(embeddings: np.ndarray, decoded: np.ndarray) -> float:
    """Return 1 minus the squared error of decoded embeddings (I, D), divided by the variance of the embeddings."""
    left = np.square(embeddings - decoded, dtype=np.float64).sum()
    return float(1 - left / np.square(embeddings - embeddings.mean(axis=0), dtype=np.float64).sum())


def sums_of_means(embeddings: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return (I, D) sums over levels of the mean residual of the items with the same code."""
    mean = embeddings.mean(axis=0)
    total = np.repeat(mean[None], len(embeddings), axis=0)
    for level in codes.T:
        order = np.argsort(level, kind="stable")
        present, starts, counts = np.unique(level[order], return_index=True, return_counts=True)
        sums = np.add.reduceat((embeddings - total)[order].astype(np.float64), starts, axis=0)
        means = np.zeros((present.max() + 1, embeddings.shape[1]), np.float32)
        means[present] = sums / counts[:, None]
        total = total + means[level]
    return total


def lifts(catalog: Catalog, codes: np.ndarray, pairs: Pairs) -> dict[str, float | None]:
    """Return lifts of pairs, as ``qarm evaluate-codes`` measures them."""
    coded = CodedPairs(
        np.arange(len(pairs.user)), codes[pairs.trigger], codes[pairs.target], pairs.trigger, pairs.target
    )
    lengths, exchanged = shared_lengths(coded), shuffled_shares(coded)
    others, real = as_popular(catalog.positives, pairs)
    of_others = np.cumprod(codes[others] == codes[pairs.trigger][:, None], axis=2).sum(axis=2)
    beaten = (np.sign(lengths[:, None] - of_others) + 1) / 2
    found: dict[str, float | None] = {"beats": float(_row_means(beaten, real).mean())}
    for length in (1, 2):
        share = float((lengths >= length).mean())
        matched = float(_row_means(of_others >= length, real).mean())
        found[f"share_{length}"] = share
        found[f"lift_{length}"] = share / exchanged[length - 1] if exchanged[length - 1] else None
        found[f"matched_{length}"] = share / matched if matched else None
    return found


def as_popular(positives: np.ndarray, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Return the items nearest in popularity to each target (P, W), and which of them count (P, W) bool.

    As in ``evaluation.popularity.matched_items``: 50, or 2.5% of the items if fewer; neither end of the pair counts.
    """
    order = np.lexsort((np.random.default_rng(0).random(len(positives)), positives))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    width = min(MATCHED, max(2, int(MATCHED_SHARE * len(order))))
    first = np.clip(place[pairs.target] - width // 2, 0, len(order) - 1 - width)
    items = order[first[:, None] + np.arange(width + 1)]
    return items, (items != pairs.target[:, None]) & (items != pairs.trigger[:, None])


def neighbors_kept(embeddings: np.ndarray, found: Codes, seed: int = 0) -> float:
    """Return the mean share of the 10 nearest items by embedding that are among the 100 that share most codes.

    Codes that go from coarse to fine share a prefix; of other codes, all common ones count. Items that share as many are in
    random order, and a neighbor counts with the probability that it is among the first 100.
    """
    queries = np.sort(np.random.default_rng(seed).permutation(len(embeddings))[:_QUERIES])
    scores = embeddings[queries] @ embeddings.T
    scores[np.arange(len(queries)), queries] = -np.inf
    near = np.argpartition(-scores, NEIGHBORS, axis=1)[:, :NEIGHBORS]
    hits = []
    for query, nearest in zip(queries, near):
        same = found.codes == found.codes[query]
        shared = (np.cumprod(same, axis=1) if found.ordered else same).sum(axis=1)
        shared[query] = -1
        counts = np.bincount(shared + 1, minlength=found.codes.shape[1] + 2)
        nearer = len(shared) - np.cumsum(counts)
        hits.append(expected_hits(nearer[shared[nearest] + 1], counts[shared[nearest] + 1], k=CANDIDATES))
    return float(np.mean(hits))


def _row_means(values: np.ndarray, real: np.ndarray) -> np.ndarray:
    return (values * real).sum(axis=1) / real.sum(axis=1)


def _entropy(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())
