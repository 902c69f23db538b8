from __future__ import annotations

import pytest
from pyspark import RDD

from qarm_features.quantizers.passes.sum_trees import floors_for, results_left


@pytest.mark.parametrize(("results", "floors"), [(5, 1), (12, 2), (12, 3)])
def test_the_driver_fetches_as_many_results_as_a_tree_of_pyspark_leaves(spark, monkeypatch, results, floors):
    fetched, collect = [], RDD.collect
    monkeypatch.setattr(RDD, "collect", lambda rdd: fetched.extend(collect(rdd)) or list(fetched))

    total = spark.sparkContext.parallelize(range(results), results).treeReduce(lambda one, other: one + other, floors)

    assert total == sum(range(results))
    assert len(fetched) == results_left(results, floors)


@pytest.mark.parametrize("results", [1, 4, 5, 7, 50, 1_000, 100_000])
def test_enough_floors_leave_at_most_four_results_however_large_they_are(results):
    assert results_left(results, floors_for(results, 1 << 40, 1)) <= 4


def test_results_that_fit_are_not_added_on_executors():
    assert floors_for(100, 1 << 20, 100 << 20) == 1


def test_a_codebook_of_a_billion_items_stays_below_what_the_driver_may_fetch():
    one = 8 * 8_192 * 257

    assert results_left(8_192, 2) * one > 1 << 30
    assert results_left(8_192, floors_for(8_192, one, 256 << 20)) * one <= 256 << 20
