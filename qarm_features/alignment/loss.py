"""The contrastive loss on item pairs, with the other pairs of the batch as negatives.

In: embeddings (B, D) of triggers and targets. Out: one number. QARM, arXiv 2411.11739, section 1 (item alignment).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qarm_features.alignment.known_pairs import KnownPairs
from qarm_features.alignment.options import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE

LOG_TEMPERATURE_BOUNDS = math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)


class LogPopularity(NamedTuple):
    """How likely the items of a batch are to be drawn as negatives.

    Attributes:
        trigger: (B,) log-probability of the pair's trigger among all triggers.
        target: (B,) log-probability of the pair's target among all targets.
    """

    trigger: Tensor
    target: Tensor


def contrastive_loss(
    trigger: Tensor,
    target: Tensor,
    *,
    temperature: Tensor,
    false_negatives: Tensor | None = None,
    log_popularity: LogPopularity | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Computes the symmetric in-batch softmax loss: each trigger must find its target among all, and the reverse.

    Args:
        trigger: (B, D) unit L2 norm.
        target: (B, D) unit L2 norm; row i is the positive of trigger i.
        temperature: above 0; cosines are divided by it.
        false_negatives: (B, B) bool, True where target j is no negative of trigger i; the diagonal is ignored.
        log_popularity: of the batch's items; None corrects nothing. A popular item is drawn as a negative more often
            than others and would be pushed away for it: its logit is lowered by the log-probability (logQ).
        weight: (B,) at least 0; a pair of weight 0 is left out, as positive and as negative. None: all 1.

    Returns:
        Weighted mean over the pairs, in nats; 0 where all weights are 0.

    Source: the correction is Yi et al., Sampling-Bias-Corrected Neural Modeling, RecSys 2019, equation 3.
    """
    logits = trigger @ target.T / temperature
    diagonal = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    left_out = torch.zeros_like(diagonal) if false_negatives is None else false_negatives
    weight = torch.ones(len(logits), device=logits.device) if weight is None else weight
    none = weight == 0
    left_out = (left_out | none[:, None] | none[None, :]) & ~diagonal
    by_trigger = logits if log_popularity is None else logits - log_popularity.target[None, :]
    by_target = logits if log_popularity is None else logits - log_popularity.trigger[:, None]
    loss = _nats(by_trigger, left_out) + _nats(by_target.T, left_out.T)
    return (loss / 2 * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)


def _nats(logits: Tensor, left_out: Tensor) -> Tensor:
    """Returns (B,) the cross-entropy of each row with its diagonal as the label."""
    return logits.masked_fill(left_out, float("-inf")).logsumexp(1) - logits.diagonal()


def false_negatives(trigger_index: np.ndarray, target_index: np.ndarray, known: KnownPairs | None = None) -> np.ndarray:
    """Marks the pairs (trigger i, target j) of a batch that are no negatives.

    They share an item with pair i (the same target again, a target of the same trigger, or the trigger itself), or
    are a known pair. The marks serve both directions: transposed they are those of (target i, trigger j).

    Args:
        trigger_index: (B,) int64.
        target_index: (B,) int64.
        known: pairs that are positive wherever they meet; None knows only those of the batch.

    Returns:
        (B, B) bool; the diagonal is True.
    """
    marks = target_index[:, None] == target_index[None, :]
    marks |= trigger_index[:, None] == trigger_index[None, :]
    marks |= trigger_index[:, None] == target_index[None, :]
    if known is not None:
        marks[known.among(trigger_index, target_index)] = True
    return marks


def bounded_temperature(log_temperature: Tensor) -> Tensor:
    """Returns the temperature of its learnt logarithm, kept in [0.01, 1]."""
    return log_temperature.clamp(*LOG_TEMPERATURE_BOUNDS).exp()
