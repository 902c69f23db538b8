"""The Complete Journey runs through the jobs, once for each encoder.

Only the project of the frozen encoder builds training rows, because encoders and codebooks change nothing in them but the
codes, which are looked up by item.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ranking_project import jobs

from ranking_completejourney.source import TEST_FROM, VALID_FROM, Source, catalog_of, log_of, moment

UNALIGNED = "unaligned"
CODEBOOKS = {"num_levels": 3, "codebook_size": 256}
_ALIGNED = {"alignment": {"epochs": 4, "max_pairs": 100_000}}


def open_project(folder: Path, source: Source, *, seed: int | None) -> Any:
    """Open the project of one encoder, and write it first if it does not exist.

    Args:
        folder: Folder of the project.
        source: The data.
        seed: Seed of the encoder that is aligned on item pairs; None for the frozen one.
    """

    def write_sources(folder: Path) -> None:
        log_of(source).to_parquet(folder / "log.parquet", coerce_timestamps="us", index=False)
        catalog_of(source).to_parquet(folder / "items.parquet", index=False)

    return jobs.open_project(folder, settings=lambda: settings_of(seed), write_sources=write_sources)


def settings_of(seed: int | None) -> dict[str, Any]:
    """Return the settings of the project of one encoder."""
    valid_from, test_from = moment(pd.Series([VALID_FROM, TEST_FROM]))
    return {
        "seed": seed or 0,
        "items": {"path": "items.parquet", "title": "title", "text": ["title", "product_category", "department"]},
        "interactions": {"path": "log.parquet", "label": "label", "order_by": "second"},
        "encoder": {"align": seed is not None},
        "codebooks": CODEBOOKS,
        "behavior": {"impression_length": 0},
        "ranking": {"valid_from": valid_from.isoformat(), "test_from": test_from.isoformat()},
        **({} if seed is None else _ALIGNED),
    }


def run(context: Any) -> None:
    """Run the jobs of a project that are not current."""
    jobs.run_jobs(context, jobs.jobs_of(context.settings, training_rows=not context.settings.encoder.align))


def fit_codebooks_with(context: Any, seed: int) -> int:
    """Fit codebooks with a seed, unless they exist, assign semantic IDs, and return the codebook version."""
    from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
    from qarm_features.jobs.command import run_job
    from qarm_features.jobs.context import JobContext, current_codebooks
    from qarm_features.jobs.fit_codebooks import fit_codebooks

    own = context
    if seed != context.settings.seed:
        own = JobContext(context.settings.model_copy(update={"seed": seed}), spark_log_on_stderr=False)
        run_job(fit_codebooks, own)
        run_job(assign_semantic_ids, own)
    return current_codebooks(own).version


def codes_of(context: Any, version: int, item_ids: np.ndarray) -> np.ndarray:
    """Return the codes (I, L) int64 of items under a codebook version, -1 for an item without codes."""
    from qarm_features.storage.tables import ITEM_SEMANTIC_IDS
    from qarm_features.storage.warehouse import Warehouse

    warehouse = Warehouse(context.settings.warehouse_path, **context.settings.id_types)
    files = warehouse.files(ITEM_SEMANTIC_IDS, codebook_version=version)
    found = pd.concat([pd.read_parquet(file, columns=["item_id", "rq_codes"]) for file in files]).set_index("item_id")
    place = found.index.get_indexer(item_ids)
    codes = np.stack(found.rq_codes.to_numpy()).astype(np.int64)
    return np.where((place >= 0)[:, None], codes[place], -1)


def prepared_aligned(context: Any, frozen: jobs.Prepared) -> jobs.Prepared:
    """Return the results of an aligned project, with the rows and the tokens of the project of the frozen encoder."""
    from qarm_features.jobs.context import current_codebooks
    from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS
    from qarm_features.storage.warehouse import Warehouse

    warehouse = Warehouse(context.settings.warehouse_path, **context.settings.id_types)
    codebooks, bank = current_codebooks(context), context.artifacts("banks").latest()
    encoder_version = codebooks.manifest["encoder_version"]
    return dataclasses.replace(
        frozen,
        embeddings=warehouse.files(ITEM_EMBEDDINGS, encoder_version=encoder_version),
        nearest_items=warehouse.files(ITEM_NEAREST_ITEMS, bank_version=bank.version),
        encoder=str(context.artifacts("encoders").get(encoder_version).path),
        codes={**frozen.codes, "codebook_version": codebooks.version},
    )
