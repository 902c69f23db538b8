"""Compute the contrastive loss on item pairs, with the other pairs of the batch as negatives.

In: embeddings (B, D) of trigger and target items. Out: one number. QARM, arXiv 2411.11739, section 1 (item alignment).
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from qarm_features.alignment.known_pairs import KnownPairs
from qarm_features.alignment.options import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE

LOG_TEMPERATURE_BOUNDS = math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)


class LogPopularity(NamedTuple):
    """Hold the log-probabilities that the items of a batch are sampled as negatives.

    Attributes:
        trigger: Log-probabilities (B,) of the trigger items among all trigger items.
        target: Log-probabilities (B,) of the target items among all target items.
    """

    trigger: Tensor
    target: Tensor


class UniformNegatives(NamedTuple):
    """Hold items that were drawn with equal probabilities from the whole catalog, which are negatives of every row.

    Attributes:
        embeddings: Embeddings (A, D) of unit L2 norm; 0 for a rejected item.
        no_negative_of_trigger: Marks (B, A) bool, True if item a is no negative of trigger i.
        no_negative_of_target: Marks (B, A) bool, True if item a is no negative of target i.
        num_items: Number of items of the catalog.
        log_popularity: Log-probabilities (A,) of these items as triggers and as targets; None corrects nothing.
    """

    embeddings: Tensor
    no_negative_of_trigger: Tensor
    no_negative_of_target: Tensor
    num_items: int
    log_popularity: LogPopularity | None = None


def contrastive_loss(
    trigger: Tensor,
    target: Tensor,
    *,
    temperature: Tensor,
    false_negatives: Tensor | None = None,
    log_popularity: LogPopularity | None = None,
    popularity_power: float | None = None,
    weight: Tensor | None = None,
    uniform: UniformNegatives | None = None,
) -> Tensor:
    """Compute the symmetric in-batch softmax loss: each trigger must find its target among all targets, and vice versa.

    Args:
        trigger: Embeddings (B, D) of trigger items, of unit L2 norm.
        target: Embeddings (B, D) of target items, of unit L2 norm; row i is the positive of trigger i.
        temperature: Temperature of shape (), above 0, by which cosines are divided.
        false_negatives: Marks (B, B) bool, True if target j is no negative of trigger i; the diagonal is ignored. None
            marks nothing.
        log_popularity: Log-probabilities of the items as negatives, which are subtracted from their logits. Without this
            correction (logQ), popular items are pushed away because they are negatives more often. None corrects nothing.
        popularity_power: Power, from 0 to 1, of the expected number of times that an item is among the negatives of a row;
            a negative counts as much as the inverse of this. The positive is not corrected, because it is in its row with
            certainty. 1 estimates the softmax over all items, whose optimum holds the popularity of the target; 0 is the
            plain loss of the batch, whose optimum does not. None corrects the positive like the negatives, so that the
            negatives of a rare positive count less; encoders were trained like this before.
        weight: Weights (B,) of the pairs, at least 0; a pair of weight 0 is neither a positive nor a negative. None weights
            all pairs by 1.
        uniform: Items of the whole catalog that are negatives as well; None uses those of the batch alone. The expected
            number of times that an item is a negative is then that of both draws together.

    Returns:
        Weighted mean over the pairs, in nats; 0 if all weights are 0.

    Example:
        >>> items = torch.eye(2)
        >>> round(float(contrastive_loss(items, items, temperature=torch.tensor(1.0))), 4)  # log(1 + exp(-1))
        0.3133

    Raises:
        ValueError: ``popularity_power`` is outside [0, 1], or set without ``log_popularity``.

    Source: the logQ correction is Yi et al., Sampling-Bias-Corrected Neural Modeling, RecSys 2019, equation 3; that it must
        spare the positive is shown in arXiv 2507.09331. Negatives of both draws are Yang et al., Mixed Negative Sampling, WWW
        2020 Companion, section 3.
    """
    if popularity_power is not None and (log_popularity is None or not 0 <= popularity_power <= 1):
        raise ValueError(f"popularity_power is {popularity_power}, must be from 0 to 1, beside log_popularity.")
    logits = trigger @ target.T / temperature
    diagonal = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    left_out = torch.zeros_like(diagonal) if false_negatives is None else false_negatives
    weight = torch.ones(len(logits), device=logits.device) if weight is None else weight
    is_ignored = weight == 0
    left_out = (left_out | is_ignored[:, None] | is_ignored[None, :]) & ~diagonal
    logits = logits.masked_fill(left_out, float("-inf"))  # once for both directions
    of_target, of_trigger = (None, None) if log_popularity is None else (log_popularity.target, log_popularity.trigger)
    if uniform is None:
        loss = _nats(logits, left_out, of_target, popularity_power)
        loss = loss + _nats(logits.T, left_out.T, of_trigger, popularity_power)
    else:
        drawn_trigger, drawn_target = uniform.log_popularity or (None, None)
        both = functools.partial(_nats_of_both, uniform=uniform, temperature=temperature, power=popularity_power)
        loss = both(trigger, logits, left_out, uniform.no_negative_of_trigger, of_target, drawn_target)
        loss = loss + both(target, logits.T, left_out.T, uniform.no_negative_of_target, of_trigger, drawn_trigger)
    return (loss / 2 * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)


def _nats(logits: Tensor, left_out: Tensor, log_popularity: Tensor | None, power: float | None) -> Tensor:
    """Return the cross-entropy (B,) of each row, with the diagonal as the label, from logits that are -inf where left out."""
    if log_popularity is not None and power is None:
        logits = logits - log_popularity
    elif log_popularity is not None and power is not None:
        diagonal = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        num_negatives = (~left_out & ~diagonal).sum(1, keepdim=True).clamp(min=1)
        correction = power * (log_popularity + num_negatives.log())
        logits = logits - correction.masked_fill(diagonal, 0.0)
    # One pass over the logits, where logsumexp would take several.
    return cross_entropy(logits, torch.arange(len(logits), device=logits.device), reduction="none")


def _nats_of_both(
    side: Tensor,
    logits: Tensor,
    left_out: Tensor,
    no_negatives: Tensor,
    log_popularity: Tensor | None,
    log_popularity_of_drawn: Tensor | None,
    *,
    uniform: UniformNegatives,
    temperature: Tensor,
    power: float | None,
) -> Tensor:
    """Return the cross-entropy (B,) of each row with negatives of the batch and of the whole catalog.

    Args:
        side: Embeddings (B, D) of the rows.
        logits: (B, B) of the batch, -inf where left out; the diagonal is the label.
        left_out: (B, B) bool.
        no_negatives: (B, A) bool, True for a drawn item that is no negative of the row.
        log_popularity: (B,) log-probability of each column as a negative of the batch, None to correct nothing.
        log_popularity_of_drawn: (A,) the same of the drawn items.
        uniform: The drawn items.
        temperature: Temperature of shape ().
        power: Power of the correction, None to correct the positive as well.
    """
    no_negatives = no_negatives | ~uniform.embeddings.detach().any(1)
    of_drawn = (side @ uniform.embeddings.T / temperature).masked_fill(no_negatives, float("-inf"))
    logits, rows = torch.cat([logits, of_drawn], 1), torch.arange(len(logits), device=logits.device)
    if log_popularity is not None and log_popularity_of_drawn is not None:
        num_batch = (~left_out).fill_diagonal_(False).sum(1, keepdim=True)
        num_drawn = (~no_negatives).sum(1, keepdim=True)
        share = torch.cat([log_popularity, log_popularity_of_drawn]).exp()
        expected = num_batch * share + num_drawn / uniform.num_items
        correction = expected.clamp(min=torch.finfo(logits.dtype).tiny).log()
        if power is not None:
            correction = power * correction
            correction[rows, rows] = 0.0
        logits = logits - correction
    return cross_entropy(logits, rows, reduction="none")


def false_negatives(trigger_index: np.ndarray, target_index: np.ndarray, known: KnownPairs | None = None) -> np.ndarray:
    """Mark the pairs (trigger i, target j) of a batch that are no negatives.

    Target j is no negative of trigger i if it is the same item as target i or trigger i, if trigger j is the same item as
    trigger i, or if the two are a known pair. The transposed marks are those of (target i, trigger j).

    Args:
        trigger_index: Indexes (B,) int64 of trigger items.
        target_index: Indexes (B,) int64 of target items.
        known: Pairs that are never negatives; None uses the pairs of the batch only.

    Returns:
        Marks (B, B) bool; the diagonal is True.
    """
    marks = target_index[:, None] == target_index[None, :]
    marks |= trigger_index[:, None] == trigger_index[None, :]
    marks |= trigger_index[:, None] == target_index[None, :]
    if known is not None:
        marks[known.among(trigger_index, target_index)] = True
    return marks


def no_negatives_of(index: np.ndarray, drawn: np.ndarray, paired: np.ndarray, known: KnownPairs) -> np.ndarray:
    """Mark the items that were drawn from the whole catalog and are no negatives of an item of a batch.

    Args:
        index: Indexes (B,) int64 of one side of the pairs.
        drawn: Indexes (A,) int64 of the drawn items.
        paired: Indexes (B,) int64 of the other side.
        known: Pairs that are never negatives.

    Returns:
        Marks (B, A) bool: the item itself, the item that it is paired with, or an item of a known pair.
    """
    marks = (index[:, None] == drawn[None, :]) | (paired[:, None] == drawn[None, :])
    marks[known.among(index, drawn)] = True
    return marks


def bounded_temperature(log_temperature: Tensor) -> Tensor:
    """Return the temperature for its learned logarithm, limited to [0.01, 1].

    Args:
        log_temperature: Natural logarithm of the temperature, of shape ().

    Returns:
        The temperature, of shape ().
    """
    return log_temperature.clamp(*LOG_TEMPERATURE_BOUNDS).exp()
