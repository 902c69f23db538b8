"""Rivals are measured by the same rules, and the measures are those that their names say."""

from __future__ import annotations

import numpy as np
import pytest
from rival_codes.catalogs import Catalog, Pairs, _pairs_and_positives
from rival_codes.measures import as_popular, explained_variance, lifts, measure, neighbors_kept, sums_of_means
from rival_codes.quantizers import Codes, halved_sizes, hashed_ids, opq, random_codes
from rival_codes.rq_vae import fit_rq_vae
from rival_codes.table import Results, table, winners


@pytest.fixture(scope="module")
def catalog():
    """Return 400 items in 8 clusters; users like two items of one cluster."""
    random = np.random.default_rng(0)
    cluster = np.arange(400) % 8
    rows = np.eye(12)[cluster] + 0.15 * random.standard_normal((400, 12))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    trigger = random.integers(0, 400, 3000)
    target = (trigger + 8 * random.integers(1, 50, 3000)) % 400
    pairs = Pairs(trigger, target, np.arange(3000))
    positives = random.integers(0, 50, 400)
    return Catalog("eight", np.arange(400), rows, positives, {"co-clicks": pairs}, None, 8, None)


def in_clusters(catalog, seed=0):
    cluster = np.arange(400) % 8
    codes = np.stack([cluster, np.random.default_rng(seed).integers(0, 8, 400)], axis=1)
    return Codes(codes, [8, 8], None, True, 0.0)


def test_codes_of_the_planted_clusters_are_told_from_random_ones(catalog):
    good, bad = measure(catalog, in_clusters(catalog)), measure(catalog, random_codes(catalog, 0))

    assert good["co-clicks share_1"] == 1.0
    assert good["co-clicks lift_1"] == pytest.approx(8, rel=0.05)
    assert good["co-clicks matched_1"] == pytest.approx(8, rel=0.35)  # of ten items each
    assert good["co-clicks beats"] > 0.9
    assert good["explained_by_sums"] > 0.7
    assert good["neighbors"] > 0.95
    assert bad["co-clicks lift_1"] == pytest.approx(1, abs=0.2)
    assert bad["co-clicks beats"] == pytest.approx(0.5, abs=0.03)
    assert bad["neighbors"] < 0.35  # 100 of 399
    assert (good["bits"], bad["bits"]) == (6.0, 9.0)


def test_sums_of_means_decode_each_level_from_what_is_left():
    rows = np.array([[0.0], [2.0], [10.0], [12.0]], np.float32)

    decoded = sums_of_means(rows, np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))

    assert decoded.ravel().tolist() == [0.0, 2.0, 10.0, 12.0]
    assert explained_variance(rows, sums_of_means(rows, np.zeros((4, 1), int))) == 0.0
    # Means of 1 and 11 leave 4 of 104.
    assert explained_variance(rows, sums_of_means(rows, np.array([[0], [0], [1], [1]]))) == pytest.approx(100 / 104)


def test_items_as_popular_are_near_the_target_in_popularity_and_neither_end(catalog):
    items, real = as_popular(catalog.positives, catalog.pairs["co-clicks"])
    pairs = catalog.pairs["co-clicks"]

    away = np.abs(catalog.positives[items] - catalog.positives[pairs.target][:, None])

    assert away.max() <= 3
    assert not (real & ((items == pairs.target[:, None]) | (items == pairs.trigger[:, None]))).any()
    assert real.sum(axis=1).min() >= 9


def test_lifts_are_those_of_the_command(spark, catalog):
    from qarm_features.evaluation.matched_prefixes import matched_prefixes
    from qarm_features.evaluation.popularity import matched_items

    pairs, codes = catalog.pairs["co-clicks"], in_clusters(catalog).codes
    rows = [(number, int(a), int(b)) for number, (a, b) in enumerate(zip(pairs.trigger, pairs.target))]
    frame = spark.createDataFrame(rows, "pair long, trigger_item_id long, target_item_id long")
    liked = spark.createDataFrame(list(enumerate(catalog.positives.tolist())), "item_id long, positives long")
    ids = spark.createDataFrame(list(enumerate(codes.tolist())), "item_id long, rq_codes array<int>")

    found = matched_prefixes(frame, matched_items(frame, liked, seed=0), ids, num_levels=2)

    own = lifts(catalog, codes, pairs)
    assert own["matched_1"] == pytest.approx(1 / found["share_1"].mean(), rel=0.05)  # ties in popularity are drawn
    assert own["beats"] == pytest.approx(found["beaten"].mean(), abs=0.01)


def test_codes_without_an_order_are_near_by_all_that_they_share(catalog):
    product = Codes(np.stack([np.arange(400) // 8, np.arange(400) % 8], axis=1), [50, 8], None, True, 0.0)

    assert neighbors_kept(catalog.embeddings, product._replace(ordered=False)) > 0.95
    assert neighbors_kept(catalog.embeddings, product) < 0.4


def test_opq_decodes_what_faiss_packed(catalog):
    found = opq(catalog, 0)

    assert found.codes.shape == (400, 3)
    assert found.codes.max() < 8
    assert explained_variance(catalog.embeddings, found.decoded) > 0.5
    # Its code books are those of three blocks of a rotation, so one code says one block exactly.
    assert explained_variance(found.decoded, sums_of_means(found.decoded, found.codes)) == pytest.approx(1, abs=0.05)


def test_an_rq_vae_finds_clusters_and_uses_its_codes(catalog):
    codes, decoded = fit_rq_vae(catalog.embeddings, num_levels=2, codebook_size=8, seed=0, steps=300)

    assert len(np.unique(codes[:, 0])) == 8
    assert explained_variance(catalog.embeddings, decoded) > 0.6
    cluster = np.arange(400) % 8
    pure = max(np.bincount(cluster[codes[:, 0] == code], minlength=8).max() for code in range(8))
    assert pure >= 40


def test_halved_sizes_have_as_many_bits():
    assert [halved_sizes(size) for size in (8, 64, 256)] == [[8, 4, 2, 2, 2, 2], [64, 32, 16, 8], [256, 128, 64, 8]]


def test_hashed_ids_never_change_and_random_codes_do(catalog):
    assert np.array_equal(hashed_ids(catalog, 0).codes, hashed_ids(catalog, 1).codes)
    assert not np.array_equal(random_codes(catalog, 0).codes, random_codes(catalog, 1).codes)


def test_later_positives_are_paired_with_the_moment_before_and_with_their_basket():
    import pandas as pd

    start = pd.Timestamp("2024-01-01")
    times = [start + pd.Timedelta(hours=hour) for hour in (0, 1, 1, 2, 1)]
    log = pd.DataFrame({"user": [1, 1, 1, 1, 2], "item_id": [5, 6, 7, 8, 5], "time": times})

    pairs, positives = _pairs_and_positives(log, np.array([5, 6, 7, 8]), start + pd.Timedelta(hours=1))

    both = set(zip(pairs["co-clicks"].trigger.tolist(), pairs["co-clicks"].target.tolist()))
    assert both in ({(0, 1), (0, 2), (1, 3)}, {(0, 1), (0, 2), (2, 3)})  # 6 and 7 have no order
    assert set(zip(pairs["together"].trigger.tolist(), pairs["together"].target.tolist())) == {(1, 2), (2, 1)}
    assert positives.tolist() == [1, 0, 0, 0]


def test_figures_are_kept_and_a_winner_needs_two_standard_errors(tmp_path):
    results = Results(tmp_path / "figures.jsonl")
    for seed in range(3):
        results.add("c", "residual k-means", seed, {"auc": 0.70 + 0.001 * seed, "explained": 0.5 + 0.1 * seed})
        results.add("c", "RQ-VAE", seed, {"auc": 0.72 + 0.001 * seed, "explained": 0.5 + 0.1 * (2 - seed)})

    again = Results(tmp_path / "figures.jsonl")

    assert again.has("c", "RQ-VAE", 2, "auc")
    assert not again.has("c", "RQ-VAE", 2, "bits")
    assert not again.has("c", "RQ-VAE", 3, "auc")
    assert list(winners(again.of("c"))) == ["RQ-VAE beats residual k-means in AUC: +0.0200, 0.0000 standard error"]
    assert "| RQ-VAE | 0.600 ± 0.100 | 0.7210 ± 0.0010 |" in list(table(again.of("c")))
