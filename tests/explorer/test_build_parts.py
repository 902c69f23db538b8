"""The parts of the explorer's data, on a few rows: moves, history, words, samples, places, pictures."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from qarm_features.encoders.media_limits import ImageLimits
from qarm_features.explorer.computing.catalog import release_items, shown_items
from qarm_features.explorer.computing.item_map import place, principal_components
from qarm_features.explorer.computing.pictures import small_picture, small_pictures
from qarm_features.explorer.computing.releases import PastRelease, compare, past_ids, were_published
from qarm_features.explorer.computing.tree import collisions, prefixes
from qarm_features.explorer.computing.words import distinguishing_words
from qarm_features.feature_store.publishing.release_manifest import ReleaseManifest, write_manifest
from qarm_features.feature_store.views.feature_views import Release

LIMITS = ImageLimits((), 1_000_000, 1_000_000, 64, 100_000_000, 10.0)


def past(spark, version, codes):
    rows = spark.createDataFrame(list(codes.items()), "item_id string, rq_codes array<int>")
    return PastRelease(SimpleNamespace(view_name=f"view{version}", codebook_version=version), None, rows)


@pytest.fixture(scope="module")
def releases(spark):
    now = past(spark, 1, {"kept": [0, 1], "moved": [5, 1], "sibling": [0, 3], "new": [2, 2]})
    before = past(spark, 0, {"kept": [0, 1], "moved": [0, 2], "sibling": [0, 2], "gone": [7, 7]})
    return now, before


def test_a_release_is_compared_with_the_one_before(releases):
    now, before = releases

    moves = compare(before, now)

    assert moves == {
        "before": "view0", "now": "view1", "items_in_both": 3, "kept": 1, "new_items": 1, "gone_items": 1,
        "branches": [
            {
                "prefix": "0", "items": 3, "kept": pytest.approx(1 / 3), "kept_first": pytest.approx(2 / 3),
                "to": [("0", 2), ("5", 1)],
            }
        ],
    }  # fmt: skip


def test_the_first_release_moves_nothing(releases):
    moves = compare(None, releases[0])

    assert (moves["before"], moves["new_items"], moves["branches"]) == (None, 4, [])


def test_the_history_of_an_item_has_a_place_for_every_release(releases):
    history = {row["item_id"]: row["history"] for row in past_ids(list(releases)).collect()}

    assert history == {
        "kept": ["0.1", "0.1"],
        "moved": ["5.1", "0.2"],
        "sibling": ["0.3", "0.2"],
        "new": ["2.2", None],
        "gone": [None, "7.7"],
    }


def test_a_release_that_was_never_verified_is_not_in_the_history(settings):
    made = {"encoder_version": 0, "num_levels": 2, "codebook_size": 4, "delta_version": 0, "rows": 1}
    states = {0: "retired", 1: "verified", 2: "loading"}
    for version, state in states.items():
        write_manifest(settings, ReleaseManifest(Release(codebook_version=version, **made), state=state))

    assert [manifest.release.codebook_version for manifest in were_published(settings)] == [0, 1]


@pytest.fixture(scope="module")
def rows(spark):
    """Six items, of which the last left the catalog, two have equal contents and one has no title."""
    codes = [("a", [0, 0]), ("b", [0, 0]), ("c", [0, 1]), ("d", [1, 0]), ("e", [1, 0]), ("f", [1, 1])]
    items = [
        ("a", "The ship", "the captain of the ship", "h1"),
        ("b", "The ship", "the captain of the ship", "h1"),
        ("c", "The sea", "the ship at sea", "h2"),
        ("d", " ", "the rocket " + "and the stars " * 10, "h3"),
        ("e", None, "the rocket", "h4"),
    ]
    log = [(1, "a", 1), (2, "a", 1), (1, "b", 0), (1, "d", 1)]
    codes = spark.createDataFrame(codes, "item_id string, rq_codes array<int>")
    items = spark.createDataFrame(items, "item_id string, title string, text string, content_hash string")
    log = spark.createDataFrame(log, "user_id long, item_id string, label int")
    return release_items(codes, items, log, seed=0).persist()


def test_an_item_without_a_title_has_the_start_of_its_text(rows):
    found = {row["item_id"]: (row["title"], row["positives"]) for row in rows.collect()}

    assert found == {
        "a": ("The ship", 2),
        "b": ("The ship", 0),
        "c": ("The sea", 0),
        "d": (("the rocket " + "and the stars " * 10)[:60] + "…", 1),
        "e": ("the rocket", 0),
        "f": ("", 0),
    }


def test_collisions_with_equal_contents_are_told_from_the_others(rows):
    found = [(row["rq_codes"], row["items"], row["equal_contents"]) for row in collisions(rows).collect()]

    assert found == [([0, 0], 2, 2), ([1, 0], 2, 0)]


def test_the_words_of_a_prefix_are_those_that_its_siblings_lack(rows):
    tree = prefixes(rows, num_levels=2)
    words = distinguishing_words(rows, tree, num_levels=2).collect()

    found = {tuple(row["prefix"]): row["words"] for row in words}
    assert found[0,][0] == "ship"
    assert found[1,][0] == "rocket"
    assert "the" not in found[0,] + found[1,]  # all items with a text have it


def test_a_sample_is_drawn_by_the_hash_of_the_item(spark):
    ids = spark.range(10_000).withColumnRenamed("id", "item_id").selectExpr("item_id", "xxhash64(item_id) AS item_hash")

    found = {row["item_id"] for row in shown_items(ids, items=10_000, max_items=1_000).collect()}
    larger = {row["item_id"] for row in shown_items(ids, items=10_000, max_items=2_000).collect()}

    assert 850 < len(found) < 1_150
    assert found < larger


def test_two_maps_of_one_seed_are_equal_and_keep_clusters_together():
    random = np.random.default_rng(0)
    embeddings = np.repeat(np.eye(3, 8), 20, axis=0) + 0.05 * random.normal(size=(60, 8))

    places, method = place(embeddings.astype(np.float32), seed=1)

    assert np.array_equal(places, place(embeddings.astype(np.float32), seed=1)[0])
    assert method.startswith("t-SNE of the item embeddings")
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(60) * 1e9
    assert np.array_equal(distances.argmin(axis=1) // 20, np.arange(60) // 20)


def test_without_opentsne_the_map_has_principal_components_and_says_so(monkeypatch):
    from sklearn.decomposition import PCA

    monkeypatch.setattr("qarm_features.explorer.computing.item_map.find_spec", lambda name: None)
    embeddings = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)

    places, method = place(embeddings, seed=0)

    assert method == "The first two principal components of the item embeddings, because openTSNE is not installed."
    assert np.abs(places) == pytest.approx(np.abs(PCA(2).fit_transform(embeddings)), abs=1e-3)
    assert principal_components(np.zeros((0, 4), np.float32)).shape == (0, 2)


@pytest.fixture(scope="module")
def png():
    file = io.BytesIO()
    Image.new("RGB", (300, 100), (200, 10, 10)).save(file, "PNG")
    return file.getvalue()


def test_a_picture_is_made_small_and_a_broken_one_is_left_out(png):
    picture = Image.open(io.BytesIO(small_picture(png, LIMITS, 128)))

    assert (picture.format, picture.size) == ("JPEG", (128, 43))
    assert small_picture(png[:60], LIMITS, 128) is None
    assert small_picture("../secret.png", LIMITS, 128) is None


def test_executors_make_the_pictures_of_the_items_that_have_an_image(spark, png):
    items = [("good", png, None), ("broken", png[:60], None), ("none", None, None), ("outside", None, "../secret.png")]
    items = spark.createDataFrame(items, "item_id string, image binary, image_uri string")

    found = {row["item_id"]: bytes(row["picture"]) for row in small_pictures(items, limits=LIMITS, side=64).collect()}

    assert found == {"good": small_picture(png, LIMITS, 64)}
