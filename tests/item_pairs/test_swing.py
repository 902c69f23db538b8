"""Scores of item-to-item pairs equal the sums of the formula of Swing over pairs of users."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import combinations
from math import sqrt

import numpy as np
import pytest

from qarm_features.item_pairs import mine_item_pairs
from qarm_features.item_pairs.swing import swing_targets
from qarm_features.settings.sections import ItemPairs

USERS = {7: [1, 2, 3], 8: [1, 2, 4], 9: [1, 2, 3, 4]}


def at(hour, minute=0):
    return datetime(2024, 1, 1, hour, minute, tzinfo=UTC)


def log(spark, likes, id_type="int"):
    """Return one positive an hour for each user, in the order of the list. User u clicks at minute u."""
    rows = [(user, item, at(hour, user)) for user, items in likes.items() for hour, item in enumerate(items)]
    return spark.createDataFrame(rows, f"user_id int, item_id {id_type}, event_timestamp timestamp")


def mined(rows, seed=0, **settings):
    """Return {(trigger, target): weight}."""
    pairs = mine_item_pairs(rows, settings=ItemPairs(sources=["item-to-item"], **settings), seed=seed)
    return {(r["trigger_item_id"], r["target_item_id"]): r["weight"] for r in pairs.collect()}


def swing_written_out(likes, alpha):
    """Return {(i, j): score} by the sums of the formula, without a shortcut."""
    scores = {}
    for (_, ours), (_, theirs) in combinations(sorted(likes.items()), 2):
        common = set(ours) & set(theirs)
        for i in common:
            for j in common - {i}:
                weight = 1 / sqrt(len(ours)) / sqrt(len(theirs)) / (alpha + len(common))
                scores[i, j] = scores.get((i, j), 0) + weight
    return scores


@pytest.fixture(scope="module")
def pairs_of_three_users(spark):
    settings = ItemPairs(sources=["item-to-item"], swing_alpha=1.0, min_support=1)
    return mine_item_pairs(log(spark, USERS), settings=settings).collect()


def test_three_users_and_four_items_give_the_sums_of_the_formula(pairs_of_three_users):
    weights = {(r["trigger_item_id"], r["target_item_id"]): r["weight"] for r in pairs_of_three_users}

    # users 7 and 8 share {1, 2}; 7 and 9 share {1, 2, 3}; 8 and 9 share {1, 2, 4}
    one_and_two = 1 / 3 / (1 + 2) + 2 * (1 / sqrt(12) / (1 + 3))
    assert weights[1, 2] == weights[2, 1] == pytest.approx(one_and_two)
    assert weights[1, 3] == pytest.approx(1 / sqrt(12) / (1 + 3))
    assert (3, 4) not in weights  # only user 9 has both
    assert weights == pytest.approx(swing_written_out(USERS, alpha=1.0))


def test_one_trigger_on_arrays_gives_the_sums_of_the_formula_at_any_size_of_block(monkeypatch):
    random = np.random.default_rng(0)
    likes = {user: [0, *sorted(random.choice(np.arange(1, 12), 5, replace=False))] for user in range(9)}
    offsets = np.arange(10) * 6
    items, micros = np.concatenate(list(likes.values())), np.arange(54)
    monkeypatch.setattr("qarm_features.item_pairs.swing._BLOCK", 20)

    found = swing_targets(0, offsets, items, micros, alpha=0.5)

    expected = swing_written_out(likes, alpha=0.5)
    assert dict(zip(found.items, found.scores)) == pytest.approx({j: s for (i, j), s in expected.items() if i == 0})
    num_users = [sum(item in own for own in likes.values()) for item in found.items]
    assert found.support.tolist() == [n * (n - 1) // 2 for n in num_users]


def test_a_pair_bears_the_time_of_the_latest_interaction_with_either_item(pairs_of_three_users):
    pairs = pairs_of_three_users

    times = {(r["trigger_item_id"], r["target_item_id"]): r["event_timestamp"].replace(tzinfo=UTC) for r in pairs}
    assert times[1, 2] == times[2, 1] == at(1, 9)  # user 9's click on item 2
    assert times[3, 1] == at(2, 9)
    assert times[1, 4] == at(3, 9)
    assert {r["source"] for r in pairs} == {"item-to-item"}


def test_repeated_positives_of_a_user_count_once_at_their_latest_time(spark):
    pairs = mine_item_pairs(
        log(spark, {7: [1, 2, 1], 8: [1, 2]}), settings=ItemPairs(sources=["item-to-item"], min_support=1)
    ).collect()

    found = {(r["trigger_item_id"], r["target_item_id"]): (r["weight"], r["event_timestamp"].hour) for r in pairs}
    assert found == {(1, 2): (pytest.approx(1 / 2 / 3), 2), (2, 1): (pytest.approx(1 / 2 / 3), 2)}


def test_a_pair_needs_min_support_user_pairs_and_an_item_keeps_its_heaviest_targets(spark):
    rows = log(spark, USERS).persist()

    assert set(mined(rows, min_support=2)) == {(1, 2), (2, 1)}  # 3 users: 3 user pairs; the others have 1
    kept = mined(rows, min_support=1, max_pairs_per_item=1)
    assert set(kept) == {(1, 2), (2, 1), (3, 1), (4, 1)}  # of 3 and 4, targets 1 and 2 tie: the lower ID


def test_a_heavy_user_is_cut_to_the_latest_positives(spark):
    rows = log(spark, {7: [1, 2, 3], 8: [1, 2, 3]})

    weights = mined(rows, min_support=1, max_items_per_user=2)

    assert weights == {(2, 3): pytest.approx(1 / 2 / 3), (3, 2): pytest.approx(1 / 2 / 3)}


def test_a_popular_item_is_cut_to_users_drawn_by_a_seeded_hash(spark):
    likes = {user: [1, 2, 10 + user // 2] for user in range(20)}
    rows = log(spark, likes)

    weights = mined(rows, seed=1, min_support=1, max_users_per_item=4)
    again = mined(rows.repartition(5), seed=1, min_support=1, max_users_per_item=4)

    # 6 user pairs of the 4 drawn, not 190 of all; k of them share a third item
    assert any(weights[1, 2] == pytest.approx((6 - k) / 3 / 3 + k / 3 / 4) for k in range(3))
    assert weights[10, 1] == pytest.approx(1 / 3 / 4)  # item 10 has only two users: it is not cut, nor are their items
    assert again == weights


def test_pairs_are_the_same_for_1_2_and_7_partitions_and_any_order_of_the_rows(spark):
    random = np.random.default_rng(0)
    likes = {user: random.permutation(15)[: random.integers(1, 9)].tolist() for user in range(30)}
    rows = log(spark, likes)
    settings = {"max_users_per_item": 6, "max_pairs_per_item": 4, "max_items_per_user": 6}

    found = [mined(part, **settings) for part in (rows.coalesce(1), rows.orderBy("item_id").repartition(2))]
    found.append(mined(rows.repartition(7, "event_timestamp"), **settings))

    assert found[0]
    assert found == [found[0]] * 3


def test_string_ids_give_the_pairs_of_integer_ids(spark):
    names = {user: [f"item {item}" for item in items] for user, items in USERS.items()}

    weights = mined(log(spark, names, "string"), min_support=1)

    expected = swing_written_out(USERS, alpha=1.0)
    assert weights == pytest.approx({(f"item {i}", f"item {j}"): weight for (i, j), weight in expected.items()})


def test_items_that_no_two_users_share_give_no_pairs(spark):
    assert mined(log(spark, {7: [1, 2], 8: [3], 9: [2]}), min_support=1) == {}


def heaviest(pairs, side, number):
    """Return the pairs with the largest weights for each item of one side; of equal weights the smaller ID comes first."""
    kept = {}
    for item in {pair[side] for pair in pairs}:
        own = sorted((-round(weight, 12), pair[1 - side], pair) for pair, weight in pairs.items() if pair[side] == item)
        kept |= {pair: pairs[pair] for _, _, pair in own[:number]}
    return kept


def test_weights_by_popularity_reversed_pairs_and_a_cap_per_target_are_written_out(spark):
    likes = {user: [user % 4, 4 + user % 3, 7, 8][: 4 - (user % 5 == 0)] for user in range(12)}
    users = {item: sum(item in own for own in likes.values()) for item in range(9)}
    rows = log(spark, likes)
    settings = {"min_support": 1, "max_pairs_per_item": 2, "popularity_power": 0.5}

    forward = mined(rows, **settings)
    both = mined(rows, **settings, reversed_pairs=True, max_pairs_per_target=3)

    scores = swing_written_out(likes, alpha=1.0)
    by_trigger = heaviest({pair: score / users[pair[1]] ** 0.5 for pair, score in scores.items()}, 0, 2)
    turned = dict(by_trigger)
    for (trigger, target), weight in by_trigger.items():
        turned[target, trigger] = max(weight, turned.get((target, trigger), 0))
    assert forward == pytest.approx(by_trigger)
    assert both == pytest.approx(heaviest(turned, 1, 3))
    assert len(by_trigger) != len(turned) != len(both)
