"""Measure how well embeddings find the target items of held-out pairs, which decides when training stops.

In: held-out pairs and a fixed sample of candidate items. Out: figures of the same rows in every epoch.

Most held-out pairs have a popular target, and an encoder that moves popular items near everything reaches a high HitRate. So
each target is compared with items that are as popular, and training stops by the mean over buckets of popularity, in which
targets without any training pair count as much as popular ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qarm_features.alignment.gathering import gather_rows
from qarm_features.alignment.known_pairs import KnownPairs
from qarm_features.alignment.options import AlignmentOptions
from qarm_features.alignment.steps import pair_loss
from qarm_features.alignment.training_data import PairBatch, TrainingData
from qarm_features.torch_processes import Processes

HITS = 10
FEW = 5  # largest number of train pairs of a target with few
BUCKETS = ("new", "few", "middle", "popular")
_MATCHED, _MATCHED_SHARE = 50, 0.025  # largest number of items that are as popular as a target, and share of candidates
_CHUNK = 1024  # trigger items whose scores are in memory at once


class HeldOut(NamedTuple):
    """Hold the pairs and candidate items of the measurement.

    Attributes:
        pairs: Indexes (V, 2) int64 of trigger and target items, in a random order.
        candidates: Item indexes (C,) int64, ascending.
        items: Indexes (U,) int64 of all items in pairs or candidates, ascending.
        bucket: Places (V,) of the buckets of the targets in ``BUCKETS``.
        matched: Places (V, W) in ``candidates`` of the items that are as popular as the target.
    """

    pairs: np.ndarray
    candidates: np.ndarray
    items: np.ndarray
    bucket: np.ndarray
    matched: np.ndarray


def draw_held_out(data: TrainingData, *, max_pairs: int, num_candidates: int, seed: int) -> HeldOut:
    """Sample held-out pairs and candidate items.

    Args:
        data: Packed training data.
        max_pairs: Greatest number of held-out pairs, at least 1.
        num_candidates: Greatest number of candidate items, at least 1.
        seed: Seed of both samples.

    Returns:
        Pairs and candidates, equal for equal seeds.
    """
    rng = np.random.default_rng([seed, 2])
    pairs = np.asarray(data.valid_pairs)[rng.permutation(len(data.valid_pairs))[:max_pairs]]
    candidates = np.sort(rng.permutation(len(data.items))[:num_candidates])
    items = np.unique(np.concatenate([pairs.ravel(), candidates]))
    as_trigger, as_target = (np.bincount(data.pairs[:, side], minlength=len(data.items)) for side in (0, 1))
    bucket = buckets(as_target[pairs[:, 1]], is_new=(as_trigger + as_target)[pairs[:, 1]] == 0)
    matched = matched_places(as_target[candidates], as_target[pairs[:, 1]], rng)
    return HeldOut(pairs, candidates, items, bucket, matched)


def buckets(num_pairs: np.ndarray, *, is_new: np.ndarray) -> np.ndarray:
    """Put targets into buckets of popularity.

    Args:
        num_pairs: Numbers (V,) of train pairs with the item as the target.
        is_new: Marks (V,) bool of items without any train pair.

    Returns:
        Places (V,) in ``BUCKETS``: new; few, with at most 5 train pairs; and the two halves of all others.

    Example:
        >>> counts = np.array([0, 0, 5, 6, 7, 8, 9])
        >>> [BUCKETS[place] for place in buckets(counts, is_new=np.array([True] + [False] * 6))]
        ['new', 'few', 'few', 'middle', 'middle', 'popular', 'popular']
    """
    others = num_pairs[num_pairs > FEW]
    half = np.quantile(others, 0.5, method="lower") if len(others) else 0
    bucket = np.where(num_pairs <= FEW, 1, np.where(num_pairs <= half, 2, 3))
    bucket[is_new] = 0
    return bucket


def matched_places(of_candidates: np.ndarray, of_targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Find the candidates that are nearest in popularity to each target: 50, or 2.5% of all if those are fewer.

    Args:
        of_candidates: Numbers (C,) of train pairs of the candidates.
        of_targets: Numbers (V,) of train pairs of the targets.
        rng: Source of the order among candidates with as many pairs.

    Returns:
        Places (V, W) among the candidates, with W at most 51.
    """
    order = np.lexsort((rng.random(len(of_candidates)), of_candidates))
    width = min(len(order), 1 + min(_MATCHED, max(2, int(_MATCHED_SHARE * len(order)))))
    first, last = (np.searchsorted(of_candidates[order], of_targets, side=side) for side in ("left", "right"))
    place = (first + (last - first) * rng.random(len(of_targets))).astype(np.int64)
    begin = np.clip(place - width // 2, 0, len(order) - width)
    return order[begin[:, None] + np.arange(width)]


@torch.no_grad()
def encode_items(
    encode: Callable[[np.ndarray], Tensor], items: np.ndarray, processes: Processes, *, micro_batch_size: int
) -> Tensor:
    """Encode items, an equal share in each process.

    Args:
        encode: Function from item indexes (B,) to embeddings (B, D).
        items: Item indexes (U,).
        processes: Processes that train together.
        micro_batch_size: Number of items that are encoded at once, at least 1.

    Returns:
        Embeddings (U, D) of all items, in every process.
    """
    begin, end = (len(items) * number // processes.world_size for number in (processes.rank, processes.rank + 1))
    own = items[begin:end]
    parts = [encode(own[start : start + micro_batch_size]) for start in range(0, max(len(own), 1), micro_batch_size)]
    return gather_rows(torch.cat(parts), processes)


def mean_cosine(embeddings: Tensor) -> float:
    """Return the mean cosine of all pairs of embeddings; near 1 the embeddings have collapsed to nearly one vector.

    Args:
        embeddings: Embeddings (U, D) of unit L2 norm; rows of 0 are left out.

    Returns:
        The mean cosine, in [0, 1]; 0 if all rows are 0.
    """
    valid = embeddings[embeddings.any(1)]
    return float((valid.mean(0) ** 2).sum()) if len(valid) else 0.0


def measure(embeddings: Tensor, held_out: HeldOut, known: KnownPairs) -> dict[str, Any]:
    """Measure how near the targets of held-out pairs are to their triggers.

    The trigger item itself, its known pairs and rejected items are no candidates. A candidate as near as the target counts
    as nearer, so that equal embeddings reach nothing.

    Args:
        embeddings: Embeddings (U, D) of ``held_out.items``, of unit L2 norm; 0 for a rejected item.
        held_out: Pairs and candidate items.
        known: Pairs of the training data.

    Returns:
        A dict of

        - ``hit_rate``, the share of pairs whose target is among the 10 candidates nearest to the trigger,
        - ``hit_rates``, the same by bucket; buckets without pairs are left out, here and below,
        - ``beats_matched``, by bucket the mean share of the candidates as popular as the target that are farther from the
          trigger than it; 0.5 by chance,
        - ``score``, the mean of ``beats_matched`` over the buckets, by which training stops; 0 without pairs.
    """
    candidate_rows = torch.from_numpy(np.searchsorted(held_out.items, held_out.candidates)).to(embeddings.device)
    candidates = embeddings[candidate_rows]
    rejected = ~candidates.any(1)
    hits, beats = [], []
    for start in range(0, len(held_out.pairs), _CHUNK):
        pairs = held_out.pairs[start : start + _CHUNK]
        rows = torch.from_numpy(np.searchsorted(held_out.items, pairs)).to(embeddings.device)
        trigger, target = embeddings[rows[:, 0]], embeddings[rows[:, 1]]
        scores = trigger @ candidates.T
        marks = (pairs[:, :1] == held_out.candidates) | (pairs[:, 1:] == held_out.candidates)
        marks[known.among(pairs[:, 0], held_out.candidates)] = True
        left_out = torch.from_numpy(marks).to(scores.device) | rejected
        nearer = (scores >= (trigger * target).sum(1, keepdim=True)) & ~left_out
        matched = torch.from_numpy(held_out.matched[start : start + _CHUNK]).to(scores.device)
        compared = (~left_out).gather(1, matched).sum(1)
        share = 1 - nearer.gather(1, matched).sum(1) / compared  # NaN where no item is as popular
        valid = trigger.any(1) & target.any(1)
        nothing = torch.full_like(share, float("nan"))
        hits.append(torch.where(valid, (nearer.sum(1) < HITS).float(), nothing))
        beats.append(torch.where(valid, share, nothing))
    hit, beaten = (torch.cat(values).double().cpu().numpy() for values in (hits, beats))
    beats_matched = _by_bucket(beaten, held_out.bucket)
    return {
        "hit_rate": float(np.nanmean(hit)) if not np.isnan(hit).all() else 0.0,
        "hit_rates": _by_bucket(hit, held_out.bucket),
        "beats_matched": beats_matched,
        "score": sum(beats_matched.values()) / max(len(beats_matched), 1),
    }


def _by_bucket(values: np.ndarray, bucket: np.ndarray) -> dict[str, float]:
    """Return the mean of the numbers of each bucket that has some."""
    parts = {name: values[(bucket == place) & ~np.isnan(values)] for place, name in enumerate(BUCKETS)}
    return {name: float(part.mean()) for name, part in parts.items() if len(part)}


@torch.no_grad()
def held_out_loss(
    embeddings: Tensor, held_out: HeldOut, log_temperature: Tensor, *, data: TrainingData, options: AlignmentOptions
) -> float:
    """Compute the mean contrastive loss of held-out pairs, in batches of ``options.batch_size``.

    Args:
        embeddings: Embeddings (U, D) of ``held_out.items``, of unit L2 norm; 0 for a rejected item.
        held_out: Pairs and candidate items.
        log_temperature: Natural logarithm of the temperature, of shape ().
        data: Packed training data.
        options: Options of the training run.

    Returns:
        The mean loss of a pair, in nats.
    """
    number = -(-len(held_out.pairs) // options.batch_size)
    total = 0.0
    for pairs in np.array_split(held_out.pairs, number):
        rows = torch.from_numpy(np.searchsorted(held_out.items, pairs)).to(embeddings.device)
        batch = PairBatch(pairs[:, 0], pairs[:, 1], np.ones(len(pairs), np.float32))
        trigger, target = embeddings[rows[:, 0]], embeddings[rows[:, 1]]
        loss = pair_loss(trigger, target, batch, log_temperature, data=data, options=options)
        total += float(loss) * len(pairs)
    return total / len(held_out.pairs)
