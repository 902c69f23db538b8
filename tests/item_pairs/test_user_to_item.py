"""User-to-item pairs: the trigger is the most similar item strictly before the target, by the vectors of one model."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from qarm_features.item_pairs import mine_item_pairs, positives
from qarm_features.item_pairs.item_vectors import als_item_vectors, read_item_vectors
from qarm_features.item_pairs.positives import dense_index, latest_positives
from qarm_features.item_pairs.sorted_groups import group_offsets, whole_groups
from qarm_features.item_pairs.user_to_item import most_similar_past
from qarm_features.settings.sections import ItemPairs

# Items 1 and 2 point east, 3 and 4 north; 2 and 4 lean a little to the other side. Lengths do not matter.
VECTORS = {1: [2.0, 0.0], 2: [1.0, 0.1], 3: [0.0, 5.0], 4: [0.1, 1.0]}


def at(hour):
    return datetime(2024, 1, 1, hour, tzinfo=UTC)


def log(spark, *rows, id_type="int"):
    return spark.createDataFrame(rows, f"user_id int, item_id {id_type}, event_timestamp timestamp")


def vectors(spark, of=VECTORS, id_type="int"):
    return spark.createDataFrame(list(of.items()), f"item_id {id_type}, vector array<double>")


def mined(rows, item_vectors=None, seed=0, **settings):
    """Return {(trigger, target): (weight, hour)}."""
    settings = ItemPairs(sources=["user-to-item"], **settings)
    pairs = mine_item_pairs(rows, settings=settings, seed=seed, item_vectors=item_vectors).collect()
    assert {pair["source"] for pair in pairs} <= {"user-to-item"}
    return {
        (pair["trigger_item_id"], pair["target_item_id"]): (pair["weight"], pair["event_timestamp"].hour)
        for pair in pairs
    }


def test_the_trigger_is_the_most_similar_earlier_item_and_the_weight_is_the_number_of_users(spark):
    rows = log(
        spark,
        (7, 1, at(1)), (7, 3, at(2)), (7, 2, at(3)), (7, 4, at(4)),
        (8, 3, at(5)), (8, 4, at(6)), (8, 4, at(7)), (8, 3, at(7)),
        (9, 3, at(8)),
    )  # fmt: skip

    pairs = mined(rows, vectors(spark))

    assert pairs == {
        (1, 3): (1.0, 2),  # all that user 7 had
        (1, 2): (1.0, 3),
        (3, 4): (2.0, 7),  # users 7 and 8; user 8 twice, which counts once, at the later time
        (4, 3): (1.0, 7),  # at 7 user 8 had had 3 and 4; 3 is the item itself
    }


def test_only_the_latest_behavior_length_positives_are_looked_at(spark):
    rows = log(spark, (7, 1, at(1)), (7, 3, at(2)), (7, 4, at(3)), (7, 2, at(4)))

    pairs = mined(rows, vectors(spark), behavior_length=2)

    assert set(pairs) == {(1, 3), (3, 4), (4, 2)}  # item 1 is too long ago to be the trigger of 2


def test_string_ids_work_and_items_without_a_usable_vector_are_left_out(spark):
    rows = log(spark, (7, "b", at(1)), (7, "zero", at(2)), (7, "none", at(3)), (7, "a", at(4)), id_type="string")

    pairs = mined(rows, vectors(spark, {"a": [1.0, 0.0], "b": [1.0, 1.0], "zero": [0.0, 0.0]}, "string"))

    assert pairs == {("b", "a"): (1.0, 4)}


def test_vectors_in_two_files_of_any_order_with_missing_and_surplus_items_belong_to_their_ids(spark, tmp_path):
    rows = log(spark, (7, 1, at(1)), (7, 3, at(2)), (7, 5, at(3)), (7, 2, at(4)), (7, 4, at(5)))
    parts = {"b": {4: VECTORS[4], 99: [9.0, 9.0], 1: VECTORS[1]}, "a": {3: VECTORS[3], 2: VECTORS[2], 98: [1.0, 1.0]}}
    for part in parts.values():
        vectors(spark, part).coalesce(1).write.mode("append").parquet(str(tmp_path / "v.parquet"))

    pairs = mined(rows, read_item_vectors(spark, str(tmp_path / "v.parquet")))

    assert pairs == mined(rows, vectors(spark)) == {(1, 3): (1.0, 2), (1, 2): (1.0, 4), (3, 4): (1.0, 5)}


def test_two_vectors_of_one_item_are_refused(spark, tmp_path):
    for length in (1.0, 2.0):
        vectors(spark, {1: [length, 0.0]}).write.mode("append").parquet(str(tmp_path / "v.parquet"))

    with pytest.raises(ValueError, match="has 2 vectors of item 1, must have at most 1 of each item"):
        read_item_vectors(spark, str(tmp_path / "v.parquet"))


def test_pairs_until_a_moment_are_those_of_a_log_that_ends_before_it(spark):
    past = [(user, item, at(hour), 1) for user in (7, 8) for hour, item in enumerate([1, 3, 2])]
    future = [(8, 4, at(3), 1), (7, 4, at(4), 1), (7, 1, at(5), 1)]
    schema = "user_id int, item_id int, event_timestamp timestamp, label int"
    whole, ended = (spark.createDataFrame(rows, schema) for rows in (past + future, [*past, (7, 4, at(2), 0)]))
    settings = ItemPairs(min_support=1)

    found, expected = (
        sorted(mine_item_pairs(rows, settings=settings, item_vectors=vectors(spark)).collect())
        for rows in (positives(whole, until=at(3)), positives(ended))
    )

    assert found == expected
    assert {pair["source"] for pair in found} == {"item-to-item", "user-to-item"}
    assert max(pair["event_timestamp"] for pair in found) == datetime(2024, 1, 1, 2)


def test_on_arrays_each_place_is_the_most_similar_of_the_window_strictly_before(monkeypatch):
    monkeypatch.setattr("qarm_features.item_pairs.user_to_item._BLOCK", 7)
    random = np.random.default_rng(0)
    items, times = random.integers(0, 12, 60), np.sort(random.integers(0, 40, 60))
    unit = random.normal(size=(12, 4))
    unit = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).astype(np.float32)

    places = most_similar_past(items, unit[items], times, behavior_length=5)

    for target, place in enumerate(places):
        before = [past for past in range(60) if times[past] < times[target]][-5:]
        allowed = [past for past in before if items[past] != items[target]]
        assert place == max(allowed, key=lambda past: (unit[items[past]] @ unit[items[target]], past), default=-1)


def two_tastes(spark):
    """Return a log in which even users like even items and odd users like odd items."""
    random = np.random.default_rng(0)
    rows = [
        (user, int(2 * item + user % 2), datetime(2024, 1, 1, hour, user, tzinfo=UTC))
        for user in range(40)
        for hour, item in enumerate(random.permutation(8)[:6])
    ]
    rows += [(user, 16 + user % 8, datetime(2024, 1, 1, 12, user, tzinfo=UTC)) for user in range(40)]
    return log(spark, *rows)


@pytest.mark.slow
def test_als_factors_of_items_liked_by_the_same_users_are_similar_and_do_not_depend_on_partitions(spark, monkeypatch):
    monkeypatch.setattr("qarm_features.item_pairs.item_vectors._ITERATIONS", 3)
    rows = two_tastes(spark)

    def factors(rows):
        latest = latest_positives(rows, max_items=200)
        index = dense_index(latest, "item_id", "item")
        return dict(als_item_vectors(latest, index, rank=4, seed=1).collect())

    partitions = (rows.coalesce(1), rows.orderBy("item_id").repartition(2), rows.repartition(7))
    found = [factors(part) for part in partitions]

    assert found == [found[0]] * 3
    unit = np.array([found[0][item] for item in range(16)])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T
    assert cosines[::2, ::2].min() > cosines[::2, 1::2].max()


def test_without_vectors_als_is_fitted_and_pairs_stay_within_a_taste(spark, monkeypatch):
    monkeypatch.setattr("qarm_features.item_pairs.item_vectors._ITERATIONS", 3)

    pairs = mined(two_tastes(spark), als_rank=4)

    assert len(pairs) > 40
    assert all(trigger != target and trigger % 2 == target % 2 for trigger, target in pairs)


def test_dense_numbers_follow_the_order_of_the_ids_over_all_partitions(spark):
    rows = spark.range(1000).selectExpr("concat('item ', (id * 7919) % 1000 % 600) AS item_id").repartition(7)

    numbered = dense_index(rows, "item_id", "item").orderBy("item").collect()

    assert [row["item_id"] for row in numbered] == sorted(f"item {number}" for number in range(600))
    assert [row["item"] for row in numbered] == list(range(600))


def test_groups_are_never_cut_between_batches():
    cuts = (["a", "a"], ["a", "b"], [], ["b"], ["c", "d", "d"], ["d"], ["e"])
    batches = [pa.record_batch({"key": pa.array(keys, pa.string())}) for keys in cuts]

    found = [batch["key"].to_pylist() for batch in whole_groups(iter(batches), "key")]

    assert found == [["a", "a", "a"], ["b", "b", "c"], ["d", "d", "d"], ["e"]]
    assert group_offsets(pa.array(["a", "a", "b", "c", "c"])).tolist() == [0, 2, 3, 5]


@pytest.mark.parametrize(
    ("rows", "schema", "message"),
    [
        ([(1, [1.0])], "id int, vector array<float>", "which has no column item_id. Present: id, vector. Rename"),
        ([(1, "x")], "item_id int, vector string", "Column vector of item_pairs.item_vectors is string, must be an array of"),
        ([(1, [1.0]), (2, [1.0, 2.0])], "item_id int, vector array<float>", "vectors in .* is 1 to 2, must be the same"),
    ],
)  # fmt: skip
def test_vectors_of_the_users_own_are_checked(spark, tmp_path, rows, schema, message):
    path = str(tmp_path / "vectors.parquet")
    spark.createDataFrame(rows, schema).write.parquet(path)

    with pytest.raises(ValueError, match=message):
        read_item_vectors(spark, path)
