"""Held-out targets are compared with items as popular, and each bucket of popularity counts as much."""

import numpy as np
import pytest
import torch

from qarm_features.alignment.held_out import HeldOut, buckets, matched_places, measure
from qarm_features.alignment.known_pairs import KnownPairs, pair_keys

NONE = KnownPairs(np.array([], np.int64), 400)


def held_out(pairs, *, bucket, matched, items=8) -> HeldOut:
    index = np.arange(items)
    return HeldOut(np.array(pairs), index, index, np.array(bucket), np.array(matched))


def on_a_circle(*degrees: float) -> torch.Tensor:
    angle = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angle.cos(), angle.sin()], 1)


def test_a_target_beats_the_items_as_popular_that_are_farther_from_the_trigger():
    embeddings = on_a_circle(0, 10, 5, 20, 30, 40, 50, 60)
    found = held_out([[0, 1]], bucket=[1], matched=[[2, 3, 4, 5]])

    measured = measure(embeddings, found, NONE)

    assert measured["beats_matched"] == {"few": 0.75}  # item 2 is nearer, items 3 to 5 are farther
    assert measured["hit_rate"] == measured["hit_rates"]["few"] == 1.0


def test_the_score_is_the_mean_of_buckets_however_many_pairs_they_have():
    embeddings = on_a_circle(0, 10, 5, 20, 30, 40, 50, 60)
    found = held_out([[0, 7], [0, 2], [0, 2], [0, 2]], bucket=[0, 3, 3, 3], matched=[[3, 4]] * 4)

    measured = measure(embeddings, found, NONE)

    assert measured["beats_matched"] == {"new": 0.0, "popular": 1.0}
    assert measured["score"] == 0.5


def test_known_pairs_the_trigger_and_rejected_items_are_not_compared():
    embeddings = on_a_circle(0, 30, 5, 10, 15, 40, 50, 60)
    embeddings[4] = 0  # rejected
    known = KnownPairs(pair_keys(np.array([0]), np.array([2]), 8), 8)
    found = held_out([[0, 1]], bucket=[1], matched=[[0, 1, 2, 3, 4, 5]])

    assert measure(embeddings, found, known)["beats_matched"] == {"few": 0.5}  # of items 3 and 5


def test_equal_embeddings_beat_nothing():
    found = held_out([[0, 1], [1, 2]], bucket=[1, 2], matched=[[2, 3], [4, 5]])

    assert measure(torch.ones(8, 1), found, NONE)["score"] == 0.0


def test_pairs_of_rejected_items_alone_give_a_score_of_0():
    found = held_out([[0, 1]], bucket=[1], matched=[[2, 3]])

    assert measure(torch.zeros(8, 2), found, NONE) == {
        "hit_rate": 0.0, "hit_rates": {}, "beats_matched": {}, "score": 0.0,
    }  # fmt: skip


def test_matched_items_are_the_nearest_in_popularity():
    of_candidates = np.array([7, 1, 3, 5, 9, 2, 8, 4, 6, 0])

    places = matched_places(of_candidates, np.array([0, 5, 100]), np.random.default_rng(0))

    assert np.sort(of_candidates[places]).tolist() == [[0, 1, 2], [4, 5, 6], [7, 8, 9]]


def test_popularity_alone_finds_popular_targets_but_beats_half_of_the_items_as_popular():
    rng = np.random.default_rng(0)
    count = (300 / (1 + np.arange(400))).astype(int)
    target = rng.choice(400, 2000, p=count / count.sum())
    pairs = np.stack([(target + rng.integers(1, 400, 2000)) % 400, target], 1)
    popularity = 0.02 + 0.1 * np.log1p(count + rng.random(400))[:, None]
    noise = rng.normal(size=(400, 500))
    noise *= np.sqrt(1 - popularity**2) / np.linalg.norm(noise, axis=1, keepdims=True)
    bucket = buckets(count[target], is_new=count[target] == 0)
    found = held_out(pairs, bucket=bucket, matched=matched_places(count, count[target], rng), items=400)

    measured = measure(torch.from_numpy(np.concatenate([popularity, noise], 1)), found, NONE)

    assert measured["hit_rate"] > 3 * 10 / 400
    assert measured["score"] == pytest.approx(0.5, abs=0.1)
