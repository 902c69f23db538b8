"""A refit of a whole project makes a new version, keeps most semantic IDs, and reads old tables that lack a column."""

from __future__ import annotations

import json
import logging

import pandas as pd
import pytest
from pyspark.sql import functions as F
from safetensors.numpy import load_file

from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
from qarm_features.jobs.evaluate_codes import evaluate_codes
from qarm_features.jobs.fit_codebooks import fit_codebooks
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS, Table
from tests.toy_catalog import add_clustered_embeddings, toy_items


@pytest.fixture
def embedded(fresh_project):
    """The toy project with embeddings (D = 8) in four clusters in place of encoded texts."""
    ingest_catalog(fresh_project)
    add_clustered_embeddings(fresh_project, range(64))
    return fresh_project


def semantic_ids(context, version):
    rows = context.warehouse.read(ITEM_SEMANTIC_IDS).where(F.col("codebook_version") == version).collect()
    return {row["item_id"]: (tuple(row["rq_codes"]), row["collision_index"]) for row in rows}


@pytest.mark.slow
def test_a_refit_keeps_most_ids_and_says_how_many(embedded):
    fit_codebooks(embedded)
    assign_semantic_ids(embedded)
    before = semantic_ids(embedded, 0)
    catalog = pd.concat([toy_items(), toy_items().iloc[:8].assign(item_id=range(64, 72))])
    catalog.to_parquet(embedded.settings.path("catalog/items.parquet"), index=False)
    ingest_catalog(embedded)
    add_clustered_embeddings(embedded, range(64, 72))

    fit_codebooks(embedded, refit=True)
    counts = assign_semantic_ids(embedded)

    artifact, after = embedded.artifacts("codebooks").get(1), semantic_ids(embedded, 1)
    kept = [item for item in before if before[item][0] == after[item][0]]
    assert semantic_ids(embedded, 0) == before
    assert len(after) == 72
    assert artifact.manifest["refit"]["of"] == 0
    assert artifact.manifest["refit"]["kept"]["items"] == 64
    assert artifact.manifest["refit"]["kept"]["semantic_ids"] == len(kept) / 64
    assert len(kept) > 54
    assert f"{len(kept)} kept from v0" in counts.remark
    assert load_file(artifact.path / "refit.safetensors")["new_code"].shape == (2, 4)


@pytest.mark.slow
def test_a_refit_prints_one_error_of_the_last_level(embedded, caplog):
    caplog.set_level(logging.INFO, logger="qarm_features")
    fit_codebooks(embedded)
    assign_semantic_ids(embedded)
    catalog = pd.concat([toy_items(), toy_items().iloc[:8].assign(item_id=range(64, 72))])
    catalog.to_parquet(embedded.settings.path("catalog/items.parquet"), index=False)
    ingest_catalog(embedded)
    add_clustered_embeddings(embedded, range(64, 72))
    caplog.clear()

    remark = fit_codebooks(embedded, refit=True).remark
    assign_semantic_ids(embedded)

    logged = [record.getMessage() for record in caplog.records if "relative error" in record.getMessage()]
    levels = embedded.artifacts("codebooks").get(1).manifest["levels"]
    assert logged == [
        f"level {level} after the refit: relative error {levels[level]['relative_error']:.6f}, 4 of 4 codes in use"
        for level in (0, 1)
    ]
    assert f"relative error {levels[1]['relative_error']:.3f} after the last level" in remark
    evaluate_codes(embedded, max_queries=2)
    figures = json.loads((embedded.settings.artifacts_path / "evaluations" / "codes_v1.json").read_text())
    measured = [level["relative_error"] for level in figures["errors"]["levels"]]
    assert measured == pytest.approx([level["relative_error"] for level in levels], abs=1e-12)


@pytest.mark.slow
def test_a_fresh_fit_is_what_the_first_fit_was(embedded):
    fit_codebooks(embedded)
    assign_semantic_ids(embedded)

    fit_codebooks(embedded, fresh=True)

    first, fresh = (embedded.artifacts("codebooks").get(version).manifest for version in (0, 1))
    assert first["files"] == fresh["files"]
    assert "refit" not in fresh


@pytest.mark.slow
def test_a_refit_without_any_semantic_id_starts_from_nothing(embedded):
    fit_codebooks(embedded)

    fit_codebooks(embedded, refit=True)

    assert "refit" not in embedded.artifacts("codebooks").get(1).manifest


@pytest.mark.slow
def test_a_table_from_before_there_was_an_index_takes_new_rows(embedded):
    fit_codebooks(embedded)
    old = Table(
        ITEM_SEMANTIC_IDS.name, ITEM_SEMANTIC_IDS.key, ITEM_SEMANTIC_IDS.columns[:-1], "", "", ("codebook_version",)
    )
    rows = [(i, [0, 0], 0, 0) for i in range(60)]
    schema = "item_id long, rq_codes array<int>, codebook_version int, encoder_version int"
    rows = embedded.spark.createDataFrame(rows, schema).withColumn("event_timestamp", F.timestamp_seconds(F.lit(0)))
    embedded.warehouse.append(old, rows)
    assert embedded.warehouse.read(ITEM_SEMANTIC_IDS).where("collision_index IS NULL").count() == 60

    assign_semantic_ids(embedded)

    ids = semantic_ids(embedded, 0)
    assert len(ids) == 64
    assert {ids[item] for item in range(60)} == {((0, 0), None)}
    assert all(ids[item][1] is not None for item in range(60, 64))
    assert embedded.warehouse.read(ITEM_SEMANTIC_IDS, version=0).where("collision_index IS NULL").count() == 60
