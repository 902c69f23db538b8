"""MovieLens-1M runs through the jobs: from the catalog and the log to training rows, embeddings, VQ codes and tokens.

Two projects differ only in the encoder: ``unaligned`` uses the frozen text backbone, and ``aligned`` is trained on item
pairs of the train split. A project that exists already is reused.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
from ranking_project import jobs
from ranking_project.jobs import SPLITS, Prepared, prepared, run_jobs

DATA = Path(os.environ.get("QARM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "ml1m"
TEXT = ["title", "genres", "plot", "director", "actors"]
PROJECTS = {
    "unaligned": {"encoder": {"align": False}},
    "aligned": {
        "encoder": {"align": True},
        "item_pairs": {"min_support": 1, "max_pairs_per_item": 50},
        "alignment": {"epochs": 8},
    },
}


def prepare(folder: Path, name: str) -> Prepared:
    """Run the jobs of a project that are not current, and return where their results are."""
    context = open_project(folder, PROJECTS[name])
    run_jobs(context)
    return prepared(context)


def open_project(folder: Path, changes: dict[str, dict]) -> Any:
    """Open a project. Write it first if it does not exist, with the sections ``changes`` in its settings."""
    return jobs.open_project(folder, settings=lambda: _settings(changes), write_sources=_write_sources)


def _write_sources(folder: Path) -> None:
    log = pd.concat([pd.read_parquet(DATA / f"interactions_{split}.parquet") for split in SPLITS])
    log.drop_duplicates(["user_id", "item_id", "event_timestamp"]).to_parquet(
        folder / "log.parquet", coerce_timestamps="us"
    )
    items = pd.read_parquet(DATA / "items.parquet").drop(columns="poster")
    items.to_parquet(folder / "items.parquet")


def _settings(changes: dict) -> dict:
    first = {split: pd.read_parquet(DATA / f"interactions_{split}.parquet").event_timestamp.min() for split in SPLITS}
    return {
        "items": {"path": "items.parquet", "title": "title", "text": TEXT},
        "interactions": {"path": "log.parquet", "label": "label"},
        "codebooks": {"num_levels": 3, "codebook_size": 64},
        **changes,
        "ranking": {f"{split}_from": first[split].isoformat() for split in ("valid", "test")}
        | changes.get("ranking", {}),
    }
