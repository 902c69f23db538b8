"""A project runs through the jobs: from the catalog and the log to training rows, embeddings, VQ codes and tokens.

A job that is current is left out, so that a killed run continues and a project that exists already is reused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Prepared:
    """Results of the jobs of a project: files by split and by table, and the properties of the codes."""

    rows: dict[str, list[str]]
    embeddings: list[str]
    nearest_items: list[str]
    content: str
    encoder: str  # folder of the encoder version
    codes: dict[str, int]  # num_levels, codebook_size, codebook_version


def open_project(folder: Path, *, settings: Callable[[], dict], write_sources: Callable[[Path], None]):
    """Open a project. If it does not exist, its sources are written first, and its settings last."""
    from qarm_features.cli.new_project import write_project
    from qarm_features.jobs.context import JobContext
    from qarm_features.settings.load import load_settings

    done = folder / "sources-written"
    if not done.is_file():
        if not (folder / "qarm.yaml").is_file():
            write_project(folder)
        write_sources(folder)
        (folder / "qarm.yaml").write_text(yaml.safe_dump(settings()))
        done.touch()
    return JobContext(load_settings(folder / "qarm.yaml"), spark_log_on_stderr=False)


def jobs_of(settings: Any, *, training_rows: bool = True) -> tuple:
    """Return the jobs up to the item features, and up to the training rows if these are wanted, in their order."""
    from qarm_features.jobs.align_encoder import align_encoder
    from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
    from qarm_features.jobs.build_training_set import build_training_set
    from qarm_features.jobs.build_user_behavior import build_user_behavior
    from qarm_features.jobs.embed_items import embed_items
    from qarm_features.jobs.find_nearest_items import find_nearest_items
    from qarm_features.jobs.fit_codebooks import fit_codebooks
    from qarm_features.jobs.ingest_catalog import ingest_catalog
    from qarm_features.jobs.mine_item_pairs import mine_item_pairs
    from qarm_features.jobs.publish_features import publish_features
    from qarm_features.jobs.write_content_tokens import write_content_tokens

    aligning = (mine_item_pairs, align_encoder) if settings.encoder.align else ()
    codes = (ingest_catalog, *aligning, embed_items, fit_codebooks, assign_semantic_ids)
    rows = (build_user_behavior, publish_features, build_training_set, write_content_tokens) if training_rows else ()
    return (*codes, *rows, find_nearest_items)


def run_jobs(context: Any, jobs: Iterable | None = None) -> None:
    """Run the jobs that are not current, by default all up to the training rows and the item features."""
    import time

    from qarm_features.jobs.command import run_job
    from qarm_features.jobs.skipping import inputs, is_current, record_run

    for job in jobs_of(context.settings) if jobs is None else jobs:
        if not is_current(job, context.settings):
            seen, started = inputs(job, context.settings), time.perf_counter()
            counts = run_job(job, context)
            record_run(job, context.settings, seen, counts, time.perf_counter() - started)


def prepared(context: Any) -> Prepared:
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
