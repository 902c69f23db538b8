"""One row of the table trained once: on train, chosen on valid, tested."""

from __future__ import annotations

import numpy as np
import torch

from qarm_features.ranking import RankingModel, RowsInMemory, fit
from qarm_features.ranking.evaluation import predict
from ranking_ml1m.data import World
from ranking_ml1m.measures import measure
from ranking_ml1m.neighbors import Neighbors
from ranking_ml1m.variants import BASE, TRACKS, Row, options


def train(row: Row, track: str, world: World, *, seed: int, threads: int, neighbors: Neighbors | None = None) -> dict:
    """Trains one row with one seed; returns logits of the test rows, metrics, neighbours, seconds, parameters."""
    torch.manual_seed(seed)
    model = RankingModel(
        num_items=world.num_known,
        **world.codes,
        vector_dim=world.features.vectors.shape[1],
        token_dims=world.features.content.token_dims,
        **{**BASE, **TRACKS[track], **row.switches},
    )
    model.set_item_features(world.features)
    model.set_item_counts(*world.counts)
    how = options(seed, threads)
    batches = {split: RowsInMemory(rows, batch_size=4096) for split, rows in world.rows.items()}
    shuffled = RowsInMemory(world.rows["train"], batch_size=how.batch_size, shuffle=True, seed=seed)
    fitted = fit(model, shuffled, batches["valid"], how)
    logits = {split: predict(model, batches[split]).logit for split in ("valid", "test")}
    return {
        "logit": logits["test"],
        **{split: measure(logits[split], world.rows[split], world) for split in logits},
        "seconds": float(np.mean([epoch["seconds"] for epoch in fitted.epochs])),
        "neighbors": neighbors.of_model(model) if neighbors else {},
        "parameters": sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
    }
