"""Measures of co-clicks and codes are checked on numbers that are small enough to check by hand."""

import numpy as np
import pytest

from qarm_features.evaluation.co_clicks import (
    CodedPairs,
    code_hits,
    coded_pairs,
    expected_hits,
    shared_lengths,
    shuffled_shares,
)

CODEBOOKS = np.array([[[1, 0], [0, 1]], [[0, 0], [0.5, 0.5]]], np.float32)


def pairs(*both) -> CodedPairs:
    trigger, target = (np.array(side, np.int32) for side in zip(*both))
    return CodedPairs(np.arange(len(both)), trigger, target, np.arange(len(both)), -1 - np.arange(len(both)))


def test_codes_of_pairs_are_looked_up_and_pairs_without_are_left_out(spark):
    known = spark.createDataFrame([(1, [0, 1]), (2, [1, 1])], "item_id long, rq_codes array<int>")
    clicked = spark.createDataFrame([(0, 1, 2), (1, 2, 9)], "pair long, trigger_item_id long, target_item_id long")

    found = coded_pairs(clicked, known)

    assert (found.pair.tolist(), found.trigger.tolist(), found.target.tolist()) == ([0], [[0, 1]], [[1, 1]])


def test_equal_items_of_pairs_have_equal_numbers_on_either_side(spark):
    known = spark.createDataFrame([(i, [i]) for i in (5, 7, 8)], "item_id long, rq_codes array<int>")
    clicked = spark.createDataFrame([(0, 7, 5), (1, 5, 8)], "pair long, trigger_item_id long, target_item_id long")

    found = coded_pairs(clicked, known)

    assert found.trigger_item[1] == found.target_item[0]
    assert len({*found.trigger_item.tolist(), *found.target_item.tolist()}) == 3


def test_exchanged_targets_share_prefixes_as_often_as_all_combinations_of_both_sides():
    found = pairs(([0, 1], [0, 1]), ([0, 1], [0, 0]), ([1, 0], [0, 0]), ([1, 0], [1, 1]))

    # Triggers begin half with 0 and half with 1, targets 3/4 with 0: 1/2 x 3/4 + 1/2 x 1/4.
    # Only (0, 1) is both a trigger's ID, 1/2, and a target's, 1/4.
    assert shuffled_shares(found) == [0.5, 0.125]
    assert shared_lengths(found).tolist() == [2, 1, 0, 1]


def test_an_exchanged_target_never_meets_itself():
    codes, items = np.array([[0], [0], [1]], np.int32), np.array([1, 2, 3])
    found = CodedPairs(np.arange(3), codes, codes[[1, 2, 0]], items, items[[1, 2, 0]])

    # 9 combinations, 3 of them of an item with itself; of the other 6 only (1, 2) and (2, 1) have one code.
    assert shuffled_shares(found) == [2 / 6]
    one = CodedPairs(np.arange(1), codes[:1], codes[:1], items[:1], items[:1])
    assert shuffled_shares(one) == [None]


def test_a_target_among_equals_counts_by_the_share_that_fits():
    assert expected_hits(np.array([0, 8, 10, 9]), np.array([1, 4, 1, 1]), k=10).tolist() == [1.0, 0.5, 0.0, 1.0]


def test_the_hit_rate_ranks_all_items_but_the_trigger(spark):
    # by cosine to [0, 0]: itself 1 (2 items, one the trigger), [0, 1] .95 (3 items), [1, 1] .32, [1, 0] 0
    ids = [[0, 0]] * 2 + [[0, 1]] * 3 + [[1, 1]] + [[1, 0]]
    codes = spark.createDataFrame([(i,) for i in ids], "rq_codes array<int>").repartition(3)

    found = [code_hits(pairs(([0, 0], t)), codes, CODEBOOKS, k=2).item() for t in ([0, 0], [0, 1], [1, 1])]

    assert found == pytest.approx([1.0, 1 / 3, 0.0])
