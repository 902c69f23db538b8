"""A result that is valid but doubtful is announced by a line that starts with WARNING."""

from __future__ import annotations

import logging

import pandas as pd

from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
from qarm_features.jobs.cautions import items_without_vectors, rejected_rows, shared_codes, unused_codes
from qarm_features.jobs.command import run_job
from qarm_features.jobs.ingest_catalog import ingest_catalog
from tests.toy_catalog import toy_items


def codes(spark, *rows):
    return spark.createDataFrame(
        [(number, list(code)) for number, code in enumerate(rows)], "item_id long, rq_codes array<int>"
    )


def contents(spark, *hashes):
    return spark.createDataFrame(list(enumerate(hashes)), "item_id long, content_hash string")


def different(spark, number):
    return contents(spark, *map(str, range(number)))


def test_items_that_share_their_semantic_id_are_counted(spark):
    rows = codes(spark, (0, 0), (0, 0), (1, 0), (2, 0), (3, 0), (4, 0))

    (warning,) = shared_codes(rows, different(spark, 6), codebook_size=8)

    assert warning.startswith("33.3% of 6 items share their semantic ID with another item. Raise codebooks.num_levels")


def test_items_with_the_same_content_are_not_to_be_told_apart_by_larger_codebooks(spark):
    rows = codes(spark, (0, 0), (0, 0), (1, 0), (1, 0), (1, 0), (4, 0))

    (warning,) = shared_codes(rows, contents(spark, "a", "a", "b", "b", "c", "d"), codebook_size=8)

    assert warning == (
        "83.3% of 6 items share their semantic ID with another item. 66.7% of the items have the same content as another "
        "item, and larger codebooks cannot tell these apart. Add a column to items.text, or an image, in which they differ, "
        "or set semantic_ids.bucket_cap."
    )


def test_many_items_with_one_semantic_id_and_one_large_first_cluster_are_named(spark):
    rows = codes(spark, *[(5, 7)] * 11, *[(number, 0) for number in range(6, 30)])

    warnings = shared_codes(rows, different(spark, 35), codebook_size=32)

    assert warnings[1].startswith(
        "11 items (31.4%) have the one semantic ID [5, 7], often because their content is empty"
    )
    assert warnings[1].endswith("Look at them with: qarm show 0")
    assert warnings[2].startswith("11 of 35 items have the first code 5, which then tells little.")


def test_items_without_a_vector_are_counted(spark):
    positives = spark.createDataFrame([(1,), (1,), (2,), (3,)], "item_id long")
    vectors = spark.createDataFrame([("1",), ("9",)], "item_id string")

    (warning,) = items_without_vectors(positives, vectors)

    assert warning.startswith("2 of 3 items with positives have no vector in item_pairs.item_vectors")
    assert items_without_vectors(positives.where("item_id = 1"), vectors) == []


def test_codes_that_spread_well_give_no_warning(spark):
    rows = codes(spark, *[(number // 4, number % 4) for number in range(16)])

    assert shared_codes(rows, different(spark, 16), codebook_size=4) == []
    assert unused_codes([{"codes_in_use": 4}], [4]) == []
    assert rejected_rows(1000, 10) == []


def test_a_job_warns_of_rejected_rows(fresh_project, caplog):
    caplog.set_level(logging.INFO)
    folder = fresh_project.settings.feature_repo_path.parent
    broken = pd.DataFrame({"item_id": [None] * 16, "title": "x", "plot": "y"})
    catalog = pd.concat([toy_items(), broken]).astype({"item_id": "Int64"})
    catalog.to_parquet(folder / "catalog" / "items.parquet", index=False)

    run_job(ingest_catalog, fresh_project)

    assert (
        "WARNING: 1.8% of the rows were rejected (16 of 880). The reasons are in the table rejected_rows."
        in caplog.text
    )


def test_the_job_that_assigns_semantic_ids_warns_of_collisions(project, caplog):
    """The toy project has 64 items and at most 16 semantic IDs."""
    record = (project.settings.artifacts_path / "runs" / "assign_semantic_ids.json").read_text()

    assert assign_semantic_ids.name == "assign_semantic_ids"
    assert "100.0% of 64 items share their semantic ID with another item" in record
