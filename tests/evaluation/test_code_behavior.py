"""Codes that know popularity alone do not pass for codes that know what users like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from qarm_features.evaluation.co_click_pairs import future_co_clicks
from qarm_features.evaluation.code_behavior import Log, behavior_figures
from qarm_features.evaluation.intervals import ratio_interval
from qarm_features.evaluation.matched_prefixes import matched_prefixes
from qarm_features.evaluation.popularity import popularity_slices
from qarm_features.report.code_behavior_rows import behavior_lines

START = datetime(2024, 1, 1, tzinfo=UTC)
ITEMS, USERS = 200, 150


def test_prefixes_with_items_as_popular_are_counted_by_hand(spark):
    ids = {1: [0, 1], 2: [0, 1], 3: [0, 2], 4: [3, 1]}
    codes = spark.createDataFrame(list(ids.items()), "item_id long, rq_codes array<int>").repartition(3)
    pairs = spark.createDataFrame([(0, 1, 2), (1, 1, 3)], "pair long, trigger_item_id long, target_item_id long")
    among = [(0, 3, 1.0), (0, 4, 0.5), (1, 2, 0.0), (1, 4, 0.0), (1, 9, 1.0)]  # item 9 has no codes
    matched = spark.createDataFrame(among, "pair long, item_id long, beaten double")

    found = matched_prefixes(pairs, matched, codes, num_levels=2)

    # Trigger 1 shares 2 codes with target 2, and 1 code with target 3.
    assert found.to_dict("list") == {
        "pair": [0, 1], "share_1": [0.5, 0.5], "share_2": [0.0, 0.5], "beaten": [1.0, 0.5], "popular_beaten": [0.75, 0.0],
    }  # fmt: skip


def test_an_interval_of_a_ratio_resamples_users():
    users = np.repeat(np.arange(50), 20)
    above = np.random.default_rng(0).random(50)[users]

    low, high = ratio_interval(above, np.full(1000, 0.25), users)

    assert low < above.mean() / 0.25 < high
    assert high - low > 0.3  # 50 users; a thousand pairs of their own would give 0.14
    assert ratio_interval(above, np.zeros(1000), users) is None


def behavior_of(spark, interactions, codes):
    """Return the behavior of codes (I, L) whose centroids are random, so that only equal codes are near."""
    random, since = np.random.default_rng(1), START + timedelta(hours=9)
    codebooks = random.standard_normal((codes.shape[1], codes.max() + 1, 16)).astype(np.float32)
    vectors = random.standard_normal((ITEMS, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    both = list(zip(range(ITEMS), vectors.tolist(), codes.tolist()))
    rows = spark.createDataFrame(both, "item_id long, embedding array<float>, rq_codes array<int>").persist()
    known = spark.createDataFrame([], "trigger_item_id long, target_item_id long")
    log = Log(popularity_slices(interactions, until=since).persist(), known)
    pairs = future_co_clicks(interactions, since=since, max_pairs=5000, seed=0).persist()
    return behavior_figures(pairs, rows, codebooks, log, k=10, seed=0)


@pytest.fixture(scope="module")
def figures(spark):
    """Figures of codes of kind, and of codes of popularity, on a log in which users like items of one of four kinds.

    Half of the users like popular items, the other half also those that few like. Therefore items of like popularity are
    co-clicked more often than chance, and codes that say only how popular an item is seem to know what users like.
    """
    random = np.random.default_rng(0)
    popularity = 1 / np.arange(4, ITEMS + 4)
    kind = random.permutation(np.arange(ITEMS) % 4)
    rows = []
    for user in range(USERS):
        chance = popularity ** (1.4 if user % 2 else 0.2) * np.where(kind == user % 4, 4, 1)
        for place, item in enumerate(random.choice(ITEMS, 14, replace=False, p=chance / chance.sum())):
            rows.append((user, int(item), START + timedelta(hours=place, seconds=user), 1))
    log = spark.createDataFrame(rows, "user_id long, item_id long, event_timestamp timestamp, label int").persist()
    liked = np.bincount([item for _, item, moment, _ in rows if moment < START + timedelta(hours=9)], minlength=ITEMS)
    most_first = np.argsort(np.argsort(-liked, kind="stable"))
    noise = random.integers(0, 4, ITEMS)
    of_kind, of_popularity = np.stack([kind, noise], axis=1), np.stack([most_first * 8 // ITEMS, noise], axis=1)
    return {name: behavior_of(spark, log, codes) for name, codes in (("kind", of_kind), ("popularity", of_popularity))}


def test_a_codebook_of_popularity_alone_is_seen_through(figures):
    behavior = figures["popularity"]
    first = behavior["prefixes"][0]

    assert first["interval"][0] > first["shuffled"]  # it looks as if it knew what users like
    assert first["lift"] > 1.2
    assert first["lift_matched"] == pytest.approx(1.0, abs=0.12)
    low, high = first["lift_matched_interval"]
    assert low < 1.0 < high or high < 1.0
    assert behavior["beats_matched"] == pytest.approx(0.5, abs=0.03)
    assert behavior["popular"] > 1.5 * behavior["hit_rate"]


def test_a_codebook_that_knows_what_users_like_is_told_from_it(figures):
    behavior = figures["kind"]
    first = behavior["prefixes"][0]

    assert first["lift_matched_interval"][0] > 1.05
    assert behavior["beats_matched"] > 0.53
    assert behavior["hit_rate"] > 1.2 * behavior["shuffled"]["hit_rate"]


def test_targets_with_few_positives_have_figures_of_their_own(figures):
    slices = figures["kind"]["slices"]

    assert 0 < slices["few"]["pairs"] < slices["all"]["pairs"]
    assert slices["few"]["popular"] == 0.0
    assert slices["few"]["share"] > slices["few"]["matched"]
    assert sum(slices[name]["pairs"] for name in ("head", "torso", "tail", "new")) == slices["all"]["pairs"]


def test_what_popularity_reaches_is_printed_beside_every_figure(figures):
    about = {"since": START.isoformat(), "period": "the end", "k": 10, "chance": 0.05, "bought_together": None}
    about["ties"] = {"consecutive": 9, "tied": 0}

    lines = dict(behavior_lines({**about, **figures["popularity"]}))

    first = figures["popularity"]["prefixes"][0]
    name = "pairs with the same first 1 codes"
    assert lines[name].startswith(f"{first['share']:.2%} [")
    assert lines[f"{name}, targets exchanged (lift)"] == f"{first['shuffled']:.2%} (x{first['lift']:.2f})"
    as_popular = lines[f"{name}, items as popular as the target (lift)"]
    assert as_popular.startswith(f"{first['matched']:.2%} (x{first['lift_matched']:.2f} [x")
    for rate in ("by code", "by embedding"):
        assert f"HitRate@10 {rate}, targets exchanged at random" in lines
    assert "HitRate@10 of the 10 most popular items for everybody" in lines
    assert lines["co-clicks, few"].endswith("%)")
