"""The collision index of items in a bucket, and moves out of full buckets."""

import numpy as np
import pytest

from qarm_features.semantic_ids.collisions import (
    last_level_errors,
    place_overflow,
    resolve_overflow,
    with_collision_index,
)

# The first level has one centroid at the origin. Those of the last level lie on a line at 0, 1 and 2.
CODEBOOKS = np.array([[[0, 0], [9, 9], [9, 9]], [[0, 0], [1, 0], [2, 0]]], dtype=np.float32)


def new_items(spark, places: dict[int, float], kept=()):
    rows = [(i, [x, 0.0], [0, int(np.clip(round(x), 0, 2))], i in kept) for i, x in places.items()]
    return spark.createDataFrame(rows, "item_id long, embedding array<float>, rq_codes array<int>, kept boolean")


def assigned(spark, *codes):
    rows = [(list(c), None) for c in codes]
    return spark.createDataFrame(rows, "rq_codes array<int>, collision_index int")


def last_codes(rows) -> dict[int, int]:
    return {row["item_id"]: row["rq_codes"][-1] for row in rows.collect()}


def test_items_of_a_bucket_are_numbered_by_item_id(spark):
    new = spark.createDataFrame([(3, [0, 1]), (1, [0, 1]), (2, [5, 5])], "item_id long, rq_codes array<int>")

    rows = with_collision_index(new, assigned(spark)).collect()

    assert {row["item_id"]: row["collision_index"] for row in rows} == {1: 0, 3: 1, 2: 0}


def test_new_items_are_numbered_after_those_of_the_bucket_that_stand(spark):
    new = spark.createDataFrame([(1, [0, 1]), (2, [0, 1])], "item_id long, rq_codes array<int>")
    standing = spark.createDataFrame([([0, 1], 4), ([0, 1], 0)], "rq_codes array<int>, collision_index int")

    rows = with_collision_index(new, standing).collect()

    assert {row["item_id"]: row["collision_index"] for row in rows} == {1: 5, 2: 6}


def test_rows_from_before_there_was_an_index_count_as_its_first_places(spark):
    new = spark.createDataFrame([(9, [0, 1])], "item_id long, rq_codes array<int>")

    (row,) = with_collision_index(new, assigned(spark, [0, 1], [0, 1])).collect()

    assert row["collision_index"] == 2


def test_items_that_kept_their_id_keep_their_order(spark):
    new = spark.createDataFrame(
        [(1, [0, 1], None), (7, [0, 1], 0), (5, [0, 1], 3)], "item_id long, rq_codes array<int>, old_index int"
    )

    rows = with_collision_index(new, assigned(spark), keep_order="old_index").collect()

    assert {row["item_id"]: row["collision_index"] for row in rows} == {7: 0, 5: 1, 1: 2}


def test_the_error_under_every_last_code_is_that_of_the_residual():
    errors = last_level_errors(np.array([[0.5, 0]], np.float32), np.array([[0, 1]], np.int32), CODEBOOKS)

    assert errors.tolist() == [[0.25, 0.25, 2.25]]


def test_rows_go_to_the_nearest_code_with_room_within_the_budget():
    errors = np.array([[0.0, 0.1, 0.4]] * 4)
    room = np.array([0, 1, 1])

    codes = place_overflow(errors, np.zeros(4, np.int32), room, most_extra=0.5)

    assert codes.tolist() == [1, 2, 0, 0]
    assert room.tolist() == [0, 0, 0]


@pytest.mark.parametrize("partitions", [1, 3])
def test_the_overflow_for_which_moving_is_cheapest_moves(spark, partitions):
    new = new_items(spark, {1: 0.0, 2: 0.4, 3: 0.3, 4: 2.0})

    rows = resolve_overflow(new.repartition(partitions), assigned(spark), CODEBOOKS, bucket_cap=1, most_extra=0.5)

    # Item 2 (extra error .36 - .16 = .2) moves first and takes code 1. Item 3 has no code with room and stays.
    assert last_codes(rows) == {1: 0, 2: 1, 3: 0, 4: 2}
    assert {row["item_id"] for row in rows.where("moved").collect()} == {2}


def test_an_item_stays_where_moving_costs_more_than_the_budget(spark):
    new = new_items(spark, {1: 0.0, 2: 0.1})

    rows = resolve_overflow(new, assigned(spark), CODEBOOKS, bucket_cap=1, most_extra=0.5)

    assert last_codes(rows) == {1: 0, 2: 0}


def test_published_items_take_room_and_items_that_kept_their_id_stay_before_others(spark):
    new = new_items(spark, {1: 0.2, 2: 0.2, 3: 1.0}, kept=(2,))
    standing = assigned(spark, [0, 0], [0, 2])

    rows = resolve_overflow(new, standing, CODEBOOKS, bucket_cap=2, most_extra=1.0)

    assert last_codes(rows) == {1: 1, 2: 0, 3: 1}


def test_many_batches_of_one_prefix_share_its_room(spark):
    new = new_items(spark, {i: 0.4 for i in range(3000)})

    rows = resolve_overflow(new, assigned(spark), CODEBOOKS, bucket_cap=900, most_extra=10.0)

    codes = list(last_codes(rows).values())
    assert [codes.count(code) for code in range(3)] == [1200, 900, 900]
