"""The capacity of codes: prices on their own, and in fits of ``ResidualKMeans``."""

from __future__ import annotations

import numpy as np
import pytest

from qarm_features.quantizers import ResidualKMeans
from qarm_features.quantizers.arrays.capacity import Prices, with_price_column
from qarm_features.quantizers.arrays.grid import Grid
from qarm_features.quantizers.arrays.lloyd import nearest_codes
from qarm_features.quantizers.arrays.splits import without_poorest

SCHEMA = "item_id long, embedding array<float>"
ROWS, SIZE = 1000, 16


@pytest.fixture(scope="module")
def catalog(spark):
    """1,000 rows (D = 16) in 12 clusters, of which the largest has a third of the rows."""
    generator = np.random.default_rng(0)
    shares = 1.0 / np.arange(1, 13)
    clusters = generator.choice(12, ROWS, p=shares / shares.sum())
    rows = generator.normal(size=(12, 16))[clusters] + generator.normal(size=(ROWS, 16))
    frame = spark.createDataFrame(list(enumerate(rows.tolist())), SCHEMA).repartition(2).persist()
    frame.count()
    return frame


def fit(catalog, **params):
    return ResidualKMeans(**({"numLevels": 1, "codebookSize": SIZE, "maxIter": 10, "tol": 0.0} | params)).fit(catalog)


@pytest.fixture(scope="module")
def free(catalog):
    return fit(catalog)


@pytest.fixture(scope="module")
def balanced(catalog):
    return fit(catalog, capacity=1.2)


def largest_load(model, catalog, weight="1"):
    """Return the number of rows of the fullest code of the first level, relative to the mean."""
    codes = model.transform(catalog).selectExpr("rq_codes[0] AS code", f"{weight} AS weight").toPandas()
    loads = codes.groupby("code")["weight"].sum()
    return loads.max() * SIZE / loads.sum()


def error(model):
    return model.training_summary[-1]["relative_error"]


def test_a_code_over_capacity_grows_dearer_and_one_below_cheaper_down_to_nothing():
    prices = Prices(4, 2.0, Grid(0, 2))
    centroids = np.zeros((4, 1), np.float32)

    for counts in ([8, 0, 0, 0], [2, 2, 2, 2]):
        prices.update(np.array(counts), np.ones(4), 16 * 20.0)  # the error is 20, in squared steps of 1/4
        roots = prices.append_to(centroids)[:, 1]

    assert roots.tolist() == [0.75, 0, 0, 0]  # 0.05 * 20 * 1 at twice the capacity, then 0.05 * 20 * -1/2; root of 1/2


def test_a_code_that_splits_another_takes_on_its_price():
    prices = Prices(4, 2.0, Grid(0, 2))

    prices.update(np.array([8, 0, 0, 0]), np.array([8, 0, 1, 1]), 16 * 20.0)

    assert prices.append_to(np.zeros((4, 1), np.float32))[:, 1].tolist() == [1, 1, 0, 0]


def test_a_code_of_nearly_all_rows_is_cut_into_many_at_once():
    counts = np.array([90, 1, 2, 3, 4])

    assert without_poorest(counts, 1.5).tolist() == [90, 0, 2, 3, 4]
    assert without_poorest(counts, 1.5, by_pieces=True).tolist() == [90, 0, 0, 3, 4]  # 90 is three pieces of at most 30


def test_a_row_goes_to_the_nearest_centroid_after_prices():
    rows, centroids = np.array([[0.5], [2.0]], np.float32), np.array([[0.0, 1.5], [2.0, 0.0]], np.float32)

    codes = nearest_codes(with_price_column(rows, centroids), centroids)

    assert codes.tolist() == [1, 1]  # 0.25 + 2.25 against 2.25, 4 + 2.25 against 0


def test_codes_are_even_and_the_error_hardly_rises(catalog, free, balanced):
    loads = [largest_load(model, catalog) for model in (free, balanced)]

    assert loads[0] > 1.75
    assert loads[1] < 1.5
    assert error(balanced) < 1.02 * error(free)


def test_the_error_that_is_reported_is_that_of_the_nearest_centroids(catalog, balanced):
    rows = np.array(catalog.select("embedding").toPandas()["embedding"].tolist())
    differences = rows[:, None] - balanced.codebooks[0]

    nearest = np.square(differences).sum(axis=2).min(axis=1).sum()

    assert balanced.training_summary[0]["sse"] == pytest.approx(nearest, rel=1e-5)


def test_prices_do_not_depend_on_partitions(catalog, balanced):
    other = fit(catalog.repartition(5, "item_id"), capacity=1.2)

    assert other.codebooks.tobytes() == balanced.codebooks.tobytes()


def test_a_capacity_that_no_code_reaches_changes_no_bit(catalog, free):
    assert fit(catalog, capacity=16.0).codebooks.tobytes() == free.codebooks.tobytes()


def test_capacity_counts_weights_where_rows_have_them(catalog, balanced):
    heavy = catalog.selectExpr("item_id", "embedding", "IF(embedding[0] > 1, 9D, 1D) AS clicks")
    params = {"weightCol": "clicks", "capacity": 1.2}

    models = [fit(frame, **params) for frame in (heavy, heavy.repartition(3, "item_id"))]

    assert largest_load(balanced, heavy, "clicks") > 2.2
    assert largest_load(models[0], heavy, "clicks") < 1.6
    assert models[0].codebooks.tobytes() == models[1].codebooks.tobytes()


def test_each_level_of_its_own_size_keeps_its_capacity_beside_spherical_centroids(catalog):
    unit = catalog.selectExpr(
        "transform(embedding, x -> float(x / sqrt(aggregate(embedding, 0D, (s, y) -> s + y * y)))) AS embedding"
    )

    model = fit(unit, numLevels=2, codebookSizes=[16, 8], spherical=True, capacity=1.3, maxIter=8)

    codes = np.array(model.transform(unit).select("rq_codes").toPandas()["rq_codes"].tolist())
    loads = [np.bincount(codes[:, level]).max() * size / ROWS for level, size in enumerate((16, 8))]
    assert max(loads) < 1.6
    np.testing.assert_allclose(np.linalg.norm(model.codebooks[0], axis=1), 1.0, atol=1e-5)
