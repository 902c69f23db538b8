"""Every error of ``ResidualKMeans`` and its model."""

from __future__ import annotations

import pytest
from pyspark.errors import PythonException

from qarm_features.quantizers import ResidualKMeans, ResidualKMeansModel
from qarm_features.quantizers.passes import embedding_files

SCHEMA = "item_id long, embedding array<float>"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"numLevels": 0}, r"numLevels is 0, must be at least 1\."),
        ({"codebookSize": 0}, r"codebookSize is 0, must be at least 1\."),
        ({"maxIter": -1}, r"maxIter is -1, must be at least 1\."),
        ({"tol": -0.5}, r"tol is -0\.5, must be at least 0\."),
        ({"tol": float("nan")}, r"tol is nan, must be at least 0\."),
        ({"inputCol": "vector"}, r"inputCol is vector, must be a column .* Present: item_id, embedding\."),
        ({"inputCol": "item_id"}, r"inputCol item_id is bigint, must be array<float>, array<double> or a vector\."),
        ({"codebookSize": 4}, r"codebookSize is 4, must be at most the number of rows, 3\."),
        ({"codebookSize": 3}, r"codebookSize is 3, must be at most the number of distinct rows, 2 of 3\."),
        (
            {"codebookSize": 2, "numLevels": 1, "initialCodebooks": [[[1.0], [2.0]]]},
            r"initialCodebooks has shape \(1, 2, 1\), must be \(numLevels, codebookSize, dimension\) = \(1, 2, 2\)\.",
        ),
        (
            {"codebookSize": 1, "numLevels": 1, "initialCodebooks": [[[1.0, float("nan")]]]},
            r"initialCodebooks has 1 NaN or infinite values, must be finite\.",
        ),
        ({"errorTol": -1.0}, r"errorTol is -1\.0, must be at least 0\."),
        ({"warmupIter": -1}, r"warmupIter is -1, must be at least 0\."),
        ({"initMode": "best"}, r"initMode is best, must be one of k-means\+\+, k-means\|\|, random\."),
        ({"zeroVectors": "drop"}, r"zeroVectors is drop, must be one of error, keep\."),
        ({"maxLoad": 0.5}, r"maxLoad is 0\.5, must be above 1, or 0 to split no clusters\."),
        ({"capacity": 1.0}, r"capacity is 1\.0, must be above 1 and finite, or 0 for no limit\."),
        ({"capacity": float("nan")}, r"capacity is nan, must be above 1 and finite"),
        ({"codebookSizes": [2]}, r"codebookSizes is \[2\], must be numLevels = 3 sizes of at least 1\."),
        ({"weightCol": "clicks"}, r"weightCol is clicks, must be a column .* Present: item_id, embedding\."),
    ],
)
def test_params_that_do_not_fit_the_rows_are_refused(spark, params, message):
    catalog = spark.createDataFrame([(0, [1.0, 0.0]), (1, [0.0, 1.0]), (2, [0.0, 1.0])], SCHEMA)

    with pytest.raises(ValueError, match=message):
        ResidualKMeans(**params).fit(catalog)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"DataFrame has 0 rows, must have at least codebookSize = 1\."),
        ([[1.0], None, None], r"embedding is null in 2 of 3 rows, must be set\."),
        ([[1.0], [1.0, 2.0, 3.0]], r"embedding has dimension 1 to 3, must be one dimension above 0\."),
        ([[]], r"embedding has dimension 0, must be one dimension above 0\."),
        ([[1.0], [float("nan")], [float("inf")], [None]], r"embedding is NaN or infinite in 3 of 4 rows, must be fin"),
    ],
)
def test_rows_that_cannot_be_quantized_are_refused_by_number(spark, rows, message):
    catalog = spark.createDataFrame([(0, row) for row in rows], SCHEMA)

    with pytest.raises(ValueError, match=message):
        ResidualKMeans(codebookSize=1).fit(catalog)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1.0, 2.0, 3.0], r"embedding has dimension 3, must be 2 as in the codebooks\."),
        (None, r"embedding is null in 1 rows of a batch, must be set\."),
        ([1.0, float("inf")], r"embedding is NaN or infinite in 1 rows of a batch, must be finite\."),
    ],
)
def test_rows_that_do_not_fit_the_codebooks_are_refused(spark, row, message):
    model = ResidualKMeansModel.from_codebooks([[[0.0, 0.0], [1.0, 1.0]]])
    catalog = spark.createDataFrame([(0, [1.0, 2.0]), (1, row)], SCHEMA).coalesce(1)

    with pytest.raises(PythonException, match=message):
        model.transform(catalog).collect()


def test_zero_vectors_are_refused_by_number(spark):
    catalog = spark.createDataFrame([(0, [1.0, 0.0]), (1, [0.0, 0.0])], SCHEMA)

    with pytest.raises(ValueError, match=r"embedding is all zeros in 1 of 2 rows, must have a direction\."):
        ResidualKMeans(codebookSize=1).fit(catalog)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -1.0, None], r"clicks is null, negative or not finite in 2 of 3 rows, must be at least 0\."),
        ([0.0, 0.0, 0.0], r"clicks is 0 in all 3 rows, must be above 0 in some\."),
    ],
)
def test_weights_that_cannot_be_summed_are_refused(spark, weights, message):
    catalog = spark.createDataFrame([([1.0], weight) for weight in weights], "embedding array<float>, clicks double")

    with pytest.raises(ValueError, match=message):
        ResidualKMeans(codebookSize=1, weightCol="clicks").fit(catalog)


def test_rows_that_change_when_they_are_read_again_are_refused(spark):
    files = embedding_files.EmbeddingFiles(spark.createDataFrame([([1.0],)], "embedding array<float>").coalesce(1))
    files._partitions = [partition._replace(digest=1) for partition in files._partitions]

    with pytest.raises(RuntimeError, match=r"1 partitions were read again .* their rows have changed\. Write the"):
        files.start()

    files.close()


def test_an_output_column_that_is_there_already_is_refused(spark):
    model = ResidualKMeansModel.from_codebooks([[[0.0]]], outputCol="item_id")

    with pytest.raises(ValueError, match=r"outputCol is item_id, must be a new column\."):
        model.transform(spark.createDataFrame([(0, [1.0])], SCHEMA))


def test_codebooks_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"codebooks has shape \(1, 2\), must be \(L, K, D\)\."):
        ResidualKMeansModel.from_codebooks([[0.0, 1.0]])


def test_codebooks_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"codebooks has 1 NaN or infinite values, must be finite\."):
        ResidualKMeansModel.from_codebooks([[[float("nan")]]])
