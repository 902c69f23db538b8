"""The contract of all quantizers: one result for any partitions and row order, models that can be saved, clear errors."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.errors import PythonException
from pyspark.ml import Estimator
from pyspark.sql import functions as F

from qarm_features import quantizers

pytestmark = pytest.mark.slow
SCHEMA = "item_id long, embedding array<float>"
SMALL = {
    "FiniteScalar": {"codebookSize": 32, "inputCol": "embedding", "outputCol": "codes"},
    "NearestItems": {"k": 4, "shardRows": 64, "exactUpTo": 0, "numProbes": 1, "outputCol": "codes"},
    "ResidualKMeans": {"codebookSize": 5, "maxIter": 2, "outputCol": "codes"},
    "ResidualKMeansFiniteScalar": {"codebookSize": 5, "maxIter": 2, "lastCodebookSize": 16, "outputCol": "codes"},
}


def small(name):
    return getattr(quantizers, name)(**SMALL[name])


@pytest.fixture(scope="module")
def catalog(spark):
    """300 rows (D = 5) in 8 clusters, some of them equal."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(8, 5))[generator.integers(0, 8, 300)] + 0.3 * generator.normal(size=(300, 5))
    rows[250:] = rows[:50]
    rows = [(item_id, row.tolist()) for item_id, row in enumerate(rows.astype(np.float32))]
    return spark.createDataFrame(rows, SCHEMA).repartition(2).persist()


def codes_of(model, rows):
    return model.transform(rows).orderBy("item_id").toArrow().drop(["embedding"]).to_pydict()


@pytest.fixture(scope="module")
def fitted(catalog):
    """Each quantizer's model and codes, fitted once on two partitions."""
    models = {name: small(name).fit(catalog) for name in SMALL}
    return {name: (model, codes_of(model, catalog)) for name, model in models.items()}


def test_every_quantizer_is_here():
    estimators = {name for name in quantizers.__all__ if issubclass(getattr(quantizers, name), Estimator)}

    assert estimators == set(SMALL)
    assert {name + "Model" for name in estimators} == set(quantizers.__all__) - estimators


@pytest.mark.parametrize("partitions", [1, 7])
@pytest.mark.parametrize("name", SMALL)
def test_partitions_and_row_order_change_nothing(name, partitions, catalog, fitted):
    shuffled = catalog.orderBy(F.xxhash64("item_id")).repartition(partitions)

    model = small(name).fit(shuffled)

    assert codes_of(model, shuffled) == codes_of(fitted[name][0], shuffled) == fitted[name][1]


@pytest.mark.parametrize("name", SMALL)
def test_a_row_alone_has_the_codes_it_has_among_others(name, catalog, fitted):
    model, codes = fitted[name]

    alone = codes_of(model, catalog.where(F.col("item_id") == 7))

    assert alone["codes"] == [codes["codes"][7]]


@pytest.mark.parametrize("name", SMALL)
def test_a_saved_model_and_its_estimator_come_back(name, tmp_path, catalog, fitted):
    model, codes = fitted[name]
    model.save(f"{tmp_path}/model")
    small(name).save(f"{tmp_path}/estimator")

    loaded = type(model).load(f"{tmp_path}/model")
    estimator = type(small(name)).load(f"{tmp_path}/estimator")

    assert (loaded.uid, loaded.training_summary) == (model.uid, model.training_summary)
    assert codes_of(loaded, catalog) == codes
    assert {param.name: value for param, value in estimator._paramMap.items()} == {
        param.name: value for param, value in small(name)._paramMap.items()
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (None, r"is null in 1 of 2 rows, must be set\."),
        ([1.0], r"has dimension 1 to 5, must be one dimension above 0\."),
        ([float("nan")] * 5, r"is NaN or infinite in 1 of 2 rows, must be finite\."),
    ],
)
@pytest.mark.parametrize("name", SMALL)
def test_rows_that_cannot_be_fitted_are_refused(name, row, message, spark):
    rows = spark.createDataFrame([(0, [1.0] * 5), (1, row)], SCHEMA).coalesce(1)

    with pytest.raises(ValueError, match=message):
        small(name).fit(rows)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (None, r"is null in 1 rows of a batch, must be set\."),
        ([1.0], r"has dimension 1, must be 5 as in"),
        ([float("nan")] * 5, r"is NaN or infinite in 1 rows of a batch, must be finite\."),
    ],
)
@pytest.mark.parametrize("name", SMALL)
def test_rows_that_cannot_be_transformed_are_refused(name, row, message, spark, fitted):
    with pytest.raises(PythonException, match=message):
        fitted[name][0].transform(spark.createDataFrame([(0, row)], SCHEMA)).collect()


@pytest.mark.parametrize("name", SMALL)
def test_columns_may_have_any_name(name, catalog, fitted):
    names = {"inputCol": "ve`c.tor x", "outputCol": "co`de.s", "itemCol": "it`em.id"}
    rows = catalog.withColumnsRenamed({"embedding": names["inputCol"], "item_id": names["itemCol"]})
    model = fitted[name][0].copy()
    for param, column in names.items():
        if model.hasParam(param):
            model.set(model.getParam(param), column)

    found = model.transform(rows.where("`it``em.id` = 7")).toArrow().to_pylist()[0]

    assert found["co`de.s"] == fitted[name][1]["codes"][7]


@pytest.mark.parametrize("name", SMALL)
def test_no_column_that_differs_in_capitals_only_is_overwritten(name, catalog, fitted):
    with pytest.raises(ValueError, match="outputCol is codes, must be a new column"):
        fitted[name][0].transform(catalog.withColumnRenamed("item_id", "CODES").withColumn("item_id", F.col("CODES")))
