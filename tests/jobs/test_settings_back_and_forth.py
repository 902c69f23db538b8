"""Settings that were tried and taken back give what they gave before, and never what was made in between."""

from __future__ import annotations

import pandas as pd
import pytest

from qarm_features.feature_store.publishing.releases import require_promoted_release
from qarm_features.feature_store.reading.reader import SemanticIDReader
from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
from qarm_features.jobs.context import current_codebooks
from qarm_features.jobs.fit_codebooks import fit_codebooks
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.jobs.skipping import inputs, is_current, record_run
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS
from tests.toy_catalog import SETTINGS, add_clustered_embeddings, all_jobs, open_project, write_toy_project

OTHER_ENCODER = "encoder: {max_tokens: 16}\n"


def with_settings(folder, spark, more: str):
    (folder / "qarm.yaml").write_text(SETTINGS + more)
    return open_project(folder, spark)


def run_what_changed(context) -> None:
    """Runs the jobs as `qarm run` does."""
    for job in all_jobs():
        if not is_current(job, context.settings):
            seen = inputs(job, context.settings)
            record_run(job, context.settings, seen, job(context), 0.0)


@pytest.mark.slow
def test_codes_come_from_codebooks_of_the_encoder_that_the_settings_describe(tmp_path, spark, caplog):
    folder = write_toy_project(tmp_path)
    for more in ("", OTHER_ENCODER):
        context = with_settings(folder, spark, more)
        if not more:
            ingest_catalog(context)
        add_clustered_embeddings(context, range(60))
        fit_codebooks(context)
        assign_semantic_ids(context)
    assert current_codebooks(context).version == 1

    context = with_settings(folder, spark, "")
    add_clustered_embeddings(context, range(60, 64))  # new items, embedded by the encoder of now
    fit_codebooks(context)
    assign_semantic_ids(context)

    assert current_codebooks(context).version == 0
    rows = context.warehouse.read(ITEM_SEMANTIC_IDS).groupBy("codebook_version", "encoder_version").count().collect()
    assert sorted(map(tuple, rows)) == [(0, 0, 64), (1, 1, 60)]
    assert "which has no codebooks" not in caplog.text


def test_an_encoder_without_codebooks_is_named_in_a_warning(tmp_path, spark, caplog):
    folder = write_toy_project(tmp_path)
    for more in ("", OTHER_ENCODER):
        context = with_settings(folder, spark, more)
        add_codebooks(context)
    context = with_settings(folder, spark, "encoder: {max_tokens: 32}\n")
    add_encoder(context)

    assert current_codebooks(context).version == 1

    (said,) = [record.getMessage() for record in caplog.records if "WARNING" in record.getMessage()]
    assert said.startswith(
        "WARNING: codebooks v1 are used, which were fitted to embeddings of encoder v1. The settings "
    )
    assert "describe encoder v2, which has no codebooks" in said


def add_encoder(context):
    from qarm_features.embedding.encoder_versions import current_encoder

    return current_encoder(context.artifacts("encoders"), context.settings)


def add_codebooks(context) -> None:
    """Publishes codebooks of the settings without centroids."""
    settings = context.settings
    about = {"encoder_version": add_encoder(context).version, "seed": settings.seed, **settings.codebooks.model_dump()}
    context.artifacts("codebooks").publish(lambda folder: (folder / "empty").touch(), **about)


@pytest.mark.slow
def test_what_was_served_before_is_served_again_with_the_items_that_came(tmp_path, spark):
    folder = write_toy_project(tmp_path)
    run_what_changed(with_settings(folder, spark, ""))
    reader = SemanticIDReader(folder / "feature_repo")
    before = reader.item_codes([0, 20, 63]).codes.tolist()
    run_what_changed(with_settings(folder, spark, OTHER_ENCODER))
    items = pd.read_parquet(folder / "catalog" / "items.parquet")
    come = items[items.item_id == 20].assign(item_id=64)
    pd.concat([items, come]).to_parquet(folder / "catalog" / "items.parquet", index=False)

    context = with_settings(folder, spark, "")
    run_what_changed(context)

    release = require_promoted_release(context.settings)
    assert (release.codebook_version, release.encoder_version) == (0, 0)
    read = SemanticIDReader(folder / "feature_repo").item_codes([0, 20, 63, 64])
    assert read.codes.tolist() == [*before, before[1]]
    assert read.found.all()
