"""Codebooks through the jobs, by settings: levels of different sizes, an fsq level, and items weighed by popularity."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from qarm_features.codebooks.fit import WEIGHT, fit_model, last_alike, quantizer, require_enough_items, with_popularity
from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
from qarm_features.jobs.evaluate_codes import evaluate_codes
from qarm_features.jobs.fit_codebooks import fit_codebooks
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.quantizers import ResidualKMeans, ResidualKMeansFiniteScalar
from qarm_features.quantizers.arrays.codebooks import level_sizes
from qarm_features.semantic_ids.assign import level_sizes as sizes_of_manifest
from qarm_features.semantic_ids.assign import load_codebooks
from qarm_features.settings.codes import Codebooks
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS
from tests.toy_catalog import add_clustered_embeddings


@pytest.fixture
def embedded(fresh_project):
    """The toy project with embeddings (D = 8) in four clusters in place of encoded texts."""
    ingest_catalog(fresh_project)
    add_clustered_embeddings(fresh_project, range(64))
    return fresh_project


def change(context, **sections):
    """Change settings of a project."""
    models = {name: getattr(context.settings, name).model_copy(update=values) for name, values in sections.items()}
    context.settings = context.settings.model_copy(update=models)


def all_codes(context, version):
    rows = context.warehouse.read(ITEM_SEMANTIC_IDS).where(F.col("codebook_version") == version)
    return np.array([row["rq_codes"] for row in rows.orderBy("item_id").collect()])


@pytest.mark.slow
def test_levels_of_different_sizes_go_through_the_jobs_and_a_refit(embedded):
    change(embedded, codebooks={"codebook_size": [4, 8, 2], "num_levels": 3}, semantic_ids={"bucket_cap": 2})

    fit_codebooks(embedded)
    assign_semantic_ids(embedded)
    evaluate_codes(embedded)
    fit_codebooks(embedded, refit=True)

    first, refitted = (embedded.artifacts("codebooks").get(version) for version in (0, 1))
    assert sizes_of_manifest(first.manifest) == sizes_of_manifest(refitted.manifest) == [4, 8, 2]
    assert level_sizes(load_codebooks(refitted).codebooks) == [4, 8, 2]
    assert refitted.manifest["refit"]["kept"]["semantic_ids"] > 0.9
    codes = all_codes(embedded, 0)
    assert (codes.max(axis=0) < [4, 8, 2]).all()
    assert codes[:, 1].max() > 3


@pytest.mark.slow
def test_an_fsq_level_goes_through_the_jobs_and_a_refit(embedded):
    change(embedded, codebooks={"codebook_size": [4, 16], "last_level": "fsq"}, semantic_ids={"bucket_cap": 1})

    fit_codebooks(embedded)
    assign_semantic_ids(embedded)
    evaluate_codes(embedded)
    fit_codebooks(embedded, refit=True)
    counts = assign_semantic_ids(embedded)

    first, refitted = (embedded.artifacts("codebooks").get(version) for version in (0, 1))
    codes, levels = all_codes(embedded, 0), first.manifest["levels"]
    assert first.manifest["level_sizes"][0] == 4
    assert codes.max(axis=0)[1] < first.manifest["level_sizes"][1] <= 16
    assert levels[1]["relative_error"] < levels[0]["relative_error"]
    assert len({tuple(row) for row in codes}) > 48
    assert refitted.manifest["level_sizes"] == load_codebooks(refitted).level_sizes == first.manifest["level_sizes"]
    kept = refitted.manifest["refit"]["kept"]["semantic_ids"]
    assert kept > 0.75  # a fit without a start keeps at most 1 of 8 items
    assert (all_codes(embedded, 1) == codes).all(axis=1).mean() >= kept - 1 / 64  # the cap may move one item
    assert "kept from v0" in counts.remark


@pytest.mark.slow
def test_a_refit_of_k_means_into_an_fsq_level_starts_from_nothing(embedded):
    fit_codebooks(embedded)
    assign_semantic_ids(embedded)
    change(embedded, codebooks={"last_level": "fsq"})

    fit_codebooks(embedded, refit=True)

    assert "refit" not in embedded.artifacts("codebooks").get(1).manifest


def test_settings_choose_the_estimator():
    plain = quantizer(Codebooks(codebook_size=7), seed=1)
    scalar = quantizer(Codebooks(codebook_size=7, last_level="fsq", fsq_levels=[3, 2], popularity_power=0.5), seed=1)

    assert isinstance(plain, ResidualKMeans)
    assert (plain.getCodebookSizes(), plain.isDefined("weightCol")) == ([7, 7, 7], False)
    assert isinstance(scalar, ResidualKMeansFiniteScalar)
    assert (scalar.getCodebookSizes(), scalar.getWeightCol()) == ([7, 7], WEIGHT)
    assert scalar.getOrDefault("lastLevels") == [3, 2]


def test_a_refit_starts_from_the_newest_codebooks_of_the_same_shape_and_kind(tmp_path):
    codebooks, plain = Artifacts(tmp_path, "codebooks"), Codebooks(codebook_size=7)
    unnamed = plain.model_dump()
    del unnamed["last_level"]  # old manifests have no such entry
    for manifest in (unnamed, plain.model_dump() | {"last_level": "fsq"}, unnamed | {"codebook_size": 8}):
        codebooks.publish(lambda folder: None, **manifest, seed=1)

    found = [
        last_alike(codebooks, plain.model_copy(update={"last_level": kind}), seed=1)
        for kind in (None, "k-means", "fsq")
    ]

    assert [artifact.version for artifact in found] == [0, 0, 1]
    assert last_alike(codebooks, plain, seed=2) is None


def test_popular_items_pull_centroids_and_new_ones_count_once(spark):
    """
    item_id  embedding  positives          power 1: weight   centroid
    0        [0, 1]     3              ->  4                 (4 * [0, 1] + 1 * [1, 0]) / 5
    1        [1, 0]     0                  1
    """
    items = spark.createDataFrame([(0, [0.0, 1.0]), (1, [1.0, 0.0])], "item_id long, embedding array<float>")
    clicks = spark.createDataFrame(pd.DataFrame({"item_id": [0, 0, 0, 0, 1], "label": [1, 1, 1, 0, 0]}))

    weighted = with_popularity(items, clicks, 1.0)
    wanted = Codebooks.model_construct(**Codebooks().model_dump() | {"num_levels": 1, "codebook_size": 1})
    wanted = wanted.model_copy(update={"popularity_power": 1.0})
    model, levels = fit_model(weighted, quantizer(wanted, seed=0))

    assert {row["item_id"]: row[WEIGHT] for row in weighted.collect()} == {0: 4.0, 1: 1.0}
    np.testing.assert_allclose(model.codebooks[0], [[0.2, 0.8]], atol=1e-6)
    assert levels[0]["weight"] == 5.0
    assert levels[0]["sse"] == pytest.approx(4 * 0.08 + 1.28)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"codebook_size": 1}, "codebook_size is 1, must be 2 to 65536"),
        ({"codebook_size": [8, 65537, 8]}, "codebook_size is 65537, must be 2 to 65536"),
        ({"codebook_size": [8]}, "codebook_size has 1 numbers, must have 3, one per level"),
        ({"num_levels": 1, "last_level": "fsq"}, "num_levels is 1, must be at least 2 if last_level is fsq"),
        ({"fsq_levels": [4]}, "fsq_levels must not be set unless last_level is fsq"),
    ],
)
def test_settings_that_disagree_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Codebooks(**values)


@pytest.mark.parametrize("size", [256, [4, 256, 4]])
def test_more_centroids_than_items_name_the_setting(size):
    message = "codebooks.codebook_size is 256, must be at most the number of items, 199. Set it in qarm.yaml so that"

    with pytest.raises(ValueError, match=message):
        require_enough_items(Codebooks(num_levels=3, codebook_size=size), 199)
