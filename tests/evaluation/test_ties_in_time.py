"""A planted log in which the order of IDs carries similarity, but the order of clicks does not: figures are at chance.

Items lie on a circle in the order of their IDs, so that neighboring IDs are similar items. Each user buys a few baskets. A
basket holds a quarter of the catalog, drawn at random, at one moment.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from qarm_features.behavior.impression_history import user_impressions
from qarm_features.behavior.user_behavior import user_behavior
from qarm_features.evaluation.co_click_pairs import bought_together, future_co_clicks
from qarm_features.evaluation.encoders import target_ranks
from qarm_features.item_pairs.positives import latest_positives
from qarm_features.storage.moments import count_ties

NUM_ITEMS, USERS, BASKETS, BASKET = 400, 10, 4, 100
START = datetime(2024, 1, 1, tzinfo=UTC)
LOG = "user_id long, item_id long, event_timestamp timestamp, label int"
CHANCE = 10 / (NUM_ITEMS - 1)


def baskets(spark, *, names=None, partitions=3):
    """Return the log. ``names`` are the IDs of the items in the order of their places on the circle."""
    random, names = np.random.default_rng(0), np.arange(NUM_ITEMS) if names is None else names
    rows = [
        (user, int(names[place]), START + timedelta(hours=basket), 1)
        for user in range(USERS)
        for basket in range(BASKETS)
        for place in random.choice(NUM_ITEMS, BASKET, replace=False)
    ]
    return spark.createDataFrame(rows, LOG).repartition(partitions)


def circle(spark, names=None):
    """Return embeddings on the unit circle. The 10 items nearest to an item are its 5 neighbors on either side."""
    angles = 2 * np.pi * np.arange(NUM_ITEMS) / NUM_ITEMS
    names = np.arange(NUM_ITEMS) if names is None else names
    rows = [(int(name), [float(np.cos(a)), float(np.sin(a))]) for name, a in zip(names, angles)]
    return spark.createDataFrame(rows, "item_id long, embedding array<float>")


def hit_rate(pairs, embeddings):
    none = pairs.select("trigger_item_id", "target_item_id").limit(0)
    return float((target_ranks(pairs.persist(), none, embeddings).rank < 10).mean())


def distances(items):
    """Return the distance on the circle of each item of a list to the one before it."""
    gaps = np.abs(np.diff(items))
    return np.minimum(gaps, NUM_ITEMS - gaps)


@pytest.mark.parametrize("relation", [future_co_clicks, bought_together])
def test_the_order_of_ids_within_a_moment_gives_no_hits(spark, relation):
    pairs = relation(baskets(spark), since=START, max_pairs=100_000, seed=0)

    rate = hit_rate(pairs, circle(spark))

    assert rate == pytest.approx(CHANCE, abs=0.01)  # with ties in the order of IDs it is .75


@pytest.mark.slow
@pytest.mark.parametrize("relation", [future_co_clicks, bought_together])
def test_other_ids_of_the_same_items_give_the_same_hit_rate(spark, relation):
    names = np.random.default_rng(1).permutation(NUM_ITEMS)

    rates = [
        hit_rate(relation(baskets(spark, names=ids), since=START, max_pairs=100_000, seed=0), circle(spark, ids))
        for ids in (None, names)
    ]

    assert rates[0] == pytest.approx(rates[1], abs=0.01)


def test_where_no_moments_are_shared_other_ids_give_the_very_same_hit_rate(spark):
    random, names = np.random.default_rng(0), np.random.default_rng(1).permutation(NUM_ITEMS)
    walks = np.cumsum(random.integers(-9, 10, (USERS, 100)), axis=1) % NUM_ITEMS

    def rate(ids):
        rows = [
            (user, int(ids[place]), START + timedelta(minutes=minute), 1)
            for user in range(USERS)
            for minute, place in enumerate(walks[user])
        ]
        pairs = future_co_clicks(spark.createDataFrame(rows, LOG), since=START, max_pairs=10_000, seed=0)
        return hit_rate(pairs, circle(spark, ids))

    rates = [rate(ids) for ids in (np.arange(NUM_ITEMS), names)]

    assert rates[0] == rates[1] > 0.4


def test_a_target_is_later_than_its_trigger_and_a_basket_is_a_relation_of_its_own(spark):
    at = [START + timedelta(hours=hour) for hour in range(3)]
    rows = [(7, 1, at[0], 1), (7, 2, at[1], 1), (7, 3, at[1], 1), (7, 4, at[1], 0), (7, 1, at[2], 1), (8, 1, at[2], 1)]
    log = spark.createDataFrame(rows, LOG)

    later, together = (
        sorted(tuple(row)[1:3] for row in relation(log, since=at[1], max_pairs=9, seed=0).collect())
        for relation in (future_co_clicks, bought_together)
    )

    assert later[:2] == [(1, 2), (1, 3)]
    assert later[2:] in ([(2, 1)], [(3, 1)])  # the last of its moment, by hash
    assert together == [(2, 3), (3, 2)]


def test_a_sequence_does_not_put_neighboring_ids_side_by_side(spark):
    log = baskets(spark)
    last = datetime(2024, 1, 1, BASKETS - 1, 0, 0, 1)

    rows = user_behavior(log, max_length=BASKET).where(f"event_timestamp = '{last}'").collect()
    shown = user_impressions(log, max_length=BASKET).where(f"event_timestamp = '{last}'").collect()

    assert len(rows) == USERS
    near = np.mean([(distances(row["behavior_item_ids"]) <= 5).mean() for row in rows])
    assert near == pytest.approx(CHANCE, abs=0.02)
    assert sorted(tuple(row["behavior_item_ids"]) for row in rows) == sorted(
        tuple(row["impression_item_ids"]) for row in shown
    )


def test_the_latest_items_of_a_moment_are_not_those_with_the_highest_ids(spark):
    latest = latest_positives(baskets(spark), max_items=BASKET // 2).toPandas()

    assert len(latest) == USERS * BASKET // 2
    assert latest["item_id"].mean() == pytest.approx(NUM_ITEMS / 2, abs=20)  # the highest IDs have a mean of 300


def test_the_order_is_the_same_everywhere_and_whatever_the_partitions(spark):
    once, again = baskets(spark, partitions=1), baskets(spark, partitions=7)

    def found(log):
        sequences = user_behavior(log, max_length=30).where("hour(event_timestamp) = 3").toPandas()
        latest = latest_positives(log, max_items=30).toPandas()
        sets = sequences.set_index("user_id")["behavior_item_ids"].map(sorted).to_dict()
        return (
            sequences.sort_values("user_id").to_json(),
            sets,
            latest.groupby("user_id")["item_id"].apply(sorted).to_dict(),
            sorted(future_co_clicks(log, since=START, max_pairs=99, seed=0).collect()),
            sorted(bought_together(log, since=START, max_pairs=99, seed=0).collect()),
        )

    one, other = found(once), found(again)

    assert one == other
    assert one[1] == one[2]  # mining and sequences have the same latest 30


def test_a_column_of_the_log_orders_its_moments(spark):
    at = [START, START + timedelta(hours=1)]
    rows = [(7, 1, at[0], 1, 3), (7, 2, at[0], 1, 1), (7, 3, at[0], 1, 2), (7, 4, at[0], 1, None), (7, 5, at[1], 1, 1)]
    log = spark.createDataFrame(rows, f"{LOG}, order_in_moment long").repartition(3)

    sequences = user_behavior(log, max_length=9).orderBy("event_timestamp").collect()
    shown = user_impressions(log, max_length=9).orderBy("event_timestamp").collect()
    pairs = future_co_clicks(log, since=START, max_pairs=9, seed=0).collect()
    latest = latest_positives(log, max_items=3).collect()

    assert [row["behavior_item_ids"] for row in sequences] == [[4, 2, 3, 1], [4, 2, 3, 1, 5]]
    assert [row["impression_item_ids"] for row in shown] == [[4, 2, 3, 1], [4, 2, 3, 1, 5]]
    assert [(row["trigger_item_id"], row["target_item_id"]) for row in pairs] == [(1, 5)]
    assert {row["item_id"] for row in latest} == {1, 3, 5}


def test_ties_are_the_consecutive_positives_that_share_their_moment(spark):
    at = [START + timedelta(hours=hour) for hour in range(3)]
    rows = [*((7, item, at[0], 1) for item in (1, 2, 3)), (7, 1, at[1], 1), (8, 1, at[2], 1), (8, 2, at[2], 1)]
    log = spark.createDataFrame(rows, LOG)

    whole, later = count_ties(log), count_ties(log, since=at[1])

    assert whole == (4, 3)  # of user 7 two and then none, of user 8 one
    assert later == (2, 1)
    assert whole.words("positives") == "75.0% of 4 consecutive positives share their moment with the one before"
    assert count_ties(log.limit(0)).words("positives") == "there are no consecutive positives"
