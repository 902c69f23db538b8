"""The training of a ranking model from files to a folder.

In: Parquet files of ``training_rows``. Out: a folder with a trained ranking model and its metrics. ``train_ranking_model`` is
a plain function: call it, or let ``TorchDistributor`` or ``torchrun`` call it in every process. Training stops early on the
valid AUC. The test split is read once, with the best weights.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from qarm_features.ranking.data.batches import TrainingRows
from qarm_features.ranking.data.item_counts import count_items_of_files
from qarm_features.ranking.data.item_feature_files import open_item_features
from qarm_features.ranking.data.item_features import ItemFeatures
from qarm_features.ranking.data.item_vocabulary import ItemVocabulary, item_vocabulary
from qarm_features.ranking.model.ranking_model import RankingModel
from qarm_features.ranking.train.calibration import Calibration, fit_calibration
from qarm_features.ranking.train.evaluation import evaluate, predict
from qarm_features.ranking.train.fitting import fit
from qarm_features.ranking.train.fusion_start import start_fusion_from
from qarm_features.ranking.train.model_folder import save_model_folder
from qarm_features.ranking.train.training_options import TrainingOptions
from qarm_features.torch_processes import Processes, joined_processes
from qarm_features.training_log import log_to_stderr

logger = logging.getLogger(__name__)

_READ_FEATURES = ("use_nearest_items", "use_frozen_vector", "use_fusion")


def train_ranking_model(
    train_files: Sequence[str],
    valid_files: Sequence[str],
    test_files: Sequence[str],
    output_dir: str | Path,
    *,
    item_features: str | Path | None = None,
    fusion_from: str | Path | None = None,
    options: TrainingOptions | None = None,
    **model_config: Any,
) -> dict[str, Any]:
    """Trains a ranking model, in this process or together with the other processes of ``torch.distributed``.

    With WORLD_SIZE above 1 in the environment every process must call it with the same arguments.

    Args:
        train_files: Paths or pyarrow-fs URIs of Parquet files of ``training_rows``.
        valid_files: Files of the rows that stop the training.
        test_files: Files of the rows that are read once, at the end.
        output_dir: Local folder. The first process writes the files that ``model_folder.py`` lists.
        item_features: Folder that ``write_item_features`` wrote for the vocabulary of train_files; every process must reach
            it. use_nearest_items, use_frozen_vector and use_fusion need it. The model then knows items that training
            did not see by their content.
        fusion_from: Folder of an encoder version whose Fusion-Q-Former the fusion of the model starts from; None starts it
            from random weights. Every process must reach it. See ``start_fusion_from``.
        options: Options of the training; None for the defaults.
        model_config: Arguments of ``RankingModel`` except num_items. num_levels and codebook_size are required;
            vector_dim and token_dims default to those of item_features.

    Returns:
        The content of metrics.json, in every process: ``valid`` and ``test`` (auc, user_auc, log_loss in nats, rows;
        null where a split has one label only; of test also the 95% intervals by resampled users), ``epochs`` (one entry
        each: train_log_loss, valid, rows_per_second), ``best_epoch`` from 0, ``num_parameters``, ``options``,
        ``model_config``, and with fusion_from ``fusion_from``: encoder_version and encoder_fingerprint.

    Raises:
        ValueError: If a split has no rows, the valid split has one label only, a file's path names another codebook
            version than model_config, or item_features are missing or belong to other items.

    Example:
        One model on item IDs and semantic IDs::

            metrics = train_ranking_model(
                train_files, valid_files, test_files, "model", num_levels=3, codebook_size=256, codebook_version=0
            )
            print(metrics["test"]["auc"])
    """
    options = options or TrainingOptions()
    splits = {"train_files": train_files, "valid_files": valid_files, "test_files": test_files}
    _check_files(splits, model_config.get("codebook_version"))
    with joined_processes(seed=options.seed, num_threads=options.num_threads, use_gpu=options.use_gpu) as processes:
        trained_on = processes.broadcast(lambda: item_vocabulary(train_files, max_items=options.max_items))
        vocabulary, features = _known_items(trained_on, item_features, model_config)
        model = RankingModel(num_items=vocabulary.num_known, **_widths(features, model_config), **model_config)
        if features is not None:
            model.set_item_features(features)
        elif model.reads_item_features:
            raise ValueError(
                f"item_features is None, must be a folder for the inputs {', '.join(model.config.inputs)}. "
                "Write it with write_item_features."
            )
        started_from = {} if fusion_from is None else {"fusion_from": start_fusion_from(model, fusion_from)}
        model.to(processes.device)
        model.set_item_counts(*processes.broadcast(lambda: count_items_of_files(train_files, vocabulary)))
        train, valid, test = (
            _loader(name, files, vocabulary, model, options, processes) for name, files in splits.items()
        )
        fitted = fit(model, train, valid, options, processes=processes)
        calibration = _calibrate(model, valid, processes)
        measured = {
            name: evaluate(
                model,
                loader,
                processes,
                calibration=calibration,
                with_slices=True,
                with_intervals=name == "test",
            )
            for name, loader in {"valid": valid, "test": test}.items()
        }
        metrics = (
            measured
            | started_from
            | {
                "epochs": fitted.epochs,
                "best_epoch": fitted.best_epoch,
                "calibration": asdict(calibration),
                "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
                "options": asdict(options),
                "model_config": asdict(model.config),
            }
        )
        if processes.rank == 0:
            save_model_folder(
                output_dir,
                model,
                vocabulary=vocabulary,
                trained_on=trained_on,
                calibration=calibration,
                metrics=metrics,
            )
        processes.wait()
    return metrics


def train_ranking_models(
    models: Sequence[Mapping[str, Any]], *, options: TrainingOptions | None = None, **shared: Any
) -> list[dict[str, Any]]:
    """Trains several ranking models one after another in processes that are started and joined once.

    Args:
        models: One mapping per model of the arguments of ``train_ranking_model`` that differ, with ``output_dir``.
        options: Options of all trainings; None for the defaults.
        shared: Arguments of ``train_ranking_model`` that all models have in common.

    Returns:
        The return value of ``train_ranking_model`` for each model.

    Raises:
        ValueError: If ``train_ranking_model`` raises one.

    Example:
        A model with and one without semantic IDs::

            splits = {"train_files": train, "valid_files": valid, "test_files": test}
            models = [{"output_dir": "ids", "use_semantic_ids": False}, {"output_dir": "codes"}]
            train_ranking_models(models, **splits, num_levels=3, codebook_size=256)
    """
    options = options or TrainingOptions()
    log_to_stderr()
    trained = []
    with joined_processes(seed=options.seed, num_threads=options.num_threads, use_gpu=options.use_gpu) as processes:
        for number, model in enumerate(models, 1):
            if processes.rank == 0:
                logger.info("ranking model %d of %d: reading the training rows", number, len(models))
            trained.append(train_ranking_model(options=options, **shared, **model))
    return trained


def _known_items(
    trained_on: ItemVocabulary, folder: str | Path | None, config: Mapping[str, Any]
) -> tuple[ItemVocabulary, ItemFeatures | None]:
    """Returns the vocabulary to read rows with, and what is known of its items."""
    needing = [name for name in _READ_FEATURES if config.get(name)]
    if folder is None:
        if needing:
            raise ValueError(
                f"item_features is None, must be a folder for {', '.join(needing)}. Write it with write_item_features."
            )
        return trained_on, None
    vocabulary, features = open_item_features(folder)
    if not vocabulary.ids[: vocabulary.num_known].equals(trained_on.ids):
        raise ValueError(
            f"The item features belong to {vocabulary.num_known} trained items that are not the {len(trained_on)} of "
            "train_files. "
            "Write them anew with write_item_features and item_vocabulary(train_files)."
        )
    return vocabulary, features


def _widths(features: ItemFeatures | None, config: Mapping[str, Any]) -> dict[str, Any]:
    widths: dict[str, Any] = {}
    if features is None:
        return widths
    if config.get("use_frozen_vector") and features.vectors is not None:
        widths["vector_dim"] = features.vectors.shape[1]
    if config.get("use_fusion") and features.content is not None:
        widths["token_dims"] = dict(features.content.token_dims)
    return {name: width for name, width in widths.items() if name not in config}


def _loader(
    name: str,
    files: Sequence[str],
    vocabulary: ItemVocabulary,
    model: RankingModel,
    options: TrainingOptions,
    processes: Processes,
) -> DataLoader:
    rows = TrainingRows(
        files,
        vocabulary,
        num_levels=model.config.num_levels,
        batch_size=options.batch_size,
        behavior_length=options.behavior_length,
        impression_length=options.impression_length,
        optional_fields=model.optional_fields,
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


def _calibrate(model: RankingModel, valid: DataLoader, processes: Processes) -> Calibration:
    """Fits a calibration on the valid rows; the identity for a model that ranks them no better than chance."""
    predictions = predict(model, valid, processes)

    def fitted() -> Calibration:
        try:
            return fit_calibration(predictions.label, predictions.logit)
        except ValueError:
            return Calibration()

    return processes.broadcast(fitted)


def _check_files(splits: dict[str, Sequence[str]], codebook_version: int | None) -> None:
    """Refuses an empty split, and a file whose path names another codebook version."""
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
