"""Measures of a row of the table: metrics by slice, and the gain over another row with an interval over users.

In: logits of the test rows. Out: metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ranking_completejourney.intervals import of_runs
from ranking_project.world import World
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from qarm_features.ranking import RankingBatch
from qarm_features.ranking.train.metrics import area_under_roc, user_auc
from qarm_features.ranking.train.resampled_auc import resampled_auc

FEW = 5
METRICS = ("auc", "user_auc", "few_click", "few_shown", "new_user")


def measure(logit: np.ndarray, rows: RankingBatch, world: World) -> dict[str, float]:
    """Compute AUC, UAUC, and the AUC of items with at most 5 training positives or impressions and of new users."""
    label, user = rows.label.numpy(), rows.user_group.numpy()
    liked, shown = (_counts_of_targets(counts, rows) for counts in world.counts)
    new = ~np.isin(user, world.rows["train"].user_group.numpy())
    slices = {"few_click": liked <= FEW, "few_shown": shown <= FEW, "new_user": new}
    found = {"auc": area_under_roc(label, logit), "user_auc": user_auc(label, logit, user)}
    return found | {name: area_under_roc(label[mask], logit[mask]) for name, mask in slices.items()}


def item_rate(rows: RankingBatch, world: World, *, smoothing: float = 5.0) -> np.ndarray:
    """Return the smoothed log-odds (R,) float32 of the target's positive rate in the train split."""
    liked, shown = (_counts_of_targets(counts, rows) for counts in world.counts)
    mean = _mean_rate(world)
    return _log_odds((liked + smoothing * mean) / (shown + smoothing))


def four_counters(world: World) -> dict[str, np.ndarray]:
    """Fit a logistic regression on the user's past positive rate and count, and the item's train rate and count.

    In training the rate and count of an item leave out the row itself.

    Returns:
        Logits by split.
    """
    inputs = {split: _four_counters(world, split) for split in world.rows}
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    model.fit(inputs["train"], world.rows["train"].label.numpy())
    return {split: model.decision_function(rows).astype(np.float32) for split, rows in inputs.items()}


class Gain(NamedTuple):
    """How far one model is above another: the difference of AUC, its 95% interval, and the p-value of a difference of 0."""

    auc: float
    low: float
    high: float
    p: float


def gain_over(ones: Sequence[np.ndarray], others: Sequence[np.ndarray], rows: RankingBatch) -> Gain:
    """Return the mean AUC of the seeds of one model, minus that of another one, over resampled users and over seeds.

    AUCs are averaged and not logits: a mean of logits is an ensemble, which is better than each of its models.

    Args:
        ones: Logits (R,) of each seed.
        others: Logits (R,) of the same seeds of the other model, or the only ones.
        rows: The rows.
    """
    label, users = rows.label.numpy(), rows.user_group.numpy()

    def aucs(logits: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        drawn = [resampled_auc(label, logit, users) for logit in logits]
        return (
            np.array([area_under_roc(label, logit) for logit in logits], float),
            np.mean([one.auc for one in drawn if one is not None], axis=0),
        )

    (one, drawn_ones), (other, drawn_others) = aucs(ones), aucs(others)
    return Gain(float(np.mean(one) - np.mean(other)), *of_runs(one - other, drawn_ones - drawn_others))


def _four_counters(world: World, split: str) -> np.ndarray:
    rows, mean = world.rows[split], _mean_rate(world)
    user_liked, user_shown = rows.counters[:, 0].numpy(), rows.counters[:, 1].numpy()
    liked, shown = (_counts_of_targets(counts, rows).astype(float) for counts in world.counts)
    if split == "train":
        liked, shown = liked - rows.label.numpy(), shown - 1
    rates = [_log_odds((a + 5 * mean) / (b + 5)) for a, b in ((user_liked, user_shown), (liked, shown))]
    return np.stack([*rates, np.log1p(user_shown), np.log1p(shown)], axis=1)


def _counts_of_targets(counts: np.ndarray, rows: RankingBatch) -> np.ndarray:
    """Return the counts of the targets of rows, 0 for an item that is not in the train split."""
    index = rows.item_index.numpy()
    known = (index > 0) & (index < len(counts))
    return np.where(known, np.asarray(counts)[np.where(known, index, 0)], 0)


def _mean_rate(world: World) -> float:
    return float(np.sum(world.counts[0]) / np.sum(world.counts[1]))


def _log_odds(rate: np.ndarray) -> np.ndarray:
    return np.log(rate / (1 - rate)).astype(np.float32)
