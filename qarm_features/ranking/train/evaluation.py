"""Predictions and metrics of a model, over all rows and over slices.

In: a model and labeled batches. Out: predictions, and metrics by name. The slices ``head``, ``torso`` and ``tail`` hold the
items of the first 25%, the next 50% and the last 25% of the training rows, the most shown items first, see
``ranking/data/popularity.py``. ``few_click_items`` have 1 to FEW training positives.
``new_items`` have no training row. ``new_users`` have at most FEW positives before the row.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch

from qarm_features.ranking.data.popularity import FEW, popularity_limits
from qarm_features.ranking.data.ranking_batch import RankingBatch
from qarm_features.ranking.model.ranking_model import RankingModel
from qarm_features.ranking.train.calibration import Calibration, expected_calibration_error
from qarm_features.ranking.train.metrics import area_under_roc, log_loss, user_auc
from qarm_features.ranking.train.resampled_auc import interval, resampled_auc
from qarm_features.torch_processes import ALONE, Processes


class Predictions(NamedTuple):
    """The logits of R labeled rows, with what slices and metrics need.

    Attributes:
        label: (R,) float32, 0 or 1.
        logit: (R,) float32.
        user_group: (R,) int64, one value per user.
        item_index: (R,) int64; 0 for an item without an ID embedding.
        num_behaviors: (R,) int64 number of behaviors before the row that the batch holds.

    Example:
        >>> zeros = np.zeros(2, dtype=np.int64)
        >>> predictions = Predictions(np.array([0.0, 1.0]), np.array([-1.0, 2.0]), zeros, zeros, zeros)
        >>> measure(predictions)["auc"]
        1.0
    """

    label: np.ndarray
    logit: np.ndarray
    user_group: np.ndarray
    item_index: np.ndarray
    num_behaviors: np.ndarray


def predict(model: RankingModel, batches: Iterable[RankingBatch], processes: Processes = ALONE) -> Predictions:
    """Scores rows in eval mode.

    Args:
        model: Model on the device of the processes.
        batches: Batches of this process's share of the rows.
        processes: Processes that take part.

    Returns:
        The predictions of the rows of all processes on rank 0; predictions of no rows elsewhere.

    Example:
        The logits of a split::

            logits = predict(model, DataLoader(rows, batch_size=None)).logit
    """
    was_training = model.training
    model.eval()
    kinds = (np.float32, np.float32, np.int64, np.int64, np.int64)
    columns = [tuple(np.zeros(0, kind) for kind in kinds)]
    with torch.inference_mode():
        for batch in batches:
            logit = model(batch.to(processes.device)).cpu()
            item = batch.item_index.masked_fill(batch.item_index > model.config.num_items, 0)
            assert batch.label is not None and batch.user_group is not None, "metrics need labels and users"
            columns_of_batch = (batch.label, logit, batch.user_group, item, batch.behavior_mask.sum(dim=1))
            columns.append(tuple(tensor.cpu().numpy() for tensor in columns_of_batch))
    model.train(was_training)
    gathered = processes.gather(tuple(np.concatenate(parts) for parts in zip(*columns)))
    if not gathered:
        return Predictions(*columns[0])
    return Predictions(*(np.concatenate(parts) for parts in zip(*gathered)))


def evaluate(
    model: RankingModel,
    batches: Iterable[RankingBatch],
    processes: Processes = ALONE,
    *,
    calibration: Calibration | None = None,
    with_slices: bool = False,
    with_intervals: bool = False,
) -> dict[str, Any]:
    """Scores a split, each process its share, and returns the metrics of the whole split in every process.

    Args:
        model: Model on the device of the processes.
        batches: Batches of this process's share of the split.
        processes: Processes that take part.
        calibration: Calibration that was fitted on other rows; None leaves the metrics after calibration out.
        with_slices: True to add the metrics of each slice.
        with_intervals: True to add the 95% intervals by resampled users.

    Returns:
        The return value of ``measure``.

    Example:
        The metrics of a split, with those of its slices::

            metrics = evaluate(model, DataLoader(rows, batch_size=None), with_slices=True)
            print(metrics["auc"], metrics["slices"]["new_items"]["auc"])
    """
    predictions = predict(model, batches, processes)
    return processes.broadcast(
        lambda: measure(
            predictions, model if with_slices else None, calibration=calibration, with_intervals=with_intervals
        )
    )


def measure(
    predictions: Predictions,
    model: RankingModel | None = None,
    *,
    calibration: Calibration | None = None,
    with_intervals: bool = False,
) -> dict[str, Any]:
    """Computes the metrics of predictions.

    Args:
        predictions: Predictions of R rows.
        model: Model whose item counts assign rows to slices; None leaves slices out.
        calibration: Calibration that was fitted on other rows; None leaves the metrics after calibration out.
        with_intervals: True to add the 95% intervals by resampled users.

    Returns:
        ``auc`` and ``user_auc`` in [0, 1], None where no user or no row pair has both labels; ``log_loss`` in nats;
        ``calibration_error`` in [0, 1]; ``rows``; with calibration ``calibrated``: log_loss and calibration_error;
        with a model ``slices``: auc, user_auc, log_loss and rows of each; with intervals ``interval``, the bounds of ``auc``
        and ``user_auc`` or None where they have none, and ``resampled``: the AUC of each draw of users, to five digits, and
        ``drawn_from``, see ``ResampledAuc``. Intervals hold the chance of the users of the split, not that of the training.

    Example:
        >>> zeros = np.zeros(2, dtype=np.int64)
        >>> measure(Predictions(np.array([1.0, 1.0]), np.array([0.0, 0.0]), zeros, zeros, zeros))["auc"] is None
        True
    """
    label, logit = predictions.label, predictions.logit
    measured: dict[str, Any] = {**_measure_rows(predictions)}
    measured["calibration_error"] = _number(expected_calibration_error(label, logit))
    if calibration is not None:
        logit = calibration.apply(logit)
        error = expected_calibration_error(label, logit)
        measured["calibrated"] = {"log_loss": _number(log_loss(label, logit)), "calibration_error": _number(error)}
    if model is not None:
        measured["slices"] = {
            name: _measure_rows(Predictions(*(column[rows] for column in predictions)))
            for name, rows in slices(predictions, model).items()
        }
    if with_intervals:
        measured |= _intervals(predictions)
    return measured


def slices(predictions: Predictions, model: RankingModel) -> dict[str, np.ndarray]:
    """Returns by name the rows (R,) bool of each slice that the docstring of this module lists."""
    shown, liked = model.train_impressions.cpu().numpy().copy(), model.train_positives.cpu().numpy().copy()
    shown[0] = liked[0] = 0  # index 0 stands for many items
    head_from, torso_from = popularity_limits(*np.unique(shown[shown > 0], return_counts=True))
    item = predictions.item_index
    seen = shown[item] > 0
    return {
        "head": seen & (shown[item] >= head_from),
        "torso": seen & (shown[item] >= torso_from) & (shown[item] < head_from),
        "tail": seen & (shown[item] < torso_from),
        "few_click_items": (liked[item] >= 1) & (liked[item] <= FEW),
        "new_items": ~seen,
        "new_users": predictions.num_behaviors <= FEW,
    }


def _intervals(predictions: Predictions) -> dict[str, Any]:
    drawn = resampled_auc(*predictions[:3])
    if drawn is None:
        return {"interval": {"auc": None, "user_auc": None}, "resampled": None}
    aucs = None if np.isnan(drawn.auc).any() else drawn.auc.round(5).tolist()
    return {
        "interval": {
            name: None if (bounds := interval(draws)) is None else list(bounds)
            for name, draws in (("auc", drawn.auc), ("user_auc", drawn.user_auc))
        },
        "resampled": {"auc": aucs, "drawn_from": drawn.drawn_from},
    }


def _measure_rows(predictions: Predictions) -> dict[str, float | int | None]:
    label, logit, user = predictions[:3]
    return {
        "auc": _number(area_under_roc(label, logit)),
        "user_auc": _number(user_auc(label, logit, user)),
        "log_loss": _number(log_loss(label, logit)),
        "rows": len(label),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
