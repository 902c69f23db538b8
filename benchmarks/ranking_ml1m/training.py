"""One model of a row of the table is trained on train, chosen on valid, and tested."""

from __future__ import annotations

from dataclasses import replace

from ranking_project.model import BATCH_SIZE, fit_model, logits_of, num_parameters
from ranking_project.model import make_model as make
from ranking_project.world import World

from qarm_features.ranking import RankingModel, RowsInMemory, fit
from qarm_features.ranking.train.fitting import Fitted
from qarm_features.ranking.train.fusion_start import start_fusion_from
from ranking_ml1m import em3_rows
from ranking_ml1m.measures import measure
from ranking_ml1m.neighbors import Neighbors
from ranking_ml1m.variants import BASE, TRACKS, Row, options


def make_model(row: Row, track: str, world: World, *, seed: int) -> RankingModel:
    """Return the untrained model of a row."""
    return make({**BASE, **TRACKS[track], **row.switches}, world, seed=seed)


def train_em3_row(row: em3_rows.Row, world: World, *, seed: int, threads: int) -> tuple[RankingModel, Fitted]:
    """Train a row of ``em3_ablation.py`` with one seed, and return the model and the course of its training."""
    model = make_model(Row(row.name, "aligned", row.switches), "A", world, seed=seed)
    if row.aligned:
        start_fusion_from(model, world.encoder)
    how = replace(options(seed, threads), **row.options)
    shuffled = RowsInMemory(world.rows["train"], batch_size=how.batch_size, shuffle=True, seed=seed)
    return model, fit(model, shuffled, RowsInMemory(world.rows["valid"], batch_size=BATCH_SIZE), how)


def train(row: Row, track: str, world: World, *, seed: int, threads: int, neighbors: Neighbors | None = None) -> dict:
    """Train one row with one seed, and return logits of the test rows, metrics, neighbors, seconds and parameters."""
    model = make_model(row, track, world, seed=seed)
    seconds = fit_model(model, world.rows, options(seed, threads))
    logits = {split: logits_of(model, world.rows[split]) for split in ("valid", "test")}
    return {
        "logit": logits["test"],
        **{split: measure(logits[split], world.rows[split], world) for split in logits},
        "seconds": seconds,
        "neighbors": neighbors.of_model(model) if neighbors else {},
        "parameters": num_parameters(model),
    }
