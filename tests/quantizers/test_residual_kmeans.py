"""``ResidualKMeans`` on Spark, compared with scikit-learn, for any partitioning."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.functions import array_to_vector
from pyspark.sql import functions as F
from sklearn.cluster import KMeans

from qarm_features.quantizers import ResidualKMeans, ResidualKMeansModel
from qarm_features.quantizers.passes import embedding_files

SCHEMA = "item_id long, embedding array<float>"


def rows_of(embeddings):
    return [(item_id, row.tolist()) for item_id, row in enumerate(embeddings)]


@pytest.fixture(scope="module")
def embeddings():
    """600 rows (D = 8) in 6 clusters."""
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(6, 8))
    noise = 0.2 * generator.normal(size=(600, 8))
    return (centers[generator.integers(0, 6, 600)] + noise).astype(np.float32)


@pytest.fixture(scope="module")
def catalog(spark, embeddings):
    return spark.createDataFrame(rows_of(embeddings), SCHEMA).repartition(2).persist()


@pytest.fixture(scope="module")
def estimator():
    return ResidualKMeans(numLevels=2, codebookSize=6, maxIter=3, seed=7)


@pytest.fixture(scope="module")
def model(estimator, catalog):
    return estimator.fit(catalog)


@pytest.fixture(scope="module")
def codes(model, catalog):
    rows = model.transform(catalog).orderBy("item_id").toArrow()
    return np.array(rows["rq_codes"].to_pylist())


def without_seconds(model):
    return [{name: value for name, value in level.items() if name != "seconds"} for level in model.training_summary]


def test_the_first_level_equals_scikit_learn_from_the_same_centroids(catalog, embeddings):
    start = embeddings[:6]
    expected = KMeans(6, algorithm="lloyd", init=start, n_init=1, tol=0, max_iter=4).fit(embeddings)

    model = ResidualKMeans(numLevels=1, codebookSize=6, maxIter=4, tol=0.0, initialCodebooks=[start]).fit(catalog)

    np.testing.assert_allclose(model.codebooks[0], expected.cluster_centers_, atol=1e-4)
    assert expected.inertia_ <= model.training_summary[0]["sse"] < 1.001 * expected.inertia_  # an upper bound


def test_a_refit_starts_where_the_last_fit_ended(catalog):
    rested = ResidualKMeans(numLevels=2, codebookSize=6, maxIter=50, tol=0.0, seed=7).fit(catalog)

    again = ResidualKMeans(numLevels=2, codebookSize=6, maxIter=1, seed=99).fit_from(catalog, rested.codebooks)

    np.testing.assert_allclose(again.codebooks, rested.codebooks, atol=1e-6)


@pytest.mark.parametrize("partitions", [1, 7])
def test_partitions_and_row_order_change_no_bit(estimator, catalog, model, codes, partitions):
    shuffled = catalog.orderBy(F.xxhash64("item_id")).repartition(partitions)

    again = estimator.fit(shuffled)

    assert again.codebooks.tobytes() == model.codebooks.tobytes()
    assert without_seconds(again) == without_seconds(model)
    rows = again.transform(shuffled).orderBy("item_id").toArrow()
    assert rows["rq_codes"].to_pylist() == codes.tolist()


def test_adding_partial_sums_on_executors_changes_no_bit(estimator, catalog, model, monkeypatch):
    monkeypatch.setattr(embedding_files, "COMBINE_BYTES", 0)

    again = estimator.fit(catalog.repartition(5))

    assert again.codebooks.tobytes() == model.codebooks.tobytes()


def test_another_seed_starts_elsewhere(estimator, catalog, model):
    other = estimator.copy({estimator.seed: 8, estimator.maxIter: 1}).fit(catalog)

    assert other.codebooks.tobytes() != model.codebooks.tobytes()


def test_the_error_never_rises_with_a_level(catalog):
    model = ResidualKMeans(numLevels=5, codebookSize=3, maxIter=1).fit(catalog)

    errors = [level["sse"] for level in model.training_summary]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


def test_the_reported_errors_are_those_of_the_codes_the_last_an_upper_bound(model, codes, embeddings):
    left, errors = embeddings.astype(np.float64), []
    for level in range(2):
        left = left - model.codebooks[level][codes[:, level]]
        errors.append(np.square(left).sum())

    first, last = model.training_summary

    energy = np.square(embeddings, dtype=np.float64).sum()
    np.testing.assert_allclose([first["sse"], first["relative_error"]], [errors[0], errors[0] / energy], rtol=1e-5)
    assert errors[1] <= last["sse"] * (1 + 1e-6)
    assert last["sse"] < 1.1 * errors[1]
    assert last["relative_error"] == pytest.approx(last["sse"] / energy)


def test_the_summary_has_one_entry_per_level(model):
    first, second = model.training_summary

    assert (first["level"], second["level"]) == (0, 1)
    assert (first["codes_in_use"], first["codebook_size"], first["rows"]) == (6, 6, 600)
    assert 1 <= first["iterations"] <= 3


def test_codes_are_lists_of_ints_beside_the_columns_that_were_there(model, catalog):
    transformed = model.transform(catalog)

    assert transformed.columns == ["item_id", "embedding", "rq_codes"]
    assert transformed.schema["rq_codes"].dataType.simpleString() == "array<int>"


def test_empty_clusters_split_the_largest_one(spark):
    catalog = spark.createDataFrame([(0, [0.0, 0.0]), (1, [0.0, 1.0]), (2, [8.0, 0.0]), (3, [8.0, 1.0])], SCHEMA)
    duplicates_and_one_far_away = [[[0, 0], [0, 0], [9, 9], [900, 900]]]

    model = ResidualKMeans(
        numLevels=1,
        codebookSize=4,
        maxIter=20,
        tol=0.0,
        initialCodebooks=duplicates_and_one_far_away,
        zeroVectors="keep",
    ).fit(catalog)

    assert sorted(model.codebooks[0].tolist()) == [[0, 0], [0, 1], [8, 0], [8, 1]]
    assert model.training_summary[0]["codes_in_use"] == 4
    assert model.training_summary[0]["sse"] == 0.0


def test_a_level_of_zero_residuals_uses_one_code(spark):
    catalog = spark.createDataFrame([(0, [1.0]), (1, [3.0]), (2, [3.0])], SCHEMA)

    model = ResidualKMeans(numLevels=2, codebookSize=2).fit(catalog)

    assert sorted(model.codebooks[0].ravel().tolist()) == [1.0, 3.0]
    assert [level["codes_in_use"] for level in model.training_summary] == [2, 1]
    assert [level["relative_error"] for level in model.training_summary] == [0.0, 0.0]


def test_the_sample_holds_distinct_rows_with_their_counts(spark):
    catalog = spark.createDataFrame([([1.0],), ([2.0],), ([1.0],), ([1.0],)], "embedding array<float>")
    files = embedding_files.EmbeddingFiles(catalog.repartition(3))
    files.start()

    sample = files.sample(10, seed=0)

    files.close()
    assert dict(zip(files.grid.restore(sample.rows).ravel().tolist(), sample.weights.tolist())) == {1.0: 3, 2.0: 1}


def test_vectors_and_doubles_are_quantized_as_floats_are(catalog, model):
    doubles = F.col("embedding").cast("array<double>")

    rows = catalog.select("item_id", array_to_vector(doubles).alias("embedding"), doubles.alias("doubles"))
    rows = model.transform(rows)
    codes = model.copy({model.inputCol: "doubles", model.outputCol: "again"}).transform(rows)

    assert codes.where(F.col("again") != F.col("rq_codes")).count() == 0
    one_step = ResidualKMeans(numLevels=1, codebookSize=6, maxIter=1)
    fitted = [one_step.copy({one_step.inputCol: name}).fit(rows) for name in ("embedding", "doubles")]
    assert fitted[0].codebooks.tobytes() == fitted[1].codebooks.tobytes()


def test_one_line_per_level_is_logged(catalog, caplog):
    caplog.set_level(logging.INFO, logger="qarm_features")

    ResidualKMeans(numLevels=2, codebookSize=2, maxIter=1).fit(catalog)

    lines = [record.getMessage() for record in caplog.records if record.name.startswith("qarm_features")]
    assert len(lines) == 2
    assert lines[0].startswith("level 0: 1 iterations, relative error 0.")
    assert "2 of 2 codes in use" in lines[1]


def test_a_python_worker_uses_as_many_blas_threads_as_its_task_has_cpus(spark):
    def threads(batches):
        import os

        import pyarrow as pa

        list(batches)
        yield pa.RecordBatch.from_pydict({"threads": [os.environ["OMP_NUM_THREADS"]]})

    rows = spark.range(1, numPartitions=1).mapInArrow(threads, "threads string").collect()

    assert [row.threads for row in rows] == ["1"]


def test_an_estimator_survives_saving_with_its_initial_codebooks(tmp_path, spark):
    estimator = ResidualKMeans(numLevels=1, codebookSize=2, initialCodebooks=[[[1.0], [2.0]]])

    estimator.save(f"{tmp_path}/estimator")

    loaded = ResidualKMeans.load(f"{tmp_path}/estimator")
    assert loaded.uid == estimator.uid
    assert loaded.getInitialCodebooks().tolist() == [[[1.0], [2.0]]]
    assert (loaded.getCodebookSize(), loaded.getMaxIter(), loaded.getTol()) == (2, 20, 1e-4)


def test_an_estimator_that_was_saved_under_another_default_keeps_it(tmp_path):
    saved = ResidualKMeans(codebookSize=2)
    saved._setDefault(maxIter=10)  # the default of earlier versions
    saved.save(f"{tmp_path}/estimator")

    loaded = ResidualKMeans.load(f"{tmp_path}/estimator")

    assert (loaded.getMaxIter(), ResidualKMeans().getMaxIter()) == (10, 20)


def test_a_pipeline_model_survives_saving_to_the_last_bit(tmp_path, model, catalog, codes):
    PipelineModel([model]).save(f"{tmp_path}/pipeline")

    loaded = PipelineModel.load(f"{tmp_path}/pipeline")

    assert loaded.stages[0].codebooks.tobytes() == model.codebooks.tobytes()
    assert loaded.stages[0].training_summary == model.training_summary
    assert loaded.stages[0].uid == model.uid
    rows = loaded.transform(catalog).orderBy("item_id").toArrow()
    assert rows["rq_codes"].to_pylist() == codes.tolist()


def test_a_pipeline_fits_and_transforms(catalog):
    pipeline = Pipeline(stages=[ResidualKMeans(numLevels=1, codebookSize=2, maxIter=1, outputCol="codes")])

    row = pipeline.fit(catalog).transform(catalog).first()

    assert row.codes in ([0], [1])


def test_setters_and_a_copy_with_other_params_change_what_they_name():
    estimator = ResidualKMeans().setNumLevels(4).setCodebookSize(8).setMaxIter(2).setTol(0.5).setSeed(3)
    estimator.setInputCol("e").setOutputCol("c").setInitialCodebooks(np.zeros((4, 8, 2))).setParams(tol=0.25)

    copy = estimator.copy({estimator.codebookSize: 16})

    assert (copy.getNumLevels(), copy.getCodebookSize(), copy.getMaxIter()) == (4, 16, 2)
    assert (copy.getTol(), copy.getSeed(), copy.getInputCol(), copy.getOutputCol()) == (0.25, 3, "e", "c")
    assert estimator.getCodebookSize() == 8


def test_codebooks_of_an_artifact_make_a_model(spark):
    model = ResidualKMeansModel.from_codebooks([[[0, 0], [10, 10]], [[1, 0], [0, 2]]], inputCol="e", outputCol="c")
    catalog = spark.createDataFrame([([1.0, 0.0],), ([10.0, 12.0],)], "e array<float>")

    codes = [row.c for row in model.transform(catalog).collect()]

    assert codes == [[0, 0], [1, 1]]
    assert model.codebooks.dtype == np.float32
