"""Collisions, code usage and errors are checked on codes that are small enough to check by hand."""

import numpy as np
import pytest

from qarm_features.evaluation.balance import error_quality, semantic_id_quality, shared_ids


@pytest.fixture(scope="module")
def ids(spark):
    rows = [(1, [0, 1], 6), (2, [0, 1], 0), (3, [0, 0], 1), (4, [1, 0], 1)]
    return spark.createDataFrame(rows, "item_id long, rq_codes array<int>, clicks long")


def test_entropy_is_in_bits_and_gini_counts_codes_without_items(ids):
    level = semantic_id_quality(ids, num_levels=2, codebook_size=4)["levels"][1]

    # two of four codes hold 2 items each: 1 bit; shares 0, 0, 1/2, 1/2
    assert (level["entropy"], level["perplexity"], level["gini"]) == (1.0, 2.0, 0.5)


def test_shares_are_weighted_by_clicks(ids):
    weighted = semantic_id_quality(ids, num_levels=2, codebook_size=2, weight="clicks")

    assert (weighted["collision_rate"], weighted["unique_share"]) == (0.75, 0.25)
    assert weighted["levels"][1]["gini"] == 0.25  # shares 1/4 and 3/4


def test_without_any_click_weighted_figures_are_none(ids):
    weighted = semantic_id_quality(
        ids.selectExpr("rq_codes", "0L AS clicks"), num_levels=2, codebook_size=2, weight="clicks"
    )

    assert (weighted["collision_rate"], weighted["levels"][0]["entropy"]) == (None, None)


def test_errors_are_means_relative_to_energy_and_to_variance(spark):
    codebooks = np.array([[[0, 0], [1, 0]], [[0, 0], [0, 0.5]]], np.float32)
    rows = spark.createDataFrame(
        [([0.0, 1.0], [0, 1], 3), ([1.0, 0.0], [1, 0], 1)], "embedding array<float>, rq_codes array<int>, clicks long"
    )

    found = error_quality(rows, codebooks, weight="clicks")

    # squared errors of the items: 1 then .25, and 0; mean square 1; variance 1/2
    assert found["levels"] == [
        {"level": 0, "error": 0.5, "relative_error": 0.5, "explained_variance": 0.0},
        {"level": 1, "error": 0.125, "relative_error": 0.125, "explained_variance": 0.75},
    ]
    assert [level["error"] for level in found["levels_weighted"]] == [0.75, 0.1875]


def test_two_versions_share_codes_of_common_items(ids, spark):
    newer = spark.createDataFrame([(1, [0, 1]), (3, [0, 1]), (9, [0, 0])], "item_id long, rq_codes array<int>")

    assert shared_ids(ids, newer, num_levels=2) == {"items": 2, "levels": [1.0, 0.5], "semantic_ids": 0.5}
