"""How well embeddings find the targets of held-out pairs: the measure by which training stops.

In: held-out pairs and a fixed draw of candidate items. Out: HitRate@10 and the loss, on the same rows every epoch.
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
_CHUNK = 1024  # triggers whose scores are held at once


class HeldOut(NamedTuple):
    """What is measured on.

    Attributes:
        pairs: (V, 2) int64 trigger and target item indexes, in a random order.
        candidates: (C,) int64 item indexes, ascending.
        items: (U,) int64, all items that stand in pairs or candidates, ascending.
    """

    pairs: np.ndarray
    candidates: np.ndarray
    items: np.ndarray


def draw_held_out(data: TrainingData, *, max_pairs: int, num_candidates: int, seed: int) -> HeldOut:
    """Draws held-out pairs and candidates, the same for the same seed."""
    rng = np.random.default_rng([seed, 2])
    pairs = np.asarray(data.valid_pairs)[rng.permutation(len(data.valid_pairs))[:max_pairs]]
    candidates = np.sort(rng.permutation(len(data.items))[:num_candidates])
    return HeldOut(pairs, candidates, np.unique(np.concatenate([pairs.ravel(), candidates])))


@torch.no_grad()
def encode_items(
    encode: Callable[[np.ndarray], Tensor], items: np.ndarray, processes: Processes, *, micro_batch_size: int
) -> Tensor:
    """Encodes items, each process its share, and returns all embeddings (U, D) in every process."""
    begin, end = (len(items) * number // processes.world_size for number in (processes.rank, processes.rank + 1))
    own = items[begin:end]
    parts = [encode(own[start : start + micro_batch_size]) for start in range(0, max(len(own), 1), micro_batch_size)]
    return gather_rows(torch.cat(parts), processes)


def mean_cosine(embeddings: Tensor) -> float:
    """Returns the mean cosine of any two of (U, D) embeddings of unit L2 norm, rows of zeros left out; near 1: collapsed."""
    kept = embeddings[embeddings.any(1)]
    return float((kept.mean(0) ** 2).sum()) if len(kept) else 0.0


def hit_rate(embeddings: Tensor, held_out: HeldOut, known: KnownPairs) -> float:
    """Computes the share of held-out pairs whose target is among the 10 candidates nearest to the trigger.

    Left out of the candidates are the trigger itself, its known pairs and rejected items. A candidate as near as the
    target counts as nearer, so that embeddings that are all alike hit nothing.

    Args:
        embeddings: (U, D) of held_out.items; unit L2 norm, or all 0 for a rejected item.
        held_out: pairs and candidates.
        known: pairs that training saw.

    Returns:
        In [0, 1]; 0 when all pairs are rejected.
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
        kept = trigger.any(1) & target.any(1)
        hits += int(((nearer < HITS) & kept).sum())
        total += int(kept.sum())
    return hits / total if total else 0.0


@torch.no_grad()
def held_out_loss(
    embeddings: Tensor, held_out: HeldOut, log_temperature: Tensor, *, data: TrainingData, options: AlignmentOptions
) -> float:
    """Computes the mean contrastive loss of held-out pairs in batches of batch_size, in nats."""
    number = -(-len(held_out.pairs) // options.batch_size)
    total = 0.0
    for pairs in np.array_split(held_out.pairs, number):
        rows = torch.from_numpy(np.searchsorted(held_out.items, pairs)).to(embeddings.device)
        batch = PairBatch(pairs[:, 0], pairs[:, 1], np.ones(len(pairs), np.float32))
        trigger, target = embeddings[rows[:, 0]], embeddings[rows[:, 1]]
        loss = pair_loss(trigger, target, batch, log_temperature, data=data, known=data.known, options=options)
        total += float(loss) * len(pairs)
    return total / len(held_out.pairs)
