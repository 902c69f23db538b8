"""The options of ``ResidualKMeans``, and its recovery when files of the fit are lost."""

from __future__ import annotations

import glob
import os
import shutil

import numpy as np
import pytest
from pyspark.sql import functions as F

from qarm_features.quantizers import ResidualKMeans, ResidualKMeansModel
from qarm_features.quantizers.passes import embedding_files

SCHEMA = "item_id long, embedding array<float>, clicks float"


@pytest.fixture(scope="module")
def catalog(spark):
    """400 unit rows (D = 4) and a weight of each."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(400, 4)) + 2 * generator.integers(0, 2, (400, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    data = [(i, row.tolist(), float(i % 7)) for i, row in enumerate(rows)]
    frame = spark.createDataFrame(data, SCHEMA).repartition(2).persist()
    frame.count()
    return frame


def fit(catalog, **params):
    return ResidualKMeans(**({"numLevels": 2, "codebookSize": 5, "maxIter": 3} | params)).fit(catalog)


@pytest.fixture(scope="module")
def fitted(catalog):
    """Returns ``fit`` on the catalog, which fits each set of parameters once; for models that a test only compares with."""
    models = {}

    def model(**params):
        key = repr(sorted(params.items()))
        if key not in models:
            models[key] = fit(catalog, **params)
        return models[key]

    return model


def first_error(model):
    return model.training_summary[0]["relative_error"]


def test_lost_files_are_read_again_and_change_no_bit(catalog, fitted, monkeypatch):
    expected, step, lost = fitted(), embedding_files.EmbeddingFiles.step, []

    def losing(files, centroids):
        if len(lost) < 4:
            lost.append(os.path.dirname(files._partitions[len(lost) % 2].stem))
            shutil.rmtree(lost[-1])
        return step(files, centroids)

    monkeypatch.setattr(embedding_files.EmbeddingFiles, "step", losing)
    again = fit(catalog)

    assert len(lost) == 4
    assert again.codebooks.tobytes() == expected.codebooks.tobytes()


def test_no_file_of_a_fit_outlives_it(catalog, spark):
    folders = embedding_files.EmbeddingFiles(catalog.select("embedding"))
    stems = [partition.stem for partition in folders._partitions]
    before = [os.path.exists(f"{stem}.raw") for stem in stems]

    folders.close()

    assert all(before)
    assert [glob.glob(f"{os.path.dirname(stem)}/*") for stem in stems] == [[]] * len(stems)


def test_many_small_partitions_are_packed_into_few(catalog, spark):
    files = embedding_files.EmbeddingFiles(catalog.select("embedding").repartition(40))

    files.close()

    assert len(files._partitions) == spark.sparkContext.defaultParallelism


def test_levels_may_differ_in_size(catalog):
    model = fit(catalog, codebookSizes=[5, 3])

    again = ResidualKMeansModel.from_codebooks(model.codebooks)
    codes = np.array([row.rq_codes for row in again.transform(catalog).select("rq_codes").collect()])
    assert model.codebooks.shape == (2, 5, 4)
    assert model.level_sizes == [5, 3]
    assert (codes.max(axis=0) <= [4, 2]).all()


def test_a_weight_of_three_counts_as_three_rows(catalog):
    start = fit(catalog, codebookSize=5, numLevels=1, maxIter=1).codebooks
    copies = catalog.withColumn("copy", F.explode(F.sequence(F.lit(1), F.col("clicks").cast("int"))))
    copies = copies.where(F.col("copy") <= F.col("clicks"))

    weighted = fit(catalog, numLevels=1, weightCol="clicks", initialCodebooks=start)
    repeated = fit(copies.where("clicks > 0"), numLevels=1, initialCodebooks=start)

    np.testing.assert_allclose(weighted.codebooks, repeated.codebooks, atol=1e-6)
    np.testing.assert_allclose(first_error(weighted), first_error(repeated), rtol=1e-6)


@pytest.mark.parametrize("partitions", [1, 5])
def test_weighted_fits_do_not_depend_on_partitions(catalog, fitted, partitions):
    params = {"weightCol": "clicks", "initMode": "k-means||", "warmupIter": 1}

    other = fit(catalog.repartition(partitions, "item_id"), **params)

    assert other.codebooks.tobytes() == fitted(**params).codebooks.tobytes()


def test_spherical_centroids_have_norm_one_in_the_first_level(catalog):
    model = fit(catalog, spherical=True)

    np.testing.assert_allclose(np.linalg.norm(model.codebooks[0], axis=1), 1.0, atol=1e-5)
    assert np.linalg.norm(model.codebooks[1], axis=1).max() < 0.99


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["k-means||", "random"])
def test_other_starts_end_near_the_error_of_the_default(catalog, fitted, mode):
    error = first_error(fit(catalog, initMode=mode, maxIter=20))

    assert error < 1.2 * first_error(fitted(maxIter=20))


def test_warm_up_on_the_sample_spares_full_passes(catalog):
    cold, warm = fit(catalog, maxIter=1), fit(catalog, maxIter=1, warmupIter=5)

    assert first_error(warm) < first_error(cold)


def test_a_level_stops_when_its_error_hardly_falls(catalog):
    model = fit(catalog, maxIter=50, tol=0.0, errorTol=0.5)

    assert model.training_summary[0]["iterations"] == 2


def test_overfull_clusters_are_split(spark):
    rows = [(i, [1.0 + i / 1000], 1.0) for i in range(96)] + [(100 + i, [50.0 + 9 * i], 1.0) for i in range(4)]
    catalog = spark.createDataFrame(rows, SCHEMA).coalesce(1)
    start = [[[1.0], [50.0], [59.0], [68.0], [77.0]]]

    model = fit(catalog, numLevels=1, maxLoad=2.0, maxIter=8, tol=0.0, initialCodebooks=start)

    assert np.count_nonzero(model.codebooks[0] < 2) >= 2


def test_each_iteration_reports_its_error(catalog):
    errors = fit(catalog, maxIter=6, tol=0.0).training_summary[0]["iteration_errors"]

    assert len(errors) == 6
    assert errors == sorted(errors, reverse=True)


@pytest.mark.slow
def test_the_device_of_products_changes_no_bit(catalog, fitted):
    by_torch = fit(catalog, device="torch-cpu")

    assert by_torch.codebooks.tobytes() == fitted().codebooks.tobytes()
    assert by_torch.getOrDefault("device") == "torch-cpu"


def test_a_device_that_is_none_is_refused(catalog):
    with pytest.raises(ValueError, match=r"device is tpu, must be one of cpu, cuda, auto, torch-cpu\."):
        fit(catalog, device="tpu")


def test_centroids_that_did_not_move_are_skipped_and_it_changes_no_bit(catalog, monkeypatch):
    asked = []

    def moved(files, centroids):
        asked.append(found := moved_of(files, centroids))
        return found

    moved_of = embedding_files.EmbeddingFiles._moved
    monkeypatch.setattr(embedding_files.EmbeddingFiles, "_moved", moved)
    params = {"maxIter": 12, "tol": 0.0, "codebookSize": 9}
    model = fit(catalog, **params)
    monkeypatch.setattr(embedding_files, "_MOST_MOVED", 0.0)
    every_time = fit(catalog, **params)

    assert any(found is not None and 0 < found.sum() < 9 for found in asked)
    assert model.codebooks.tobytes() == every_time.codebooks.tobytes()
