"""Parquet files of ``training_rows`` in, a folder with a trained ranking model and its metrics out.

:func:`train_ranking_model` is a plain function: call it, or let ``TorchDistributor`` or ``torchrun`` call it in every
process. Early stop on the valid AUC; the test split is read once, with the best weights.
"""

import json
import logging
import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms import Join
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW
from torch.utils.data import DataLoader

from qarm_features.ranking.batches import TrainingRows
from qarm_features.ranking.item_vocabulary import ItemVocabulary, item_vocabulary
from qarm_features.ranking.metrics import area_under_roc, log_loss, user_auc
from qarm_features.ranking.processes import Processes, joined_processes
from qarm_features.ranking.ranking_model import RankingModel
from qarm_features.ranking.training_options import TrainingOptions

logger = logging.getLogger(__name__)

VOCABULARY_FILE = "item_vocabulary.parquet"
METRICS_FILE = "metrics.json"


def train_ranking_model(
    train_files: Sequence[str],
    valid_files: Sequence[str],
    test_files: Sequence[str],
    output_dir: str | Path,
    *,
    options: TrainingOptions | None = None,
    **model_config: Any,
) -> dict[str, Any]:
    """Trains a ranking model, in this process or together with the other processes of ``torch.distributed``.

    With WORLD_SIZE above 1 in the environment every process must call it with the same arguments.

    Args:
        train_files: paths or pyarrow-fs URIs of Parquet files of ``training_rows``.
        valid_files: of the rows that stop the training.
        test_files: of the rows that are read once, at the end.
        output_dir: local folder; the first process writes model.safetensors, config.json, README.md (the model card),
            item_vocabulary.parquet and metrics.json.
        options: how to train; None for the defaults.
        model_config: arguments of :class:`RankingModel` other than num_items; num_levels and codebook_size are
            required.

    Returns:
        What metrics.json holds, in every process: ``valid`` and ``test`` (auc, user_auc, log_loss in nats, rows;
        null where a split has one label only), ``epochs`` (one entry each: train_log_loss, valid, rows_per_second),
        ``best_epoch`` from 0, ``num_parameters``, ``options``, ``model_config``.

    Raises:
        ValueError: if a split has no rows, the valid split has one label only, or a file's path names another
            codebook version than model_config.
    """
    options = options or TrainingOptions()
    splits = {"train_files": train_files, "valid_files": valid_files, "test_files": test_files}
    _check_files(splits, model_config.get("codebook_version"))
    with joined_processes(seed=options.seed, num_threads=options.num_threads, use_gpu=options.use_gpu) as processes:
        vocabulary = processes.broadcast(lambda: item_vocabulary(train_files, max_items=options.max_items))
        model = RankingModel(num_items=len(vocabulary), **model_config).to(processes.device)
        loaders = {
            name: _loader(name, files, vocabulary, model_config["num_levels"], options, processes)
            for name, files in splits.items()
        }
        epochs, best_epoch = _fit(model, loaders["train_files"], loaders["valid_files"], options, processes)
        metrics = {
            "valid": epochs[best_epoch]["valid"],
            "test": evaluate(model, loaders["test_files"], processes),
            "epochs": epochs,
            "best_epoch": best_epoch,
            "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
            "options": asdict(options),
            "model_config": {"num_items": len(vocabulary), **model_config},
        }
        if processes.rank == 0:
            model.save_pretrained(output_dir)
            vocabulary.save(Path(output_dir) / VOCABULARY_FILE)
            (Path(output_dir) / METRICS_FILE).write_text(json.dumps(metrics, indent=2, allow_nan=False))
        processes.wait()
    return metrics


def train_ranking_models(
    models: Sequence[Mapping[str, Any]], *, options: TrainingOptions | None = None, **shared: Any
) -> list[dict[str, Any]]:
    """Trains several ranking models one after another in processes that are started and joined once.

    Args:
        models: arguments of :func:`train_ranking_model` that differ, ``output_dir`` among them, one mapping per model.
        options: how to train all of them; None for the defaults.
        shared: arguments of :func:`train_ranking_model` that all have in common.

    Returns:
        What :func:`train_ranking_model` returns, for each model.

    Raises:
        ValueError: as :func:`train_ranking_model`.
    """
    options = options or TrainingOptions()
    with joined_processes(seed=options.seed, num_threads=options.num_threads, use_gpu=options.use_gpu):
        return [train_ranking_model(options=options, **shared, **model) for model in models]


def evaluate(model: RankingModel, loader: DataLoader, processes: Processes) -> dict[str, float | int | None]:
    """Scores a split, each process its share, and returns the metrics of the whole split in every process.

    Args:
        model: the model, on processes.device.
        loader: batches of this process's share of the split.
        processes: those that take part.

    Returns:
        ``auc`` and ``user_auc`` in [0, 1], None where no user or no row pair has both labels; ``log_loss`` in nats;
        ``rows``.
    """
    model.eval()
    columns: list[tuple[np.ndarray, ...]] = []
    with torch.inference_mode():
        for batch in loader:
            logits = model(*batch.to(processes.device)[:5])
            columns.append((batch.label.numpy(), logits.cpu().numpy(), batch.user_group.numpy()))
    empty = (np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    gathered = processes.gather(tuple(np.concatenate(parts) for parts in zip(empty, *columns)))

    def whole_split() -> dict[str, float | int | None]:
        labels, logits, users = (np.concatenate(parts) for parts in zip(*gathered))
        values = {
            "auc": area_under_roc(labels, logits),
            "user_auc": user_auc(labels, logits, users),
            "log_loss": log_loss(labels, logits),
        }
        return {name: None if math.isnan(value) else value for name, value in values.items()} | {"rows": len(labels)}

    return processes.broadcast(whole_split)


def _fit(
    model: RankingModel, train: DataLoader, valid: DataLoader, options: TrainingOptions, processes: Processes
) -> tuple[list[dict[str, Any]], int]:
    """Trains until the valid AUC stops rising, restores the best weights, returns (epochs, best epoch)."""
    optimizer = _optimizer(model, options)
    parallel = DistributedDataParallel(model) if processes.world_size > 1 else model
    epochs: list[dict[str, Any]] = []
    best_epoch, best_weights = 0, {}
    for epoch in range(options.epochs):
        train.dataset.set_epoch(epoch)
        started = time.perf_counter()
        loss = _train_epoch(parallel, train, optimizer, processes)
        seconds = processes.broadcast(lambda started=started: time.perf_counter() - started)
        rows_per_second = train.dataset.num_rows / seconds
        measured = evaluate(model, valid, processes)
        if measured["auc"] is None:
            raise ValueError("valid_files hold one label only, must hold both 0 and 1. Move the split's dates.")
        epochs.append({"train_log_loss": loss, "valid": measured, "rows_per_second": rows_per_second})
        if processes.rank == 0:
            logger.info(
                "epoch %d: train log loss %.4f, valid AUC %.4f, per-user AUC %s, %.0f rows/s",
                *(epoch, loss, measured["auc"], measured["user_auc"], rows_per_second),
            )
        if not best_weights or measured["auc"] > epochs[best_epoch]["valid"]["auc"]:
            best_epoch, best_weights = epoch, deepcopy(model.state_dict())
        elif epoch - best_epoch >= options.patience:
            break
    model.load_state_dict(best_weights)
    return epochs, best_epoch


def _train_epoch(parallel: nn.Module, loader: DataLoader, optimizer: AdamW, processes: Processes) -> float:
    """Makes one pass and returns the mean log loss of the rows of all processes, in nats."""
    parallel.train()
    total = torch.zeros(2, dtype=torch.float64, device=processes.device)  # summed loss, rows
    # Processes may have one batch more or less than others: Join answers for those that are done.
    with Join([parallel]) if processes.world_size > 1 else nullcontext():
        for batch in loader:
            batch = batch.to(processes.device)
            loss = binary_cross_entropy_with_logits(parallel(*batch[:5]), batch.label)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += torch.stack([loss.detach() * len(batch.label), torch.ones_like(loss) * len(batch.label)])
    if processes.world_size > 1:
        dist.all_reduce(total)
    return float(total[0] / total[1])


def _optimizer(model: RankingModel, options: TrainingOptions) -> AdamW:
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    weights = list(model.parameters())
    groups = [
        {"params": [weight for weight in weights if id(weight) in tables], "weight_decay": 0.0},
        {"params": [weight for weight in weights if id(weight) not in tables], "weight_decay": options.weight_decay},
    ]
    return AdamW(groups, lr=options.learning_rate)


def _loader(
    name: str,
    files: Sequence[str],
    vocabulary: ItemVocabulary,
    num_levels: int,
    options: TrainingOptions,
    processes: Processes,
) -> DataLoader:
    rows = TrainingRows(
        files,
        vocabulary,
        num_levels=num_levels,
        batch_size=options.batch_size,
        behavior_length=options.behavior_length,
        shuffle_rows=options.shuffle_rows if name == "train_files" else 0,
        seed=options.seed,
        rank=processes.rank,
        world_size=processes.world_size,
    )
    if rows.num_rows == 0:
        raise ValueError(f"{name} hold 0 rows, must hold at least 1. Move the split's dates in build-training-set.")
    return DataLoader(
        rows,
        batch_size=None,
        num_workers=options.num_workers,
        # Arrow's threads do not survive a fork.
        multiprocessing_context="spawn" if options.num_workers else None,
        pin_memory=processes.device.type == "cuda",
    )


def _check_files(splits: dict[str, Sequence[str]], codebook_version: int | None) -> None:
    """Refuses an empty split, and a file whose path says ``codebook_version=<another>``."""
    for name, files in splits.items():
        if not files:
            raise ValueError(f"{name} is empty, must name at least one Parquet file. Run: qarm build-training-set")
        for file in files:
            found = re.search(r"codebook_version=(\d+)", str(file))
            if found and codebook_version is not None and int(found[1]) != codebook_version:
                raise ValueError(
                    f"{name} hold codes of codebook version {found[1]}, must be codebook_version = {codebook_version}. "
                    f"Train with codebook_version={found[1]} or choose the files of version {codebook_version}."
                )
