"""Rows that stand twice are counted, equal ones are removed, and those that differ are named and kept."""

from __future__ import annotations

import pytest

from qarm_features.feature_store.publishing.release_checks import check_codes
from qarm_features.feature_store.publishing.release_manifest import ReleaseError
from qarm_features.feature_store.views.feature_views import Release
from qarm_features.jobs.repair import repair
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS


@pytest.fixture
def codes_twice(fresh_project, spark):
    """A project with the codes of 64 items of version 0, written by two runs, of 3 items of version 1, and embeddings."""
    time = "timestamp_seconds(0) AS event_timestamp"
    codes = [
        "id AS item_id",
        "array(int(id % 4), 1) AS rq_codes",
        "0 AS encoder_version",
        time,
        "int(id) AS collision_index",
    ]
    for version, items in ((0, 64), (0, 64), (1, 3)):
        rows = spark.range(items).selectExpr(*codes, f"{version} AS codebook_version")
        fresh_project.warehouse.append(ITEM_SEMANTIC_IDS, rows)
    embeddings = [(1, [0.5], "a", 0), (1, [0.5], "a", 0), (2, [0.5], "b", 0), (2, [0.6], "b", 0), (2, [0.5], "b", 1)]
    schema = "item_id int, embedding array<double>, content_hash string, encoder_version int"
    fresh_project.warehouse.append(ITEM_EMBEDDINGS, spark.createDataFrame(embeddings, schema))
    return fresh_project


def test_equal_rows_are_removed_and_rows_that_differ_are_refused_by_name(codes_twice, capsys):
    warehouse, tables = codes_twice.warehouse, (ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS)
    other = warehouse.read(ITEM_SEMANTIC_IDS).where("codebook_version = 1").inputFiles()
    refused = (
        r"^item_embeddings has 1 keys whose rows differ, for example item_id = 2 AND encoder_version = 0\. These rows were "
        r"kept.* \(DELETE FROM delta.`.*/item_embeddings` WHERE item_id = 2 AND encoder_version = 0\), and run qarm embed"
    )

    dry = repair(codes_twice, dry_run=True)
    versions = [warehouse.version(table) for table in tables]
    said = capsys.readouterr().out
    with pytest.raises(ValueError, match=refused):
        repair(codes_twice)

    assert (dry.rows_in, dry.rows_out, dry.remark) == (136, 136, "nothing was changed")
    assert versions == [0, 2]
    assert said.splitlines() == [
        "item_embeddings: 2 surplus rows of 2 keys, 1 of them differing",
        "item_semantic_ids: 64 surplus rows of 64 keys, 0 of them differing",
    ]
    ids = warehouse.read(ITEM_SEMANTIC_IDS).where("codebook_version = 0").toArrow()["item_id"].to_pylist()
    assert sorted(ids) == list(range(64))
    assert warehouse.read(ITEM_SEMANTIC_IDS).where("codebook_version = 1").inputFiles() == other
    assert warehouse.read(ITEM_EMBEDDINGS).count() == 4

    codes_twice.spark.sql(
        f"DELETE FROM delta.`{warehouse.path(ITEM_EMBEDDINGS)}` WHERE item_id = 2 AND encoder_version = 0"
    )
    assert repair(codes_twice).remark == "0 surplus rows removed"


def test_publishing_says_how_many_rows_stand_twice_and_what_to_run(codes_twice):
    rows = codes_twice.warehouse.read(ITEM_SEMANTIC_IDS).where("codebook_version = 0")
    release = Release(0, encoder_version=0, num_levels=2, codebook_size=4, delta_version=1, rows=128)

    with pytest.raises(ReleaseError, match=r"holds 128 rows of 64 items .* 64 rows stand twice\. Run: qarm repair"):
        check_codes(rows, release)
