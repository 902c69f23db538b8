"""Popularity alone does not pass for content: what it reaches stands beside every HitRate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from qarm_features.evaluation.co_click_pairs import Period, shuffled
from qarm_features.evaluation.encoders import evaluate
from qarm_features.evaluation.intervals import user_interval
from qarm_features.evaluation.popularity import WEIGHTS, matched_items, popular_hits
from qarm_features.evaluation.target_ranks import target_ranks

PAIRS = "pair long, trigger_item_id long, target_item_id long"
START = datetime(2024, 1, 1, tzinfo=UTC)


def test_targets_among_the_most_popular_are_hits_and_ties_are_shared(spark):
    positives = spark.createDataFrame([(9,), (7,), (7,), (3,), (0,), (0,)], "positives long")
    pairs = pd.DataFrame({"positives": [9, 7, 7, 3, 0, 12], "trigger_positives": [0, 0, 9, 7, 0, 0]})

    found = popular_hits(positives, pairs, k=2)

    # The trigger is not ranked: of pair 2 it is the first, of pair 3 one of the two second, of pair 4 itself a 0.
    assert found.tolist() == [1.0, 0.5, 1.0, 0.0, 0.0, 1.0]


def test_the_items_around_a_target_are_as_popular_and_neither_end_of_the_pair(spark):
    counts = [(item, item // 3) for item in range(400)]
    positives = spark.createDataFrame(counts, "item_id long, positives long").repartition(5)
    pairs = spark.createDataFrame([(0, 181, 180), (1, 5, 0), (2, 3, 399)], PAIRS)

    rows = matched_items(pairs, positives, seed=0).toPandas()

    found = rows.groupby("pair")["item_id"].agg(set)
    assert [len(found[pair]) for pair in range(3)] == [9, 9, 10]  # 2.5% of 400, without the trigger
    for pair, target in ((0, 180), (1, 0), (2, 399)):
        assert target not in found[pair]
        assert max(abs(item // 3 - target // 3) for item in found[pair]) <= 4
    less = [(np.sign((180, 0, 399)[p] // 3 - i // 3) + 1) / 2 for p, i in zip(rows["pair"], rows["item_id"])]
    assert rows["beaten"].tolist() == less


def test_ranks_among_matched_items_and_with_popularity_are_those_of_a_loop(spark):
    random = np.random.default_rng(0)
    vectors = random.standard_normal((30, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    popularity = random.random(30).astype(np.float32)
    ends, among = [(0, 3, 17), (1, 9, 4)], {0: [1, 2, 5, 8, 20], 1: [0, 1, 29]}
    pairs, weights = spark.createDataFrame(ends, PAIRS), np.array([0.5, 2.0], np.float32)
    none = pairs.select("trigger_item_id", "target_item_id").limit(0)
    rows = [(i, vectors[i].tolist(), [*vectors[i].tolist(), float(popularity[i])]) for i in range(30)]
    items = spark.createDataFrame(rows, "item_id long, plain array<float>, popular array<float>").repartition(3)
    matched = spark.createDataFrame(
        [(pair, i) for pair, found in among.items() for i in found], "pair long, item_id long"
    )

    plain = target_ranks(pairs, none, items.withColumnRenamed("plain", "embedding"), matched=matched)
    popular = target_ranks(pairs, none, items.withColumnRenamed("popular", "embedding"), popularity_weight=weights)

    cosines = vectors @ vectors.T
    for pair, trigger, target in ends:
        near = [i for i in among[pair] if cosines[trigger, i] >= cosines[trigger, target]]
        assert (plain.rank_among_matched[pair], plain.matched[pair]) == (len(near), len(among[pair]))
        score = cosines[trigger] + weights[pair] * popularity
        assert popular.rank[pair] == sum(score[i] >= score[target] for i in range(30) if i not in (trigger, target))


def test_shuffled_targets_are_the_same_targets_in_another_order(spark):
    ends = [(pair, pair % 7, 10 + pair % 5) for pair in range(40)]

    found = shuffled(spark.createDataFrame(ends, PAIRS).repartition(3), seed=1).orderBy("pair").collect()

    assert sorted(row["target_item_id"] for row in found) == sorted(target for _, _, target in ends)
    assert [row["target_item_id"] for row in found] != [target for _, _, target in ends]
    assert [row["trigger_item_id"] for row in found] == [trigger for _, trigger, _ in ends]


def test_an_interval_resamples_users_and_not_pairs():
    users = np.repeat(np.arange(20), 50)
    values = (users % 2).astype(float)  # all pairs of a user agree: 20 observations, not 1000

    low, high = user_interval(values, users, seed=0)

    assert low == pytest.approx(0.5 - 1.96 * 0.5 / 20**0.5, abs=0.05)
    assert high == pytest.approx(0.5 + 1.96 * 0.5 / 20**0.5, abs=0.05)
    assert user_interval(values[:50], users[:50]) is None


@pytest.fixture(scope="module")
def figures(spark):
    """Figures of two encoders on a log in which users like popular items of one of two kinds.

    Encoder 0 knows the kind of an item. Encoder 1 knows its popularity alone: popular items are near everything.
    """
    random, number = np.random.default_rng(0), 200
    popularity = 1 / np.arange(1, number + 1)
    kind = random.permutation(np.arange(number) % 2)
    rows = []
    for user in range(150):
        chance = popularity * (kind == user % 2)
        for place, item in enumerate(random.choice(number, 12, replace=False, p=chance / chance.sum())):
            rows.append((user, int(item), START + timedelta(hours=place, seconds=user), 1))
    log = spark.createDataFrame(rows, "user_id long, item_id long, event_timestamp timestamp, label int")
    of_kind = np.stack([kind, 1 - kind], 1) + 0.3 * random.standard_normal((number, 2))
    angle = np.arange(number)[:, None] / number  # item 0 is the most popular one
    away = random.standard_normal((number, 100)) / 10
    of_popularity = np.hstack([np.cos(angle), np.sin(angle) * away])
    embeddings = [
        (item, version, [float(x) for x in vector / np.linalg.norm(vector)])
        for version, vectors in enumerate((of_kind, of_popularity))
        for item, vector in enumerate(vectors)
    ]
    embeddings = spark.createDataFrame(embeddings, "item_id long, encoder_version int, embedding array<float>")
    known = spark.createDataFrame([], "trigger_item_id long, target_item_id long")
    period = Period(START + timedelta(hours=9), "the end")
    options = {"versions": [0, 1], "frozen": 0, "period": period, "k": 10, "max_pairs": 1000, "seed": 0}
    return evaluate(log, known, embeddings, **options)


def test_an_encoder_of_popularity_alone_is_seen_through(figures):
    of_kind, of_popularity = (figures["hit_rate"][version]["all"] for version in "01")

    assert of_popularity > 1.3 * of_kind  # by HitRate it looks like the better encoder
    assert of_popularity < figures["popular"]["all"] * 1.1
    assert figures["shuffled"]["1"] > 0.85 * of_popularity
    by_popularity, by_kind = figures["beats_matched"]["1"]["all"], figures["beats_matched"]["0"]["all"]
    assert abs(by_popularity - 0.5) < 0.06
    assert abs(figures["popular_beats_matched"]["all"] - 0.5) < 0.06
    assert by_kind > by_popularity + 0.1


def test_popularity_beside_a_frozen_encoder_is_weighted_on_earlier_co_clicks(figures):
    found = figures["frozen_with_popularity"]

    assert found["weight"] in WEIGHTS[1:]
    assert found["hit_rate"]["all"] > figures["popular"]["all"]
    low, high = figures["interval"]["0"]
    assert low < figures["hit_rate"]["0"]["all"] < high
