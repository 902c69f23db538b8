"""Levels and codebook sizes are proposed from a sample of embeddings, and from pairs of items that users liked.

In: a bounded sample of embeddings, the number of items in the catalog, and embeddings of pairs. Out: an ``Advice``, with all
that it rests on. No number is proposed without the rule that gave it.

For each level, k-means with 4, 8, 16, ... centroids is fitted to four fifths of the residuals, and its error is measured on
the last fifth. ``size_rules`` chooses one. Levels are added while the error is large and too many items would share
their semantic ID. Where the error is small and items still share IDs, one more level tells them apart.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from qarm_features.evaluation.size_rules import Tried, choose_size, pair_evidence, size_by_items, sizes_to_try
from qarm_features.quantizers.arrays.lloyd import nearest_codes
from qarm_features.quantizers.sample_fits import fit_sample, mean_error

FEWEST_ITEMS, FEW_ITEMS, FEWEST_PAIRS = 80, 1000, 500
MOST_LEVELS = 6
SMALL_ERROR = 0.05  # share of the variance below which a level is not needed for the content
MOST_SHARED = 0.05  # share of items, beyond those with equal embeddings, that may share their ID
_HELD_OUT = 5


class Level(NamedTuple):
    """A proposed level.

    Attributes:
        size: Number K of centroids.
        rule: Rule that chose it: ``clusters``, ``pairs``, ``items``, or ``apart`` for a last level that only tells items
            apart, because the levels before leave hardly any error.
        tried: The numbers of centroids that were tried, ascending.
        largest_share: Share of the sample that the fullest code holds.
    """

    size: int
    rule: str
    tried: list[Tried]
    largest_share: float


class Advice(NamedTuple):
    """Proposed levels, with what they rest on.

    Attributes:
        items: Number of items of the catalog.
        sample: Number of items of the sample.
        distinct: Number of distinct embeddings of the sample.
        pairs: Number of pairs whose items both have an embedding.
        levels: The proposed levels.
        error: Squared error of held-out items after the last level, as a share of the variance.
        bits: Bits of a semantic ID.
        items_per_bucket: Items divided by the number of codes of level 0.
        table_rows: Rows of embedding tables with one row per code.
        prefix_rows: Most rows of tables with one row per prefix, bounded by the items at each length.
        collisions_sample: Share of the items of the sample that share their ID in it: at least this in the catalog.
        collisions_duplicates: Share of the items of the sample whose embedding is that of another one, which no size can
            tell apart.
        collisions_at_most: An upper bound of the share in the whole catalog, from how often two sampled items share an ID.
        collisions_even: Share if IDs were drawn at random, which is the least that so many IDs allow.
        cautions: Sentences about what is too small to rely on.
    """

    items: int
    sample: int
    distinct: int
    pairs: int
    levels: list[Level]
    error: float
    bits: float
    items_per_bucket: float
    table_rows: int
    prefix_rows: int
    collisions_sample: float
    collisions_duplicates: float
    collisions_at_most: float
    collisions_even: float
    cautions: list[str]


def advise(sample: np.ndarray, *, items: int, pairs: np.ndarray | None = None, seed: int = 0) -> Advice:
    """Propose levels and codebook sizes.

    Args:
        sample: Embeddings (B, D) float32 of items drawn at random, in an order that says nothing.
        items: Number of items of the catalog, at least B.
        pairs: Embeddings (P, 2, D) float32 of pairs that users liked one after the other, or None.
        seed: Seed of the draws, at least 0.

    Raises:
        ValueError: The sample has fewer than 80 items, or all its embeddings are equal.
    """
    if len(sample) < FEWEST_ITEMS:
        raise ValueError(
            f"The sample has {len(sample)} items with an embedding, must have at least {FEWEST_ITEMS}. Embed more items, or "
            "choose codebooks.codebook_size by hand."
        )
    variance = float(np.square(sample - sample.mean(axis=0), dtype=np.float64).sum() / len(sample))
    if variance == 0:
        raise ValueError("All embeddings of the sample are equal, so no size tells items apart. Check the encoder.")
    enough = pairs is not None and len(pairs) >= FEWEST_PAIRS
    residuals, levels, codes, error = sample, list[Level](), np.zeros((len(sample), 0), np.int32), 1.0
    duplicates = _shared(np.unique(sample, axis=0, return_inverse=True)[1].ravel())
    while len(levels) < MOST_LEVELS:
        apart = error <= SMALL_ERROR
        of_pairs = pairs if enough and not levels else None
        level, centroids = _level(residuals, variance, of_pairs, items, apart=apart, seed=seed + len(levels))
        of_level = nearest_codes(residuals, centroids)
        share = float(np.bincount(of_level).max() / len(sample))
        levels.append(level._replace(largest_share=share))
        codes, residuals = np.column_stack([codes, of_level]), residuals - centroids[of_level]
        error = next(tried.error for tried in level.tried if tried.size == level.size)
        told_apart = _collisions(codes, len(sample), items)[1] - duplicates <= MOST_SHARED
        enough_levels = error <= SMALL_ERROR or (len(levels) > 1 and level.rule != "clusters")
        if apart or (told_apart and enough_levels) or not np.any(residuals):
            break
    return _advice(sample, codes, levels, error, duplicates, items, 0 if pairs is None else len(pairs))


def _level(
    residuals: np.ndarray,
    variance: float,
    pairs: np.ndarray | None,
    items: int,
    *,
    apart: bool,
    seed: int,
) -> tuple[Level, np.ndarray]:
    """Return a level and its centroids (K, D), fitted to the whole sample; ``apart`` if it only tells items apart."""
    held_out = np.arange(len(residuals)) % _HELD_OUT == 0
    fitted = residuals[~held_out]
    tried = []
    for size in sizes_to_try(min(len(fitted), len(np.unique(fitted, axis=0)))):
        centroids = fit_sample(fitted, size, seed=seed)
        evidence = None if pairs is None else pair_evidence(pairs, centroids)
        tried.append(Tried(size, mean_error(residuals[held_out], centroids) / variance, evidence))
    size, rule = (size_by_items(tried, items), "apart") if apart else choose_size(tried, items=items)
    return Level(size, rule, tried, 0.0), fit_sample(residuals, size, seed=seed)


def _shared(group: np.ndarray) -> float:
    """Return the share of rows whose group (B,) has another row."""
    counts = np.bincount(group)
    return float((counts[group] > 1).mean())


def _collisions(codes: np.ndarray, sample: int, items: int) -> tuple[float, float]:
    """Return the share of sampled items that share their ID (B, L), and an upper bound for the whole catalog.

    An item of an ID with share p has no other item with its ID with probability (1 - p)**(N - 1). Its mean over items is at
    least that of the mean p, by Jensen's inequality, and the mean p is the probability that two items share their ID.
    """
    group = np.unique(codes, axis=0, return_inverse=True)[1].ravel()
    counts = np.bincount(group).astype(np.float64)
    observed = _shared(group)
    if sample == items:
        return observed, observed
    both = float((counts * (counts - 1)).sum() / (sample * (sample - 1)))
    return observed, max(observed, -math.expm1(-(items - 1) * both))


def _advice(
    sample: np.ndarray,
    codes: np.ndarray,
    levels: list[Level],
    error: float,
    duplicates: float,
    items: int,
    pairs: int,
) -> Advice:
    sizes = [level.size for level in levels]
    bits = sum(math.log2(size) for size in sizes)
    observed, at_most = _collisions(codes, len(sample), items)
    distinct = len(np.unique(sample, axis=0))
    prefixes = [min(items, math.prod(sizes[:length])) for length in range(1, len(sizes) + 1)]
    return Advice(
        items=items,
        sample=len(sample),
        distinct=distinct,
        pairs=pairs,
        levels=levels,
        error=error,
        bits=bits,
        items_per_bucket=items / sizes[0],
        table_rows=sum(sizes),
        prefix_rows=sum(prefixes),
        collisions_sample=observed,
        collisions_duplicates=duplicates,
        collisions_at_most=at_most,
        collisions_even=-math.expm1(-(items - 1) * 2.0**-bits),
        cautions=_cautions(len(sample), distinct, items, pairs, levels),
    )


def _cautions(sample: int, distinct: int, items: int, pairs: int, levels: list[Level]) -> list[str]:
    found = []
    if sample < FEW_ITEMS:
        found.append(
            f"The sample has {sample} items, fewer than {FEW_ITEMS:,}: sizes above {levels[0].tried[-1].size} could not be "
            "tried, and the errors are rough."
        )
    elif items > sample and any(level.size == level.tried[-1].size for level in levels):
        found.append(
            f"A proposed size is the largest that a sample of {sample:,} items can try. A larger one may be better: raise "
            "--max-items."
        )
    if items > 20 * sample:
        found.append(f"The sample is {sample / items:.1%} of the catalog, so the range of collisions is wide.")
    if not pairs:
        found.append("There are no pairs of items that users liked: the advice says nothing about behavior.")
    elif pairs < FEWEST_PAIRS:
        found.append(f"There are {pairs} pairs, fewer than {FEWEST_PAIRS}: they were not used.")
    if distinct < 0.9 * sample:
        found.append(
            f"Of {sample:,} embeddings only {distinct:,} are distinct. Items with equal embeddings share their semantic ID "
            "whatever the sizes are: give the encoder more text, or set semantic_ids.bucket_cap."
        )
    return found
