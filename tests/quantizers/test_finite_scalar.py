"""``FiniteScalar`` on Spark, alone and as the last level of residual k-means."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.errors import PythonException
from sklearn.decomposition import PCA

from qarm_features.quantizers import (
    FiniteScalar,
    FiniteScalarModel,
    ResidualKMeans,
    ResidualKMeansFiniteScalar,
    ResidualKMeansFiniteScalarModel,
)

SCHEMA = "item_id long, residual array<float>"


@pytest.fixture(scope="module")
def residuals():
    """800 rows (D = 6) of unequal variance."""
    rows = np.random.default_rng(0).normal(size=(800, 6)) * [0.1, 2, 0.5, 0.05, 1, 0.1] + [0, 0, 3, 0, 0, 0]
    return rows.astype(np.float32)


@pytest.fixture(scope="module")
def catalog(spark, residuals):
    return (
        spark.createDataFrame([(i, row.tolist()) for i, row in enumerate(residuals)], SCHEMA).repartition(3).persist()
    )


def codes_of(model, rows):
    found = model.transform(rows).orderBy("item_id").toArrow()
    return np.array(found[model.getOutputCol()].to_pylist())


def test_axes_and_mean_are_those_of_scikit_learn(catalog, residuals):
    expected = PCA(2).fit(residuals.astype(np.float64))

    model = FiniteScalar(levels=[8, 4]).fit(catalog)

    np.testing.assert_allclose(np.abs(model.rounding.projection), np.abs(expected.components_), atol=1e-3)
    np.testing.assert_allclose(model.rounding.mean, expected.mean_, atol=1e-4)
    assert model.rounding.levels == [8, 4]


def test_codes_are_divided_among_dimensions_and_their_error_is_reported(catalog, residuals):
    model = FiniteScalar(codebookSize=64).fit(catalog)

    codes = codes_of(model, catalog)

    error = np.square(residuals - model.decode(codes)).sum() / np.square(residuals - residuals.mean(axis=0)).sum()
    levels = model.training_summary["levels"]
    assert levels == sorted(levels, reverse=True)
    assert 32 < np.prod(levels) <= 64
    assert 0 <= codes.min() < codes.max() < np.prod(levels)
    assert model.training_summary["relative_error"] == pytest.approx(error, rel=0.02)


@pytest.mark.slow
def test_shared_out_codes_have_a_lower_error_than_equal_levels_and_pca_than_random_axes(catalog):
    fits = [{"codebookSize": 64}, {"levels": [4, 4, 4]}, {"levels": [4, 4, 4], "projection": "random"}]

    errors = [FiniteScalar(**params).fit(catalog).training_summary["relative_error"] for params in fits]

    assert errors == sorted(errors)
    assert errors[0] < errors[2] / 2


def test_rows_without_variance_have_one_code(spark):
    rows = spark.createDataFrame([(i, [1.0, 2.0]) for i in range(3)], SCHEMA)

    model = FiniteScalar(codebookSize=16).fit(rows)

    assert len(set(codes_of(model, rows).tolist())) == 1
    assert model.decode(codes_of(model, rows)).tolist() == [[1.0, 2.0]] * 3
    assert model.training_summary["relative_error"] == 0.0


def test_fewer_dimensions_than_codes_could_fill_are_enough(spark):
    rows = spark.createDataFrame([(i, [float(i)]) for i in range(64)], SCHEMA)

    model = FiniteScalar(codebookSize=4096).fit(rows)

    assert model.rounding.levels == [64]
    assert len(set(codes_of(model, rows).tolist())) == 64


def test_a_row_of_weight_three_counts_as_three_rows(spark, residuals):
    weights = np.arange(len(residuals)) % 4  # a row of weight 0 does not count
    pairs = [(i, row.tolist(), float(w)) for i, (row, w) in enumerate(zip(residuals, weights))]
    weighted = spark.createDataFrame(pairs, SCHEMA + ", clicks double")
    repeated = spark.createDataFrame([row[:2] for row in pairs for _ in range(int(row[2]))], SCHEMA)

    found = FiniteScalar(levels=[8, 4], weightCol="clicks").fit(weighted.repartition(3)).rounding
    again = FiniteScalar(levels=[8, 4], weightCol="clicks").fit(weighted.repartition(1)).rounding

    expected = FiniteScalar(levels=[8, 4]).fit(repeated).rounding
    for name, values in found.to_arrays().items():
        np.testing.assert_allclose(values, expected.to_arrays()[name], atol=2e-3)
        assert (values == again.to_arrays()[name]).all()


def test_a_fit_from_a_rounding_keeps_its_axes_and_divides_the_rows_again(spark, catalog, residuals):
    before = FiniteScalar(levels=[4, 2]).fit(catalog)
    drifted = 1.5 * residuals + np.float32(0.3)
    rows = spark.createDataFrame([(i, row.tolist()) for i, row in enumerate(drifted)], SCHEMA)

    after = FiniteScalar(codebookSize=16).fit_from(rows, before.rounding)

    assert (after.rounding.projection == before.rounding.projection).all()
    assert after.rounding.levels == [4, 2]
    assert (codes_of(after, rows) == codes_of(before, catalog)).mean() > 0.98
    assert (codes_of(before, rows) == codes_of(before, catalog)).mean() < 0.8


def test_axes_of_another_dimension_are_refused(spark, catalog):
    rounding = FiniteScalar(levels=[4, 2]).fit(catalog).rounding
    rows = spark.createDataFrame([(0, [1.0, 2.0])], SCHEMA)

    with pytest.raises(ValueError, match=r"residual has dimension 2, must be 6 as in the rounding to start from\."):
        FiniteScalar().fit_from(rows, rounding)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (None, r"clicks is null, negative or not finite in 1 of 1 rows, must be at least 0\."),
        (-1.0, r"clicks is null, negative or not finite in 1 of 1 rows"),
        (0.0, r"clicks is 0 in all 1 rows, must be above 0 in some\."),
    ],
)
def test_weights_that_cannot_be_used_are_refused(spark, weight, message):
    rows = spark.createDataFrame([(0, [1.0], weight)], SCHEMA + ", clicks double")

    with pytest.raises(ValueError, match=message):
        FiniteScalar(weightCol="clicks").fit(rows)


@pytest.mark.slow
def test_the_last_level_quantizes_the_residuals_of_k_means(spark, residuals):
    rows = spark.createDataFrame([(i, row.tolist()) for i, row in enumerate(residuals)], "item_id long, e array<float>")
    estimator = ResidualKMeansFiniteScalar(inputCol="e", numLevels=2, codebookSize=4, lastCodebookSize=64, maxIter=3)
    kmeans = ResidualKMeans(inputCol="e", numLevels=2, codebookSize=4, maxIter=3).fit(rows)

    model = estimator.fit(rows)
    codes = codes_of(model, rows)

    assert model.transform(rows).columns == ["item_id", "e", "rq_codes"]
    assert codes[:, :2].tolist() == codes_of(kmeans, rows).tolist()
    error = np.square(residuals - model.decode_codes(codes)).sum() / np.square(residuals).sum()
    left_over = model.training_summary["levels"][-1]["relative_error"]
    expected = left_over * model.training_summary["last"]["relative_error"]
    assert error == pytest.approx(expected, rel=0.05)
    assert error < left_over / 3


def test_arrays_of_an_artifact_make_the_model_with_a_last_level(spark, residuals):
    rows = spark.createDataFrame([(i, row.tolist()) for i, row in enumerate(residuals)], SCHEMA)
    model = ResidualKMeansFiniteScalar(inputCol="residual", codebookSize=3, lastLevels=[4, 2], maxIter=1).fit(rows)

    again = ResidualKMeansFiniteScalarModel.from_arrays(model.to_arrays(), inputCol="residual")

    assert codes_of(again, rows).tolist() == codes_of(model, rows).tolist()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"levels": [8, 1]}, r"levels is \[8, 1\], must be numbers from 2 with a product of at most 2\*\*31"),
        ({"levels": []}, r"levels is \[\], must be numbers from 2"),
        ({"levels": [65536, 65536]}, r"levels is \[65536, 65536\], must be numbers from 2"),
        ({"levels": [2] * 7}, r"levels has 7 numbers, must have at most one per dimension of residual, 6\."),
        ({"codebookSize": 1}, r"codebookSize is 1, must be 2 to 65536\."),
        ({"projection": "umap"}, r"projection is umap, must be pca or random\."),
        ({"spacing": "even"}, r"spacing is even, must be mass or error\."),
    ],
)
def test_params_out_of_range_are_refused(catalog, params, message):
    with pytest.raises(ValueError, match=message):
        FiniteScalar(**params).fit(catalog)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lastCodebookSize": 1}, r"lastCodebookSize is 1, must be 2 to 65536\."),
        ({"lastLevels": [1]}, r"lastLevels is \[1\], must be numbers from 2"),
    ],
)
def test_params_of_the_last_level_out_of_range_are_refused(catalog, params, message):
    with pytest.raises(ValueError, match=message):
        ResidualKMeansFiniteScalar(inputCol="residual", **params).fit(catalog)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"DataFrame has 0 rows, must have at least 1\."),
        ([None, [1.0]], r"residual is null in 1 of 2 rows, must be set\."),
        ([[1.0], [1.0, 2.0]], r"residual has dimension 1 to 2, must be one dimension above 0\."),
        ([[1.0], [float("inf")]], r"residual is NaN or infinite in 1 of 2 rows, must be finite\."),
    ],
)
def test_rows_that_cannot_be_quantized_are_refused(spark, rows, message):
    with pytest.raises(ValueError, match=message):
        FiniteScalar().fit(spark.createDataFrame([(0, row) for row in rows], SCHEMA).coalesce(1))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1.0], r"residual has dimension 1, must be 6 as in the projection\."),
        (None, r"residual is null in 1 rows of a batch, must be set\."),
        ([float("nan")] * 6, r"residual is NaN or infinite in 1 rows of a batch, must be finite\."),
    ],
)
def test_rows_that_do_not_fit_the_projection_are_refused(spark, catalog, row, message):
    model = FiniteScalar(levels=[2]).fit(catalog)

    with pytest.raises(PythonException, match=message):
        model.transform(spark.createDataFrame([(0, row)], SCHEMA)).collect()


@pytest.mark.parametrize(
    "estimator",
    [
        FiniteScalar(),
        pytest.param(ResidualKMeansFiniteScalar(inputCol="residual", codebookSize=2), marks=pytest.mark.slow),
    ],
)
def test_an_output_column_that_is_there_already_is_refused(catalog, estimator):
    model = estimator.fit(catalog)

    with pytest.raises(ValueError, match=r"outputCol is item_id, must be a new column\."):
        model.setOutputCol("item_id").transform(catalog)


def test_setters_change_what_they_name(catalog):
    estimator = FiniteScalar().setLevels([4]).setCodebookSize(9).setProjection("random").setSpacing("mass").setSeed(3)

    model = estimator.setParams(outputCol="code").fit(catalog)

    assert isinstance(model, FiniteScalarModel)
    assert (estimator.getCodebookSize(), model.getOutputCol()) == (9, "code")
    assert np.bincount(codes_of(model, catalog)).tolist() == pytest.approx([200] * 4, abs=10)
