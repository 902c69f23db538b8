"""Measures of co-clicks and codes are checked on numbers that are small enough to check by hand."""

import numpy as np
import pytest

from qarm_features.evaluation.co_clicks import CodedPairs, coded_pairs, expected_hits, hit_rate, shared_prefixes

CODEBOOKS = np.array([[[1, 0], [0, 1]], [[0, 0], [0.5, 0.5]]], np.float32)


def pairs(*both) -> CodedPairs:
    trigger, target = (np.array(side, np.int32) for side in zip(*both))
    return CodedPairs(np.arange(len(both)), trigger, target)


def test_codes_of_pairs_are_looked_up_and_pairs_without_are_left_out(spark):
    known = spark.createDataFrame([(1, [0, 1]), (2, [1, 1])], "item_id long, rq_codes array<int>")
    clicked = spark.createDataFrame([(0, 1, 2), (1, 2, 9)], "pair long, trigger_item_id long, target_item_id long")

    found = coded_pairs(clicked, known)

    assert (found.pair.tolist(), found.trigger.tolist(), found.target.tolist()) == ([0], [[0, 1]], [[1, 1]])


def test_pairs_share_prefixes_beside_chance():
    found = shared_prefixes(pairs(([0, 1], [0, 1]), ([0, 1], [0, 0]), ([1, 0], [0, 0]), ([1, 0], [1, 1])))

    # triggers begin half with 0 and half with 1, targets 3/4 with 0: chance 1/2 x 3/4 + 1/2 x 1/4
    assert found[0] == {"codes": 1, "share": 0.75, "chance": 0.5}
    # only (0, 1) is both a trigger's ID, 1/2, and a target's, 1/4
    assert found[1] == {"codes": 2, "share": 0.25, "chance": 0.125}


def test_a_target_among_equals_counts_by_the_share_that_fits():
    assert expected_hits(np.array([0, 8, 10, 9]), np.array([1, 4, 1, 1]), k=10).tolist() == [1.0, 0.5, 0.0, 1.0]


def test_the_hit_rate_ranks_all_items_but_the_trigger(spark):
    # by cosine to [0, 0]: itself 1 (2 items, one the trigger), [0, 1] .95 (3 items), [1, 1] .32, [1, 0] 0
    ids = [[0, 0]] * 2 + [[0, 1]] * 3 + [[1, 1]] + [[1, 0]]
    codes = spark.createDataFrame([(i,) for i in ids], "rq_codes array<int>").repartition(3)

    found = [hit_rate(pairs(([0, 0], t)), codes, CODEBOOKS, k=2) for t in ([0, 0], [0, 1], [1, 1])]

    assert found == pytest.approx([1.0, 1 / 3, 0.0])
