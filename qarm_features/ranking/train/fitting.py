"""The training loop: a model is trained until it no longer gets better on the valid rows.

In: a model and batches. Out: the trained model and the figures of each epoch. ``fit`` takes any iterable of batches that can
be passed through more than once: a list, ``RowsInMemory``, a ``DataLoader`` of ``TrainingRows``. If the iterable or its
dataset has ``set_epoch``, it is called with the number of each epoch.
"""

import logging
import time
from collections.abc import Iterable
from contextlib import nullcontext
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms import Join
from torch.distributed.algorithms.join import Joinable
from torch.nn.parallel import DistributedDataParallel

from qarm_features.ranking.data.item_counts import count_items
from qarm_features.ranking.data.ranking_batch import RankingBatch
from qarm_features.ranking.model.ranking_model import RankingModel
from qarm_features.ranking.train.evaluation import evaluate
from qarm_features.ranking.train.loss_balance import id_gradient_ratio
from qarm_features.ranking.train.optimizer import optimizers_of, tables_of_items, warm_up
from qarm_features.ranking.train.training_options import TrainingOptions
from qarm_features.torch_processes import Processes, joined_processes
from qarm_features.training_log import EpochProgress, left_at_most

logger = logging.getLogger(__name__)


class Fitted(NamedTuple):
    """The course of a training.

    Attributes:
        epochs: One entry per epoch: train_log_loss and train_content_id_loss in nats, valid (metrics), seconds,
            rows_per_second, and for a model with a Content-ID-Contrastive loss content_id_gradient_ratio, see
            ``id_gradient_ratio``.
        best_epoch: Number of the best epoch, from 0; the model has its weights.

    Example:
        >>> Fitted(epochs=[{"valid": {"auc": 0.7}}, {"valid": {"auc": 0.6}}], best_epoch=0).valid
        {'auc': 0.7}
    """

    epochs: list[dict[str, Any]]
    best_epoch: int

    @property
    def valid(self) -> dict[str, Any]:
        """The metrics of the valid rows at the best epoch."""
        return self.epochs[self.best_epoch]["valid"]


def fit(
    model: RankingModel,
    train_batches: Iterable[RankingBatch],
    valid_batches: Iterable[RankingBatch],
    options: TrainingOptions | None = None,
    *,
    processes: Processes | None = None,
) -> Fitted:
    """Trains a model in place until ``options.stop_metric`` of the valid rows stops rising, and keeps the best weights.

    Args:
        model: Model to train, with its item features if it reads any. Item counts are counted here if they are not set.
        train_batches: Batches of this process's share of the training rows.
        valid_batches: Batches of this process's share of the rows that stop the training.
        options: Options of the training; None for the defaults. The seed is that of dropout; the caller draws the first
            weights.
        processes: Processes that take part, with the model on their device; None joins those that the environment
            describes.

    Raises:
        ValueError: If the valid rows have one label only.

    Example:
        A loop over batches in memory::

            rows = RowsInMemory(batch, batch_size=512, shuffle=True)
            fitted = fit(model, rows, [valid_batch], TrainingOptions(epochs=5))
            print(fitted.valid["auc"])
    """
    options = options or TrainingOptions()
    if processes is None:
        seed, threads = options.seed, options.num_threads
        with joined_processes(seed=seed, num_threads=threads, use_gpu=options.use_gpu) as joined:
            return fit(model.to(joined.device), train_batches, valid_batches, options, processes=joined)
    if not int(model.train_impressions.sum()):
        _count(model, train_batches, processes)
    return _Fit(model, options, processes).run(train_batches, valid_batches)


class _Fit:
    """One training: the state that its epochs share."""

    def __init__(self, model: RankingModel, options: TrainingOptions, processes: Processes) -> None:
        self.model, self.options, self.processes = model, options, processes
        self.optimizers = optimizers_of(model, options, num_processes=processes.world_size)
        self.schedules = [warm_up(optimizer, options.warm_up_steps) for optimizer in self.optimizers]
        self.losses: nn.Module = _Losses(model)
        self.joinable: list[Joinable] = []
        if processes.world_size > 1:
            # Buffers are equal in all processes already. A whole batch may lack content.
            parallel = DistributedDataParallel(
                self.losses, broadcast_buffers=False, find_unused_parameters=bool(model.items.content_dim)
            )
            self.losses, self.joinable = parallel, [parallel]
        self.epochs: list[dict[str, Any]] = []
        self.best_epoch = 0
        self.warned = False
        self.best_weights: dict[str, Tensor] = {}

    def run(self, train: Iterable[RankingBatch], valid: Iterable[RankingBatch]) -> Fitted:
        try:
            return self._run(train, valid)
        finally:
            for table in tables_of_items(self.model):
                table.sparse = False  # an optimizer of the caller's own may know no sparse gradients

    def _run(self, train: Iterable[RankingBatch], valid: Iterable[RankingBatch]) -> Fitted:
        config = self.model.config
        if config.new_items_from_content and not config.trains_content_id_map and self.processes.rank == 0:
            logger.warning(
                "WARNING: new_items_from_content gives new items an ID by a map that no loss trains. "
                "Set id_dropout, or content_id_weight without content_id_dim, or leave new_items_from_content out."
            )
        for epoch in range(self.options.epochs):
            _set_epoch(train, epoch)
            self.epochs.append(self._train_epoch(train, epoch))
            self._judge(epoch, valid)
            if epoch - self.best_epoch >= self.options.patience:
                break
        self.model.load_state_dict(self.best_weights)
        return Fitted(self.epochs, self.best_epoch)

    def _judge(self, epoch: int, valid: Iterable[RankingBatch]) -> None:
        """Measures the valid rows and keeps the weights if they are the best so far."""
        metric = self.options.stop_metric
        measured = evaluate(self.model, valid, self.processes)
        if measured[metric] is None:
            raise ValueError("valid_files hold one label only, must hold both 0 and 1. Move the split's dates.")
        self.epochs[epoch]["valid"] = measured
        if self.processes.rank == 0:
            loss, seconds, speed = (
                self.epochs[epoch][name] for name in ("train_log_loss", "seconds", "rows_per_second")
            )
            auc, user_auc = ("-" if measured[name] is None else f"{measured[name]:.4f}" for name in ("auc", "user_auc"))
            logger.info(
                "epoch %d: train log loss %.4f, valid AUC %s, per-user AUC %s, %.0f rows/s%s",
                *(epoch, loss, auc, user_auc, speed, left_at_most(epoch, self.options.epochs, seconds)),
            )
        if not self.best_weights or measured[metric] > self.epochs[self.best_epoch]["valid"][metric]:
            self.best_epoch, self.best_weights = epoch, deepcopy(self.model.state_dict())

    def _train_epoch(self, batches: Iterable[RankingBatch], epoch: int) -> dict[str, Any]:
        """Makes one pass and returns the mean losses over the rows of all processes, and the time it took."""
        self.losses.train()
        started = time.perf_counter()
        total = torch.zeros(3, dtype=torch.float64, device=self.processes.device)  # two summed losses, rows
        ratio: float | None = None
        # The rows of this process stand for those of the others.
        progress = EpochProgress(
            logger, epoch=epoch, epochs=self.options.epochs, unit="rows", total=_num_rows(batches),
            active=self.processes.rank == 0,
        )  # fmt: skip
        # A process may have one batch less than others: Join takes part in their reductions when it is done.
        with Join(self.joinable) if self.joinable else nullcontext():
            for batch in batches:
                batch = batch.to(self.processes.device)
                if ratio is None and self.model.config.content_id_weight:
                    ratio = self._balance(batch, epoch)
                loss, log_loss, content_id = self.losses(batch)
                self._step(loss)
                rows = len(batch.item_index)
                means = torch.stack([log_loss.detach(), content_id.detach(), torch.ones_like(log_loss)])
                total += rows * means
                progress.advance(rows * self.processes.world_size)
        if self.processes.world_size > 1:
            dist.all_reduce(total)
        log_loss, content_id, rows = total.tolist()
        seconds = self.processes.broadcast(lambda: time.perf_counter() - started)
        if not rows:
            raise ValueError(
                "train_batches hold 0 rows, must hold at least 1. Give an iterable that can be passed through again."
            )
        measured = {
            "train_log_loss": log_loss / rows,
            "train_content_id_loss": content_id / rows,
            "seconds": seconds,
            "rows_per_second": rows / seconds,
        }
        return measured if ratio is None else measured | {"content_id_gradient_ratio": ratio}

    def _step(self, loss: Tensor) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer, schedule in zip(self.optimizers, self.schedules, strict=True):
            optimizer.step()
            schedule.step()

    def _balance(self, batch: RankingBatch, epoch: int) -> float:
        """Tells how strongly the Content-ID-Contrastive loss pulls at the item IDs beside the log loss, by one batch."""
        ratio = id_gradient_ratio(self.model, batch)
        if self.processes.rank == 0:
            logger.info(
                "epoch %d: the gradient of the Content-ID-Contrastive loss on the item IDs is %.2f times that of the log "
                "loss",
                *(epoch, ratio),
            )
            if ratio > 1 and not self.warned:
                self.warned = True
                logger.warning(
                    "WARNING: the Content-ID-Contrastive loss moves the item IDs more than the log loss does (%.1f times). "
                    "Lower content_id_weight, or set content_id_dim.",
                    ratio,
                )
        return ratio


class _Losses(nn.Module):
    """The model's losses as a forward pass, which is what DistributedDataParallel watches."""

    def __init__(self, model: RankingModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: RankingBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the total, the log loss and the Content-ID-Contrastive loss."""
        losses = self.model.losses(batch)
        return losses.total, losses.log_loss, losses.content_id


def _count(model: RankingModel, batches: Iterable[RankingBatch], processes: Processes) -> None:
    gathered = processes.gather(count_items(batches, model.config.num_items))
    positives, impressions = processes.broadcast(lambda: [np.sum(parts, axis=0) for parts in zip(*gathered)])
    model.set_item_counts(positives, impressions)


def _num_rows(batches: Iterable[RankingBatch]) -> int | None:
    """Returns the number of rows of all processes, where the batches or their dataset know it."""
    counts = [getattr(owner, "num_rows", None) for owner in (batches, getattr(batches, "dataset", None))]
    return next((count for count in counts if isinstance(count, int)), None)


def _set_epoch(batches: Iterable[RankingBatch], epoch: int) -> None:
    for owner in (batches, getattr(batches, "dataset", None)):
        set_epoch = getattr(owner, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)
