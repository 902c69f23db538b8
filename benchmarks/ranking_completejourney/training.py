"""One model of the table is trained on train, chosen on valid and tested.

In: the data of a run. Out: its figures, and its logits of the test rows.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from ranking_project.model import BATCH_SIZE, make_model, num_parameters
from ranking_project.world import World
from torch import Tensor

from qarm_features.ranking import fit
from qarm_features.ranking.train.evaluation import predict
from qarm_features.ranking.train.metrics import area_under_roc
from ranking_completejourney.rows import RowsWithCodes
from ranking_completejourney.variants import BASE, Run, options


def train(
    run: Run, world: World, codes: Tensor, slices: dict[str, np.ndarray], *, threads: int, epochs: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Train one model.

    Args:
        run: Row and seeds.
        world: Data of the run.
        codes: (I + 1, L) int64 codes by item index.
        slices: Test rows of each slice.
        threads: Number of threads.
        epochs: Largest number of epochs; valid chooses one.

    Returns:
        Figures, and logits of the test rows.
    """
    started, how = time.perf_counter(), options(run.seed, threads, epochs)
    model = make_model({**BASE, **run.row.switches}, world, seed=run.seed)

    def batches(split: str, **arguments: Any) -> RowsWithCodes:
        return RowsWithCodes(world.rows[split], codes, with_behaviors=model.reads_codes, **arguments)

    shuffled = batches("train", batch_size=how.batch_size, shuffle=True, seed=how.seed)
    fitted = fit(model, shuffled, batches("valid", batch_size=BATCH_SIZE), how)
    tested = predict(model, batches("test", batch_size=BATCH_SIZE))
    figures = {
        "row": run.row.name,
        "encoder": run.encoder,
        "codebook": run.codebook,
        "seed": run.seed,
        "valid": {"auc": fitted.valid["auc"], "user_auc": fitted.valid["user_auc"]},
        "test": {name: auc_of(tested.label, tested.logit, rows) for name, rows in slices.items()},
        "epochs": len(fitted.epochs),
        "best_epoch": fitted.best_epoch,
        "valid_auc_by_epoch": [epoch["valid"]["auc"] for epoch in fitted.epochs],
        "seconds_per_epoch": float(np.mean([epoch["seconds"] for epoch in fitted.epochs])),
        "parameters": num_parameters(model),
        "minutes": (time.perf_counter() - started) / 60,
    }
    return figures, tested.logit


def auc_of(label: np.ndarray, score: np.ndarray, rows: np.ndarray) -> float | None:
    """Return the AUC of the rows (N,) bool of a slice, None where they have one label only."""
    auc = area_under_roc(label[rows], score[rows])
    return None if np.isnan(auc) else auc
