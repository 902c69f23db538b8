"""A refit keeps most semantic IDs. It is compared with scipy's assignment on whole matrices and numpy's least squares."""

import numpy as np
import pytest
from pyspark.sql import functions as F
from scipy.optimize import linear_sum_assignment

from qarm_features.codebooks.errors import residual_errors, sum_errors
from qarm_features.codebooks.joint_updates import update_level, update_scalars, with_whole_weights
from qarm_features.codebooks.level_figures import fitted_levels
from qarm_features.codebooks.refit import keep_codes, refit_codebooks
from qarm_features.codebooks.relabeling import code_transitions, match_codes, relabeling
from qarm_features.quantizers import ResidualKMeans, ResidualKMeansFiniteScalar
from qarm_features.quantizers.arrays.codebooks import pad_levels
from qarm_features.quantizers.arrays.lloyd import assign_codes
from qarm_features.quantizers.arrays.scalar_rounding import ScalarRounding

CODEBOOKS = np.array([[[0, 0], [1, 0]], [[0, 0], [0, 0.5]]], dtype=np.float32)


def clustered(rows: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    centers = np.random.default_rng(0).normal(size=(12, 8))
    found = centers[random.integers(12, size=rows)] + 0.3 * random.normal(size=(rows, 8))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def items(spark, embeddings):
    return spark.createDataFrame(
        [(i, row.tolist()) for i, row in enumerate(embeddings)], "item_id long, embedding array<float>"
    )


def coded(spark, *pairs):
    return spark.createDataFrame(list(pairs), "old_codes array<int>, rq_codes array<int>")


def test_each_new_centroid_takes_the_label_that_most_of_its_items_had():
    labels = match_codes(np.array([0, 0, 1, 2]), np.array([2, 0, 0, 1]), np.array([9.0, 1, 5, 3]), codebook_size=4)

    assert labels.tolist() == [2, 0, 1, 3]


def test_a_label_that_two_centroids_want_goes_where_the_total_is_largest():
    # both centroids prefer label 0; the totals are 5 + 1 and 4 + 4
    labels = match_codes(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([5.0, 4, 4, 1]), codebook_size=2)

    assert labels.tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(20))
def test_the_total_is_that_of_an_assignment_of_the_whole_matrix(seed):
    random = np.random.default_rng(seed)
    counts = random.poisson(random.choice([0.3, 3.0]), (30, 30)) + 40 * np.eye(30, dtype=int)[
        random.permutation(30)
    ] * (random.random((30, 1)) < 0.7)
    new, old = counts.nonzero()

    labels = match_codes(new, old, counts[new, old].astype(float), codebook_size=30)

    assert sorted(labels.tolist()) == list(range(30))
    rows, columns = linear_sum_assignment(counts, maximize=True)
    assert counts[np.arange(30), labels].sum() == counts[rows, columns].sum()


def test_a_level_counts_first_the_items_that_kept_the_level_before(spark):
    # Two items make new centroid 0 of level 0 the old code 1. Both of them count for the swap at level 1.
    rows = coded(spark, ([1, 0], [0, 1]), ([1, 0], [0, 1]), ([0, 0], [0, 0]), ([0, 1], [1, 1]))

    labels = relabeling(rows, level_sizes=[2, 2])

    assert [of_level.tolist() for of_level in labels] == [[1, 0], [1, 0]]


def test_a_transition_says_where_the_items_of_a_code_went_and_how_many_stayed(spark):
    rows = coded(spark, ([0, 2], [0, 2]), ([0, 2], [0, 1]), ([1, 2], [0, 1]), ([1, 0], [1, 0]))

    new_code, kept = code_transitions(rows, num_levels=2, codebook_size=3)

    assert new_code.tolist() == [[0, 0, -1], [0, -1, 1]]
    assert kept == {"items": 4, "levels": [0.75, 0.5], "semantic_ids": 0.5}


def test_a_row_keeps_its_old_codes_where_the_extra_error_is_within_the_limit():
    rows = np.array([[0.55, 0], [0.7, 0]], np.float32)  # code 0 adds errors of .1 and .4
    old = np.zeros((2, 2), np.int32)

    codes = keep_codes(rows, assign_codes(rows, CODEBOOKS), old, CODEBOOKS, limit=0.2)

    assert codes.tolist() == [[0, 0], [1, 0]]


def test_errors_are_summed_exactly_plain_and_weighted(spark):
    rows = spark.createDataFrame(
        [([0.0, 0.5], [0, 1], 3), ([1.0, 0.5], [1, 0], 0), ([0.5, 0.0], [0, 0], 1)],
        "embedding array<float>, rq_codes array<int>, clicks long",
    )

    plain, weighted = sum_errors(rows.repartition(3), CODEBOOKS, weight="clicks")

    assert (plain.weight, plain.errors.tolist(), plain.energy) == (3, [0.75, 0.5], 1.75)
    assert plain.variance == pytest.approx(1.75 - 3 * (0.5**2 + (1 / 3) ** 2))
    assert (weighted.weight, weighted.errors.tolist(), weighted.energy) == (4, [1.0, 0.25], 1.0)


def test_a_level_becomes_the_mean_of_what_the_other_levels_leave_over(spark):
    embeddings = clustered(200, seed=1)
    codebooks = np.stack([embeddings[:5], embeddings[5:10] / 4])
    codes = assign_codes(embeddings, codebooks)
    rows = spark.createDataFrame(
        list(zip(embeddings.tolist(), codes.tolist())), "embedding array<float>, rq_codes array<int>"
    )

    once = update_level(rows.repartition(1), codebooks, 0)
    again = update_level(rows.repartition(7), codebooks, 0)

    left_over = embeddings - codebooks[1][codes[:, 1]]
    one_hot = np.eye(5)[codes[:, 0]]
    expected = np.linalg.lstsq(one_hot, left_over, rcond=None)[0]
    np.testing.assert_allclose(once[0][one_hot.any(axis=0)], expected[one_hot.any(axis=0)], atol=1e-6)
    assert (once == again).all()
    assert (once[1] == codebooks[1]).all()


@pytest.fixture(scope="module")
def refitted(spark):
    """Refits for 2,000 items of which 100 changed, with 200 new ones."""
    before, changed, came = clustered(2000, 1), clustered(100, 2), clustered(200, 3)
    after = np.concatenate([before[:1900], changed, came])
    estimator = ResidualKMeans(numLevels=2, codebookSize=8, maxIter=20, seed=0)
    old = estimator.fit(items(spark, before))
    old_ids = old.transform(items(spark, before)).select("item_id", "rq_codes")
    made = [
        refit_codebooks(
            items(spark, after).repartition(parts), old_ids, estimator, old=start, old_sizes=[8, 8], keep_within=0.1
        )
        for parts, start in ((1, old), (5, old), (2, None))
    ]
    fresh = ResidualKMeans(numLevels=2, codebookSize=8, maxIter=20, seed=7).fit(items(spark, after))
    return made, fresh.training_summary[-1]["sse"]


@pytest.mark.slow
def test_a_refit_keeps_most_ids_at_the_error_of_a_fresh_fit(refitted):
    (refit, _, _), fresh_sse = refitted

    assert refit.kept["items"] == 2000
    assert refit.kept["semantic_ids"] > 0.9 * 0.95  # the changed items move
    assert refit.levels[-1]["sse"] < 1.01 * fresh_sse


@pytest.mark.slow
def test_a_refit_is_the_same_whatever_the_partitions(refitted):
    (once, again, _), _ = refitted

    assert (once.model.codebooks == again.model.codebooks).all()
    assert once.kept == again.kept
    assert (once.new_code == again.new_code).all()


@pytest.mark.slow
@pytest.mark.parametrize(("weight", "last_levels"), [(None, [4, 2, 2, 2]), ("clicks", [4, 2, 2, 2]), (None, [3, 2])])
def test_a_refit_with_an_fsq_level_keeps_most_ids_at_the_error_of_a_fresh_fit(spark, weight, last_levels):
    before, changed, came = clustered(2000, 1), clustered(100, 2), clustered(200, 3)
    after = items(spark, np.concatenate([before[:1900], changed, came])).withColumn("clicks", F.col("item_id") % 5 + 1)
    sizes = {"numLevels": 1, "codebookSize": 8, "lastLevels": last_levels, "maxIter": 20}
    estimator = ResidualKMeansFiniteScalar(**sizes, weightCol=weight)
    old = estimator.fit(items(spark, before).withColumn("clicks", F.lit(1)))
    old_ids = old.transform(items(spark, before)).select("item_id", "rq_codes")

    refit, again = (
        refit_codebooks(
            after.repartition(parts), old_ids, estimator, old=old, old_sizes=old.level_sizes, keep_within=0.1
        )
        for parts in (1, 5)
    )

    fresh = fitted_levels(estimator.copy({estimator.seed: 7}).fit(after), after)
    assert refit.kept["items"] == 2000
    assert refit.kept["semantic_ids"] > 0.9 * 0.95  # the changed items move
    assert refit.levels[-1]["sse"] < 1.01 * fresh[-1]["sse"]
    assert refit.model.rounding.levels == last_levels
    assert np.array_equal(refit.model.codebooks, again.model.codebooks, equal_nan=True)
    assert refit.kept == again.kept


@pytest.mark.slow
def test_an_fsq_level_of_another_space_may_have_lost_codes(spark):
    """The old level has 64 codes, the new one has 4, so no old code of 4 or more is kept."""
    rows = clustered(200, 1)
    estimator = ResidualKMeansFiniteScalar(numLevels=1, codebookSize=4, lastLevels=[8, 8], maxIter=5)
    old = estimator.fit(items(spark, rows))
    old_ids = old.transform(items(spark, rows)).select("item_id", "rq_codes")
    fewer = estimator.copy({estimator.lastLevels: [2, 2]})

    refit = refit_codebooks(
        items(spark, rows[:, ::-1]), old_ids, fewer, old=None, old_sizes=old.level_sizes, keep_within=100.0
    )

    expected = np.mean([row["rq_codes"][1] < 4 for row in old_ids.collect()])
    assert refit.model.level_sizes == [4, 4]
    assert refit.kept["levels"][1] == pytest.approx(expected, abs=0.1)
    assert refit.new_code.shape == (2, 64)
    assert refit.new_code.max() < 4


def test_weighted_rows_pull_their_centroid_and_their_scalars(spark):
    """
    rest     code  clicks         means of rest by clicks
    [-2, -3] 0     1.0        ->  level as k-means, code 0: [-2, -3]; code 1: [-4, 5]; code 3: [7, 1]; code 2 stays
    [-4, 5]  1     1.5            codes are digits of x and y: 0 is (0, 0), 1 is (0, 1), 3 is (1, 1)
    [-4, 5]  1     1.5            scalars of x: (1 * -2 + 3 * -4) / 4 and 7; of y: -3 and (3 * 5 + 2 * 1) / 5
    [7, 1]   3     2.0
    """
    edges, scalars = [np.zeros(1)] * 2, [np.array([-1.0, 1.0])] * 2
    rounding = ScalarRounding(np.zeros(2, np.float32), np.eye(2, dtype=np.float32), edges, scalars)
    codebooks = pad_levels([np.zeros((1, 2)), rounding.decode(np.arange(4))])
    rows = [
        ([-2.0, -3.0], [0, 0], 1.0),
        ([-4.0, 5.0], [0, 1], 1.5),
        ([-4.0, 5.0], [0, 1], 1.5),
        ([7.0, 1.0], [0, 3], 2.0),
    ]
    schema = "embedding array<float>, rq_codes array<int>, clicks double"
    coded = with_whole_weights(spark.createDataFrame(rows, schema).repartition(3), "clicks").persist()

    renewed = update_level(coded, codebooks, 1)
    first = update_level(coded, codebooks, 0)
    refitted = update_scalars(coded, codebooks, rounding)

    assert renewed[1].tolist() == [[-2, -3], [-4, 5], [1, -1], [7, 1]]
    assert first[0, 0].tolist() == pytest.approx([(1 * -1 + 3 * -3 + 2 * 6) / 6, (1 * -2 + 3 * 4 + 2 * 0) / 6])
    assert np.isnan(first[0, 1:]).all()
    assert [values.tolist() for values in refitted.scalars] == [[-3.5, 7.0], [-3.0, (3 * 5 + 2 * 1) / 5]]
    assert (refitted.boundaries, refitted.levels) == (edges, [2, 2])


@pytest.mark.slow
def test_a_fit_from_nothing_is_relabeled_so_that_more_than_chance_stays(refitted):
    (_, _, relabeled), _ = refitted

    assert relabeled.kept["levels"][0] > 0.5  # by chance it would be 1 / 8


def test_errors_fall_level_by_level_and_are_those_of_the_codes():
    rows = np.array([[1.0, 0.5]], np.float32)

    assert residual_errors(rows, np.array([[1, 1]]), CODEBOOKS).tolist() == [[0.25, 0.0]]
