"""Item embeddings, VQ codes and embeddings of users are published with a release, as the tables hold them."""

from __future__ import annotations

import contextlib
import sqlite3

import numpy as np
import pytest
from pyspark.sql import functions as F

from qarm_features.feature_store.publishing.releases import ReleaseError, definitions, promote_release, publish_release
from qarm_features.feature_store.publishing.retirement import retire_release, rows_to_retire
from qarm_features.feature_store.publishing.vector_checks import _checked, vectors_to_publish
from qarm_features.feature_store.reading.reader import MixedReleaseError
from qarm_features.feature_store.reading.vector_reader import VectorReader
from qarm_features.feature_store.views.feature_views import Release, open_feature_store
from qarm_features.feature_store.views.vector_views import (
    PublishedVectors,
    record_vectors,
    release_views,
    vector_services,
)
from qarm_features.settings.load import load_settings
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS, ITEM_SEMANTIC_IDS

PUBLISHING = """
publishing:
  embeddings: true
  nearest_items: true
  user_embeddings: {path: users.parquet, user_id: uid, embedding: vec, event_timestamp: at}
"""
RANDOM = np.random.default_rng(0)
VECTORS = {
    (version, item): RANDOM.normal(size=8).astype(np.float32).tolist() for version in (0, 1) for item in (1, 2, 3)
}
EMBEDDINGS = "item_id long, embedding array<float>, content_hash string, encoder_version int"
NEAREST = "item_id long, vq_codes array<long>, vq_similarities array<float>, bank_version int, encoder_version int"
HALF = float(np.float32(0.1))


def release(version):
    return Release(
        codebook_version=version, encoder_version=version, num_levels=2, codebook_size=4, delta_version=0, rows=3
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory, spark):
    """A project with items 1 to 3 in codebook and encoder versions 0, which are published, and 1, which are not yet."""
    from tests.toy_catalog import SETTINGS, open_project, write_toy_project

    folder = write_toy_project(tmp_path_factory.mktemp("vectors"))
    (folder / "qarm.yaml").write_text(SETTINGS + PUBLISHING)
    context = open_project(folder, spark)
    ids = [(item, [version, item], version, version) for version in (0, 1) for item in (1, 2, 3)]
    codes = spark.createDataFrame(ids, "item_id long, rq_codes array<int>, codebook_version int, encoder_version int")
    context.warehouse.append(ITEM_SEMANTIC_IDS, codes.withColumn("event_timestamp", F.timestamp_seconds(F.lit(0))))
    rows = [(item, vector, "hash", version) for (version, item), vector in VECTORS.items()]
    context.warehouse.append(ITEM_EMBEDDINGS, spark.createDataFrame(rows, EMBEDDINGS))
    near = [(1, [2, 3], [0.5, 0.1], 0, 0), (2, [1], [0.5], 0, 0), (1, [3], [0.25], 1, 1)]
    nearest = spark.createDataFrame(near, NEAREST).withColumn("event_timestamp", F.timestamp_seconds(F.lit(0)))
    context.warehouse.append(ITEM_NEAREST_ITEMS, nearest)
    users = [(7, [9.0, 9.0], 10), (7, [0.1, 0.2], 20), (8, [0.3, 0.4], 15)]
    users = spark.createDataFrame(users, "uid int, vec array<double>, at long")
    users.withColumn("at", F.timestamp_seconds("at")).write.parquet(str(folder / "users.parquet"))
    publish_release(spark, context.settings, release(0))
    return context


def test_vectors_are_read_bit_for_bit_as_the_tables_hold_them(published):
    reader = VectorReader(published.settings.feature_repo_path)

    batch = reader.item_vectors([3, 999, 1, 3])

    assert batch.vectors.tolist() == [VECTORS[0, 3], [0.0] * 8, VECTORS[0, 1], VECTORS[0, 3]]
    assert batch.found.tolist() == [True, False, True, True]
    assert batch.encoder_version == 0
    assert reader.item_vectors([]).vectors.shape == (0, 8)
    assert reader.item_vectors([999]).vectors.shape == (1, 8)


def test_nearest_items_are_padded_at_the_end(published):
    batch = VectorReader(published.settings.feature_repo_path).nearest_items([2, 999, 1])

    assert batch.mask.tolist() == [[True, False], [False, False], [True, True]]
    assert batch.item_ids[batch.mask.numpy()].tolist() == [1, 2, 3]
    assert batch.similarities.tolist() == [[0.5, 0.0], [0.0, 0.0], [0.5, HALF]]
    assert batch.found.tolist() == [True, False, True]
    assert batch.bank_version == 0


def test_the_newest_vector_of_a_user_is_served_as_float32(published):
    batch = VectorReader(published.settings.feature_repo_path).user_vectors([8, 999, 7])

    assert batch.vectors.tolist() == np.float32([[0.3, 0.4], [0, 0], [0.1, 0.2]]).tolist()
    assert batch.found.tolist() == [True, False, True]


def test_stock_feast_serves_the_same_under_the_views_and_under_the_services(published):
    store = open_feature_store(published.settings.feature_repo_path)

    by_view = store.get_online_features(["item_embedding__enc0:embedding"], entity_rows=[{"item_id": 2}]).to_dict()
    by_service = store.get_online_features(
        store.get_feature_service("item_nearest_items"), entity_rows=[{"item_id": 1}]
    ).to_dict()

    assert by_view["embedding"] == [VECTORS[0, 2]]
    assert (by_service["vq_codes"], by_service["bank_version"]) == ([[2, 3]], [0])


@pytest.mark.slow
def test_a_flip_moves_vectors_with_the_codes_and_feast_apply_leaves_them(published):
    settings, spark = published.settings, published.spark
    pinned = VectorReader(
        settings.feature_repo_path, embeddings="item_embedding__enc0", nearest_items="item_nearest_items__bank0"
    )

    publish_release(spark, settings, release(1))

    follows = VectorReader(settings.feature_repo_path)
    assert follows.item_vectors([1]).vectors.tolist() == [VECTORS[1, 1]]
    assert (follows.item_vectors([1]).encoder_version, follows.nearest_items([1]).bank_version) == (1, 1)
    assert pinned.item_vectors([1]).vectors.tolist() == [VECTORS[0, 1]]
    assert pinned.nearest_items([1]).item_ids.tolist() == [[2, 3]]
    store = open_feature_store(settings.feature_repo_path)
    before = {v.name: v for v in store.list_feature_views()}, {s.name: s for s in store.list_feature_services()}
    store.apply(definitions(settings.feature_repo_path.parent / "qarm.yaml"))
    after = {v.name: v for v in store.list_feature_views()}, {s.name: s for s in store.list_feature_services()}
    assert before == after
    assert set(before[1]) == {"item_semantic_id", "item_embedding", "item_nearest_items"}
    promote_release(settings, 0)


def test_a_row_of_another_encoder_is_refused(published, monkeypatch):
    reader = VectorReader(published.settings.feature_repo_path)
    other = reader._store.get_feature_view("item_embedding__enc0")
    other.tags["encoder_version"] = "5"
    monkeypatch.setattr(reader._embeddings, "current", lambda: other)

    with pytest.raises(MixedReleaseError, match=r"item_embedding__enc0 served encoder_version \[0\], must be 5 alone"):
        reader.item_vectors([1])
    other.tags |= {"encoder_version": "0", "dim": "4"}
    with pytest.raises(MixedReleaseError, match="served 8 numbers for a vector, must be 4"):
        reader.item_vectors([1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "There is no row of encoder_version = 5"),
        ([(1, [0.5, float("nan")])], "1 rows of encoder_version = 5 have embedding null, empty or not finite"),
        ([(1, [0.5, None])], "1 rows of encoder_version = 5 have embedding null, empty or not finite"),
        ([(1, [0.5, 0.5]), (2, [0.5])], "embedding of encoder_version = 5 has 1 to 2 numbers, must have the same"),
        ([(1, [0.5]), (1, [0.6])], "2 rows of encoder_version = 5 have 1 keys, must have one row per key"),
    ],
)
def test_vectors_that_would_be_served_wrongly_are_not_published(spark, rows, message):
    frame = spark.createDataFrame(rows, "item_id long, embedding array<float>")

    with pytest.raises(ReleaseError, match=message):
        _checked(frame, "embedding", "encoder_version = 5")


def test_vq_codes_must_be_there_before_they_are_published(published):
    other = Release(codebook_version=9, encoder_version=9, num_levels=2, codebook_size=4, delta_version=0, rows=3)
    store = open_feature_store(published.settings.feature_repo_path)
    settings = load_settings(
        published.settings.feature_repo_path.parent / "qarm.yaml",
        publishing={"embeddings": False, "nearest_items": True},
    )
    with pytest.raises(ReleaseError, match="item_nearest_items has no row with encoder_version = 9"):
        vectors_to_publish(published.spark, settings, store, other)


@pytest.mark.slow
def test_a_retired_release_takes_its_own_vectors_along_and_no_others(published):
    settings = published.settings
    publish_release(published.spark, settings, release(1))
    promote_release(settings, 0)
    own = ["item_semantic_id__cb1", "item_embedding__enc1", "item_nearest_items__bank1"]

    counts = rows_to_retire(settings, 1)
    gone = retire_release(settings, 1)

    assert counts == dict(zip(own, [3, 3, 1]))
    assert sorted(gone) == sorted(own)
    with contextlib.closing(sqlite3.connect(settings.feature_repo_path / "online_store.db")) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert not tables & {f"qarm_{name}" for name in own}
    reader = VectorReader(settings.feature_repo_path)
    assert reader.item_vectors([1]).vectors.tolist() == [VECTORS[0, 1]]
    assert reader.nearest_items([2]).item_ids.tolist() == [[1]]
    assert reader.user_vectors([7]).found.tolist() == [True]
    views = {view.name for view in open_feature_store(settings.feature_repo_path).list_feature_views()}
    assert views == {"item_semantic_id__cb0", "item_embedding__enc0", "item_nearest_items__bank0", "user_embedding"}


def test_an_earlier_bank_stays_readable_and_the_service_names_the_newest(settings):
    vectors = PublishedVectors(0, bank_version=2, nearest_at=7, older_banks=((1, 5),))
    record_vectors(settings, vectors)

    views = {view.name: view.batch_source.query for view in release_views(settings, release(0))}

    assert set(views) == {"item_semantic_id__cb0", "item_nearest_items__bank2", "item_nearest_items__bank1"}
    assert "VERSION AS OF 5 WHERE bank_version = 1" in views["item_nearest_items__bank1"]
    (service,) = vector_services(settings, vectors)
    assert service.feature_view_projections[0].name == "item_nearest_items__bank2"


def test_vectors_that_are_not_published_are_named(settings):
    reader = VectorReader(settings.feature_repo_path)

    with pytest.raises(ValueError, match="service is item_embedding, must be a feature service or view of qarm"):
        reader.item_vectors([1])
    with pytest.raises(ValueError, match="timeout is 0, must be above 0 seconds"):
        VectorReader(settings.feature_repo_path, timeout=0)
