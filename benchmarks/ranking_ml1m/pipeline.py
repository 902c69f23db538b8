"""MovieLens-1M runs through the jobs: from the catalog and the log to training rows, embeddings, VQ codes and tokens.

Two projects differ only in the encoder: ``unaligned`` uses the frozen text backbone, and ``aligned`` is trained on item
pairs of the train split. A project that exists already is reused.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

DATA = Path(os.environ.get("QARM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "ml1m"
SPLITS = ("train", "valid", "test")
TEXT = ["title", "genres", "plot", "director", "actors"]
PROJECTS = {
    "unaligned": {"encoder": {"align": False}},
    "aligned": {
        "encoder": {"align": True},
        "item_pairs": {"min_support": 1, "max_pairs_per_item": 50},
        "alignment": {"epochs": 8},
    },
}


@dataclass(frozen=True)
class Prepared:
    """Results of the jobs of a project: files by split and by table, and the properties of the codes."""

    rows: dict[str, list[str]]
    embeddings: list[str]
    nearest_items: list[str]
    content: str
    encoder: str  # folder of the encoder version
    codes: dict[str, int]  # num_levels, codebook_size, codebook_version


def prepare(folder: Path, name: str) -> Prepared:
    """Run the jobs of a project that are not current, and return where their results are."""
    context = open_project(folder, PROJECTS[name])
    run_jobs(context)
    return prepared(context)


def open_project(folder: Path, changes: dict[str, dict]):
    """Open a project. Write it first if it does not exist, with the sections ``changes`` in its settings."""
    from qarm_features.cli.new_project import write_project
    from qarm_features.jobs.context import JobContext
    from qarm_features.settings.load import load_settings

    if not (folder / "qarm.yaml").is_file():
        write_project(folder)
        _write_sources(folder)
        (folder / "qarm.yaml").write_text(yaml.safe_dump(_settings(changes)))
    return JobContext(load_settings(folder / "qarm.yaml"), spark_log_on_stderr=False)


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


def run_jobs(context) -> None:
    """Run the jobs that are not current, up to the training rows and the item features."""
    from qarm_features.jobs.align_encoder import align_encoder
    from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
    from qarm_features.jobs.build_training_set import build_training_set
    from qarm_features.jobs.build_user_behavior import build_user_behavior
    from qarm_features.jobs.command import run_job
    from qarm_features.jobs.embed_items import embed_items
    from qarm_features.jobs.find_nearest_items import find_nearest_items
    from qarm_features.jobs.fit_codebooks import fit_codebooks
    from qarm_features.jobs.ingest_catalog import ingest_catalog
    from qarm_features.jobs.mine_item_pairs import mine_item_pairs
    from qarm_features.jobs.publish_features import publish_features
    from qarm_features.jobs.skipping import inputs, is_current, record_run
    from qarm_features.jobs.write_content_tokens import write_content_tokens

    aligning = (mine_item_pairs, align_encoder) if context.settings.encoder.align else ()
    jobs = (
        *(ingest_catalog, *aligning, embed_items, fit_codebooks, assign_semantic_ids, build_user_behavior),
        *(publish_features, build_training_set, find_nearest_items, write_content_tokens),
    )
    for job in jobs:
        if not is_current(job, context.settings):
            seen = inputs(job, context.settings)
            record_run(job, context.settings, seen, run_job(job, context), 1.0)


def prepared(context) -> Prepared:
    """Return the files of the newest release of a project."""
    from qarm_features.feature_store.publishing.releases import require_promoted_release
    from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS, TRAINING_ROWS
    from qarm_features.storage.warehouse import Warehouse

    warehouse, release = (
        Warehouse(context.settings.warehouse_path, **context.settings.id_types),
        require_promoted_release(context.settings),
    )
    version = release.codebook_version
    bank = context.artifacts("banks").latest()
    return Prepared(
        rows={s: warehouse.files(TRAINING_ROWS, codebook_version=version, split=s) for s in SPLITS},
        embeddings=warehouse.files(ITEM_EMBEDDINGS, encoder_version=release.encoder_version),
        nearest_items=warehouse.files(ITEM_NEAREST_ITEMS, bank_version=bank.version),
        content=str(context.artifacts("item_content").latest().path),
        encoder=str(context.artifacts("encoders").get(release.encoder_version).path),
        codes={
            "num_levels": release.num_levels,
            "codebook_size": release.codebook_size,
            "codebook_version": version,
        },
    )
