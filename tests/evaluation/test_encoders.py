"""HitRate@k of co-clicks is checked on literal rows, and ranks are checked against a loop over all items."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import torch

from qarm_features.evaluation.co_click_pairs import Period, future_co_clicks
from qarm_features.evaluation.encoders import (
    TargetRanks,
    describe_pairs,
    evaluate,
    hit_rates,
    popularity_slices,
    summarize,
    target_ranks,
)
from qarm_features.ranking import Predictions, RankingModel
from qarm_features.ranking.train.evaluation import slices


def at(hour: int) -> datetime:
    return datetime(2024, 1, 1, hour, tzinfo=UTC)


@pytest.fixture(scope="module")
def log(spark):
    rows = [
        *((7, 3, at(1), 1), (7, 4, at(2), 0), (7, 9, at(5), 1), (7, 9, at(6), 1), (7, 3, at(7), 1)),
        *((8, 5, at(6), 1), (8, 3, at(7), 0)),
    ]
    return spark.createDataFrame(rows, "user_id long, item_id long, event_timestamp timestamp, label int")


def test_a_future_positive_is_paired_with_the_users_positive_before_it(log):
    found = future_co_clicks(log, since=at(5), max_pairs=10, seed=0).collect()

    assert sorted(row["pair"] for row in found) == [0, 1]
    assert sorted((row["trigger_item_id"], row["target_item_id"]) for row in found) == [(3, 9), (9, 3)]


def test_at_most_max_pairs_are_drawn_and_the_same_ones_whatever_the_partitions(log):
    once = future_co_clicks(log.repartition(3), since=at(0), max_pairs=1, seed=1).collect()
    again = future_co_clicks(log.coalesce(1), since=at(0), max_pairs=1, seed=1).collect()

    assert len(once) == 1
    assert once == again


def test_items_are_sliced_by_their_share_of_impressions_before_a_time(spark):
    counts = {1: 4, 2: 3, 3: 2, 4: 1}  # of 10 impressions: 40%, 70%, 90%, 100%
    rows = [(user, item, at(1), 1) for item, times in counts.items() for user in range(times)] + [(0, 5, at(9), 1)]
    log = spark.createDataFrame(rows, "user_id long, item_id long, event_timestamp timestamp, label int")

    found = {row["item_id"]: (row["slice"], row["positives"]) for row in popularity_slices(log, until=at(2)).collect()}

    assert found == {1: ("head", 4), 2: ("torso", 3), 3: ("torso", 2), 4: ("tail", 1)}


def test_head_torso_and_tail_are_the_same_items_for_an_encoder_and_a_ranking_model(spark):
    counts = [0, 12, 9, 7, 7, 5, 3, 2, 2, 1, 1, 1]  # by item; in thirds item 5 would be tail
    rows = [(user, item, at(1), 1) for item, count in enumerate(counts) for user in range(count)]
    log = spark.createDataFrame(rows, "user_id long, item_id long, event_timestamp timestamp, label int")
    model = RankingModel(num_items=len(counts) - 1, use_semantic_ids=False)
    model.set_item_counts(torch.tensor(counts), torch.tensor(counts))
    items = np.arange(1, len(counts))
    zeros = np.zeros(len(items))

    of_encoder = {row["item_id"]: row["slice"] for row in popularity_slices(log, until=at(2)).collect()}
    of_model = slices(Predictions(zeros, zeros, items, items, items), model)

    named = {int(item): name for name in ("head", "torso", "tail") for item in items[of_model[name]]}
    assert named == of_encoder
    assert named == {1: "head", 2: "head", **dict.fromkeys((3, 4, 5), "torso"), **dict.fromkeys(range(6, 12), "tail")}


def test_the_rank_of_a_target_counts_the_items_nearer_to_the_trigger(spark):
    random = np.random.default_rng(0)
    vectors = random.standard_normal((40, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ends = [(0, 3, 17), (1, 3, 9), (2, 39, 0), (3, 99, 1)]  # item 99 has no embedding
    partners = {3: {9, 20, 21, 22}, 39: {1, 2}}
    known = [(trigger, target) for trigger, targets in partners.items() for target in targets]

    ranks = target_ranks(
        spark.createDataFrame(ends, "pair long, trigger_item_id long, target_item_id long"),
        spark.createDataFrame(known, "trigger_item_id long, target_item_id long"),
        spark.createDataFrame(
            [(i, v.tolist()) for i, v in enumerate(vectors)], "item_id long, embedding array<float>"
        ).repartition(3),
    )

    similarity = vectors @ vectors.T
    for pair, trigger, target in ends[:3]:
        nearer = [i for i in range(40) if i != trigger and similarity[trigger, i] > similarity[trigger, target]]
        assert ranks.rank[pair] == len(nearer)
        assert ranks.rank_among_unknown[pair] == len(set(nearer) - partners[trigger])
    assert ranks.pair.tolist() == [0, 1, 2]


def test_an_item_as_near_as_the_target_counts_as_nearer(spark):
    ranks = target_ranks(
        spark.createDataFrame([(0, 1, 2)], "pair long, trigger_item_id long, target_item_id long"),
        spark.createDataFrame([], "trigger_item_id long, target_item_id long"),
        spark.createDataFrame([(i, [1.0, 0.0]) for i in range(5)], "item_id long, embedding array<float>"),
    )

    assert ranks.rank.tolist() == [3]


def test_hit_rates_by_slice_leave_known_pairs_out_of_unseen_ones():
    ranks = TargetRanks(np.arange(4), np.array([0, 9, 10, 12]), np.array([0, 8, 9, 12]), *np.zeros((2, 4), np.int64))
    pairs = pd.DataFrame(
        {
            "pair": [0, 1, 2, 3],
            "slice": ["head", "tail", "tail", "new"],
            "positives": [50, 5, 6, 0],
            "trigger_positives": [6, 5, 5, 0],
            "seen": [True, False, False, False],
        }
    )

    found = hit_rates(ranks, pairs, k=10)

    assert found == {
        "all": 0.5, "head": 1.0, "torso": None, "tail": 0.5, "new": 0.0, "few": 0.5, "few triggers": 1 / 3,
        "unseen pairs": 2 / 3,
    }  # fmt: skip


def test_encoders_are_compared_on_the_pairs_that_all_of_them_embed(log):
    pairs = pd.DataFrame({"pair": [0, 1], "slice": "tail", "positives": 9, "trigger_positives": 9, "seen": False})
    pairs = pairs.assign(user=[0, 1], popular=[1.0, 0.25], popular_beats=[0.5, 0.75])
    both, one = (TargetRanks(*map(np.array, (p, r, r, m, n))) for p, r, m, n in (
        ([0, 1], [0, 99], [0, 20], [50, 50]), ([1], [3], [5], [50]),
    ))  # fmt: skip

    figures = summarize({0: both, 4: one}, pairs, num_items=101, k=10)

    assert figures["pairs"]["all"] == 1
    assert figures["chance"] == 0.1
    assert {version: rates["all"] for version, rates in figures["hit_rate"].items()} == {"0": 0.0, "4": 1.0}
    assert {version: shares["all"] for version, shares in figures["beats_matched"].items()} == {"0": 0.6, "4": 0.9}
    assert (figures["popular"]["all"], figures["popular_beats_matched"]["all"]) == (0.25, 0.75)
    assert figures["interval"] == {"0": None, "4": None}  # one user


def test_an_encoder_is_compared_with_the_frozen_one_on_the_same_draws_of_users():
    pairs = pd.DataFrame({"pair": range(4), "slice": "tail", "positives": 9, "trigger_positives": 9, "seen": False})
    pairs = pairs.assign(user=[0, 0, 1, 2], popular=0.0, popular_beats=0.5)
    every = np.arange(4)
    frozen = TargetRanks(every, np.array([0, 99, 99, 99]), every, np.array([50, 25, 25, 25]), np.full(4, 50))
    aligned = TargetRanks(every, np.array([0, 0, 0, 99]), every, np.array([0, 0, 25, 50]), np.array([50, 50, 50, 0]))

    figures = summarize({0: frozen, 4: aligned}, pairs, num_items=101, k=10, frozen=0)

    ((version, minus),) = figures["minus_frozen"].items()
    assert version == "4"
    assert minus["hit_rate"]["difference"] == 0.5
    assert minus["beats_matched"]["difference"] == 0.5  # of the three pairs that have items as popular
    low, high = minus["hit_rate"]["interval"]
    assert 0 <= low < 0.5 < high <= 1


def test_pairs_are_described_by_their_target_and_by_what_training_saw(spark):
    rows = [(0, 1, 2, "ann"), (1, 2, 3, "ann")]
    pairs = spark.createDataFrame(rows, "pair long, trigger_item_id long, target_item_id long, user_id string")
    slices = spark.createDataFrame([(2, "head", 7)], "item_id long, slice string, positives long")
    known = spark.createDataFrame([(1, 2), (1, 2)], "trigger_item_id long, target_item_id long")

    found = describe_pairs(pairs, slices, known)

    assert found.values.tolist() == [[0, "head", 7, 0, True, 0], [1, "new", 0, 7, False, 0]]


def test_a_log_without_later_co_clicks_is_named(log, spark):
    known = spark.createDataFrame([], "trigger_item_id long, target_item_id long")
    embeddings = spark.createDataFrame([], "item_id long, embedding array<float>, encoder_version int")

    with pytest.raises(
        ValueError,
        match=r"no co-click since 2024-01-01 08:00 \(why\): there are no .* Run: qarm mine-item-pairs --until",
    ):
        evaluate(log, known, embeddings, versions=[0], period=Period(at(8), "why"), k=10, max_pairs=10, seed=0)
