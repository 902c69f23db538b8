"""One ranking model of a project in memory is made, trained on train and chosen on valid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from qarm_features.ranking import RankingBatch, RankingModel, RowsInMemory, TrainingOptions, fit
from qarm_features.ranking.train.evaluation import predict
from ranking_project.world import World

BATCH_SIZE = 4096  # for evaluation


def make_model(switches: Mapping[str, Any], world: World, *, seed: int) -> RankingModel:
    """Return an untrained model.

    Args:
        switches: Fields of ``RankingConfig`` beside the sizes of the data.
        world: Project in memory; its item features and counts are given to the model.
        seed: Seed of the first weights.
    """
    torch.manual_seed(seed)
    model = RankingModel(
        num_items=world.num_known,
        **world.codes,
        vector_dim=world.features.vectors.shape[1],
        token_dims=world.features.content.token_dims,
        **switches,
    )
    model.set_item_features(world.features)
    model.set_item_counts(*world.counts)
    return model


def fit_model(model: RankingModel, rows: Mapping[str, RankingBatch], how: TrainingOptions) -> float:
    """Train on train, keep the best epoch on valid, and return the seconds of an epoch."""
    shuffled = RowsInMemory(rows["train"], batch_size=how.batch_size, shuffle=True, seed=how.seed)
    fitted = fit(model, shuffled, RowsInMemory(rows["valid"], batch_size=BATCH_SIZE), how)
    return float(np.mean([epoch["seconds"] for epoch in fitted.epochs]))


def logits_of(model: RankingModel, rows: RankingBatch) -> np.ndarray:
    """Return the logit (B,) of each row."""
    return predict(model, RowsInMemory(rows, batch_size=BATCH_SIZE)).logit


def num_parameters(model: RankingModel) -> int:
    """Return the number of weights that are trained."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
