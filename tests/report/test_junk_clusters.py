"""Prefixes that say little about their items are found, each with its reason."""

from __future__ import annotations

import pytest

from qarm_features.report.junk_clusters import junk_clusters

ITEMS = "item_id long, title string, text string, content_hash string, image_uri string"
MEDIA = ("image", "audio", "audio_uri", "precomputed")


def catalog(spark, rows):
    items = spark.createDataFrame(rows, ITEMS)
    return items.selectExpr("*", *[f"CAST(NULL AS binary) AS {name}" for name in MEDIA])


def found(spark, items, codes):
    coded = spark.createDataFrame(list(codes.items()), "item_id long, rq_codes array<int>")
    return junk_clusters(coded, catalog(spark, items), num_levels=2)


@pytest.fixture(scope="module")
def clusters(spark):
    empty = [(i, None, " .-!", "e", None) for i in (0, 1, 2)]
    alike = [(10, "Lamp", "a lamp", "a", None), (11, None, "A LAMP!", "b", None), (12, "Desk", "a desk", "c", None)]
    pictured = [(i, f"picture {i}", "", f"p{i}", f"{i}.png") for i in (20, 21, 22)]
    plain = [(i, f"title {i}", f"text number {i}", f"h{i}", None) for i in (30, 31, 32)]
    codes = {i: [i // 10, 0] for i in (0, 1, 2, 10, 11, 12, 20, 21, 22)} | {30: [3, 0], 31: [3, 1], 32: [3, 2]}
    return found(spark, empty + alike + pictured + plain, codes)


def test_items_without_content_and_items_of_the_same_content_are_named_and_others_are_not(clusters):
    assert [(one["prefix"], one["items"], one["no_content"], one["same_content"]) for one in clusters] == [
        ([0], 3, 3, 3),
        ([1], 3, 0, 2),
    ]
    assert clusters[0]["reasons"] == ["items without content", "items with the same content"]
    assert clusters[1]["reasons"] == ["items with the same content"]


def test_a_junk_cluster_has_a_few_titles(clusters):
    assert sorted(clusters[1]["titles"]) == ["A LAMP!", "Desk", "Lamp"]


def test_a_prefix_with_far_more_items_than_others_is_named(spark):
    items = [(i, None, f"text number {i}", f"h{i}", None) for i in range(60)]
    codes = {i: [0 if i < 40 else i, i] for i in range(60)}

    (cluster,) = found(spark, items, codes)

    assert (cluster["prefix"], cluster["items"]) == ([0], 40)
    assert cluster["reasons"] == ["far more items than other prefixes of its length"]
    assert len(cluster["titles"]) == 3
