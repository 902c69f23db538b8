"""Measure how well embeddings find the target items of held-out pairs, which decides when training stops.

In: held-out pairs and a fixed sample of candidate items. Out: HitRate@10 and the loss, on the same rows in every epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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
_CHUNK = 1024  # trigger items whose scores are in memory at once


class HeldOut(NamedTuple):
    """Hold the pairs and candidate items of the measurement.

    Attributes:
        pairs: Indexes (V, 2) int64 of trigger and target items, in a random order.
        candidates: Item indexes (C,) int64, ascending.
        items: Indexes (U,) int64 of all items in pairs or candidates, ascending.
    """

    pairs: np.ndarray
    candidates: np.ndarray
    items: np.ndarray


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
    return HeldOut(pairs, candidates, np.unique(np.concatenate([pairs.ravel(), candidates])))


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


def hit_rate(embeddings: Tensor, held_out: HeldOut, known: KnownPairs) -> float:
    """Compute the share of held-out pairs whose target item is among the 10 candidates nearest to the trigger item.

    The trigger item itself, its known pairs and rejected items are no candidates. A candidate as near as the target counts
    as nearer, so that the hit rate of equal embeddings is 0.

    Args:
        embeddings: Embeddings (U, D) of ``held_out.items``, of unit L2 norm; 0 for a rejected item.
        held_out: Pairs and candidate items.
        known: Pairs of the training data.

    Returns:
        The share, in [0, 1]; 0 if all pairs are rejected.
    """
    candidate_rows = torch.from_numpy(np.searchsorted(held_out.items, held_out.candidates)).to(embeddings.device)
    candidates = embeddings[candidate_rows]
    rejected = ~candidates.any(1)
    hits = total = 0
    for start in range(0, len(held_out.pairs), _CHUNK):
        pairs = held_out.pairs[start : start + _CHUNK]
        rows = torch.from_numpy(np.searchsorted(held_out.items, pairs)).to(embeddings.device)
        trigger, target = embeddings[rows[:, 0]], embeddings[rows[:, 1]]
        scores = trigger @ candidates.T
        marks = (pairs[:, :1] == held_out.candidates) | (pairs[:, 1:] == held_out.candidates)
        marks[known.among(pairs[:, 0], held_out.candidates)] = True
        scores = scores.masked_fill(torch.from_numpy(marks).to(scores.device) | rejected, float("-inf"))
        nearer = (scores >= (trigger * target).sum(1, keepdim=True)).sum(1)
        valid = trigger.any(1) & target.any(1)
        hits += int(((nearer < HITS) & valid).sum())
        total += int(valid.sum())
    return hits / total if total else 0.0


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
