"""Every way of reading returns the values of stock Feast's ``get_online_features`` on the same store."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from qarm_features.feature_store.reading.online_rows import open_online_rows
from qarm_features.feature_store.reading.reader import AsyncSemanticIDReader, SemanticIDReader
from tests.feature_store.redis_server import RedisServer
from tests.feature_store.redis_topologies import one_server_cluster, sentinel
from tests.feature_store.stock_store import add_release, flip, stock_store

ITEMS = {item: [item % 256, item % 7, item % 1000] for item in range(300)}
NAMES = {f"film-{item} é": codes for item, codes in ITEMS.items()}
BEHAVIORS = {7: ([5, 9, 299], [100, 200, 300]), 8: ([], [])}


@pytest.fixture(params=["redis", "sqlite", "any other store"])
def online_store(request, tmp_path):
    """The section ``online_store`` of ``feature_store.yaml``. "any other store" is read through Feast."""
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        return {"type": "redis", "connection_string": server.connection_string, "skip_dedup": True}
    kind = "sqlite" if request.param == "sqlite" else "feast.infra.online_stores.sqlite.SqliteOnlineStore"
    return {"type": kind, "path": str(tmp_path / "online.db")}


def stock_codes(store, ids, levels=3):
    """Returns the codes that stock Feast serves, -1 where it serves none."""
    rows = store.get_online_features(store.get_feature_service("item_semantic_id"), entity_rows={"item_id": ids})
    return [codes or [-1] * levels for codes in rows.to_dict()["rq_codes"]]


@pytest.mark.parametrize(("rows", "absent"), [(ITEMS, 999), (NAMES, "film-x")], ids=["integer IDs", "string IDs"])
def test_item_codes_are_those_of_stock_feast(tmp_path, online_store, rows, absent):
    store = stock_store(tmp_path, online_store, rows)
    asked = [*list(rows)[:40], absent, list(rows)[3]]

    batch = SemanticIDReader(tmp_path / "feature_repo").item_codes(asked)

    assert batch.codes.tolist() == stock_codes(store, asked)
    assert batch.codes.tolist() == [rows.get(item, [-1, -1, -1]) for item in asked]
    assert batch.found.tolist() == [item in rows for item in asked]


def test_each_way_of_reading_is_used_where_it_should_be(tmp_path, online_store):
    config = stock_store(tmp_path, online_store, ITEMS).config

    rows = open_online_rows(config, None)

    expected = {"redis": "RedisRows", "sqlite": "SqliteRows"}.get(online_store["type"], "FeastRows")
    assert type(rows).__name__ == expected


def test_an_asyncio_reader_gives_the_same_to_many_tasks(tmp_path, online_store):
    history = {"impressions": {7: ([5, 9], [1, 0], [100, 200], 1, 2)}, "counters": {2: (4, 6)}}
    store = stock_store(tmp_path, online_store, ITEMS, BEHAVIORS, **history)

    async def read():
        reader = AsyncSemanticIDReader(tmp_path / "feature_repo", timeout=30.0)
        batches = await asyncio.gather(*[reader.item_codes([start, 999, start + 1]) for start in range(20)])
        both = await reader.user_and_candidates(7, [1, 2], max_impressions=5)
        users = await reader.behavior_codes([8, 7])
        await reader.close()
        return batches, both, users

    batches, both, users = asyncio.run(read())

    for start, batch in enumerate(batches):
        assert batch.codes.tolist() == stock_codes(store, [start, 999, start + 1])
    assert both.behavior.codes[0].tolist() == stock_codes(store, [5, 9, 299])
    assert both.candidates.codes.tolist() == stock_codes(store, [1, 2])
    assert (both.impressions.labels.tolist(), both.counters.tolist()) == ([[1, 0]], [[1, 2, 0, 0], [1, 2, 4, 6]])
    assert users.mask.tolist() == [[False] * 3, [True] * 3]


def test_a_user_and_candidates_take_two_round_trips_and_each_item_is_asked_for_once(tmp_path, online_store):
    stock_store(tmp_path, online_store, ITEMS, BEHAVIORS)
    reader = SemanticIDReader(tmp_path / "feature_repo")
    asked, fetch = [], reader._rows.fetch
    reader._rows.fetch = lambda query: asked.append(query.ids) or fetch(query)

    both = reader.user_and_candidates(7, [9, 4, 999, 4], max_length=2)

    assert asked == [[7], [9, 299, 4, 999]]
    assert both.behavior.item_ids.tolist() == [[9, 299]]
    assert both.behavior.timestamps.tolist() == [[200, 300]]
    assert both.behavior.codes.tolist() == [[ITEMS[9], ITEMS[299]]]
    assert both.candidates.codes.tolist() == [ITEMS[9], ITEMS[4], [-1, -1, -1], ITEMS[4]]
    assert both.candidates.found.tolist() == [True, True, False, True]


@pytest.mark.parametrize("rows", [ITEMS, NAMES], ids=["integer IDs", "string IDs"])
def test_impressions_and_counters_are_those_of_stock_feast(tmp_path, online_store, rows):
    items = list(rows)
    shown = {7: (items[3:8], [1, 0, 0, 1, 1], [10, 20, 30, 40, 50], 3, 9), 8: ([], [], [], 0, 0)}
    counters = {item: (place, 2 * place + 1) for place, item in enumerate(items[:20])}
    behaviors = {7: (items[5:7], [100, 200])}
    store = stock_store(tmp_path, online_store, rows, behaviors, impressions=shown, counters=counters)
    asked = [items[4], items[250], items[4], items[1]]

    reader = SemanticIDReader(tmp_path / "feature_repo", cache_items=100)
    read = reader.user_and_candidates(7, asked, max_impressions=3)
    nobody = reader.user_and_candidates(999, asked, max_impressions=3)

    names = [f"user_impressions:{name}" for name in ("impression_item_ids", "impression_labels", "user_positive_count")]
    stock = store.get_online_features(names, entity_rows=[{"user_id": 7}]).to_dict()
    assert read.impressions.item_ids.tolist() == [stock["impression_item_ids"][0][-3:]]
    assert read.impressions.labels.tolist() == [stock["impression_labels"][0][-3:]]
    assert read.impressions.timestamps.tolist() == [[30, 40, 50]]
    assert read.impressions.codes[0].tolist() == stock_codes(store, items[5:8])
    assert read.counters[:, 0].tolist() == stock["user_positive_count"] * 4
    assert read.counters.tolist() == [[3, 9, 4, 9], [3, 9, 0, 0], [3, 9, 4, 9], [3, 9, 1, 3]]
    assert read.candidates.codes.tolist() == stock_codes(store, asked)
    assert read.behavior.codes[0].tolist() == stock_codes(store, items[5:7])
    assert (nobody.impressions.codes.shape, nobody.behavior.codes.shape) == ((1, 0, 3), (1, 0, 3))
    assert nobody.counters.tolist() == [[0, 0, 4, 9], [0, 0, 0, 0], [0, 0, 4, 9], [0, 0, 1, 3]]


def test_impressions_that_are_not_published_are_named(tmp_path):
    stock_store(tmp_path, {"type": "sqlite", "path": str(tmp_path / "online.db")}, ITEMS)
    reader = SemanticIDReader(tmp_path / "feature_repo")

    with pytest.raises(ValueError, match="has no view user_impressions. Set behavior.impression_length"):
        reader.user_and_candidates(7, [1], max_impressions=3)
    with pytest.raises(ValueError, match="max_impressions is -1, must be at least 0"):
        reader.user_and_candidates(7, [1], max_impressions=-1)


def test_ids_may_be_an_array_or_a_tensor(tmp_path, online_store):
    stock_store(tmp_path, online_store, ITEMS)

    batch = SemanticIDReader(tmp_path / "feature_repo").item_codes(np.array([3, 3, 4]))

    assert batch.codes.tolist() == [ITEMS[3], ITEMS[3], ITEMS[4]]


def test_a_reader_of_any_store_follows_a_flip_and_a_pinned_one_stays(tmp_path, online_store):
    store = stock_store(tmp_path, online_store, ITEMS, cache_seconds=1)
    newer = {item: [1, 1, 1] for item in ITEMS}
    add_release(store, tmp_path, 1, newer)
    follows = SemanticIDReader(tmp_path / "feature_repo", cache_items=100)
    pinned = SemanticIDReader(tmp_path / "feature_repo", "item_semantic_id__cb0")
    assert follows.item_codes([3]).codes.tolist() == [ITEMS[3]]

    flip(store, tmp_path, 1, newer)
    time.sleep(1.1)

    batch = follows.item_codes([3])
    assert (batch.codes.tolist(), batch.codebook_version) == ([[1, 1, 1]], 1)
    assert pinned.item_codes([3]).codes.tolist() == [ITEMS[3]]


def test_expired_keys_are_missing_as_for_stock_feast(tmp_path, redis_server):
    settings = {"type": "redis", "connection_string": redis_server.connection_string, "key_ttl_seconds": 1}
    store = stock_store(tmp_path, settings, ITEMS)
    reader = SemanticIDReader(tmp_path / "feature_repo")
    assert reader.item_codes([3, 4]).found.all()

    time.sleep(1.2)

    assert stock_codes(store, [3, 4]) == [[-1, -1, -1]] * 2
    assert not reader.item_codes([3, 4]).found.any()


def test_more_ids_than_sqlite_takes_variables_are_read_in_parts(tmp_path):
    stock_store(tmp_path, {"type": "sqlite", "path": str(tmp_path / "online.db")}, ITEMS)

    batch = SemanticIDReader(tmp_path / "feature_repo").item_codes(range(40_000))

    assert batch.found.nonzero().flatten().tolist() == list(range(300))
    assert batch.codes[:300].tolist() == list(ITEMS.values())


def test_a_password_and_a_database_number_pass_through(tmp_path):
    server = RedisServer(tmp_path, password="s3cret")
    server.start()
    try:
        connection = f"{server.connection_string},db=2,password=s3cret"
        store = stock_store(tmp_path, {"type": "redis", "connection_string": connection}, ITEMS)

        batch = SemanticIDReader(tmp_path / "feature_repo", timeout=5.0).item_codes([3])

        assert batch.codes.tolist() == stock_codes(store, [3])
    finally:
        server.stop(keep=False)


def test_a_cluster_is_read_by_slots_and_a_sentinel_is_asked_for_its_master(tmp_path, redis_server):
    with (
        one_server_cluster(tmp_path / "cluster") as cluster,
        sentinel(tmp_path / "sentinel", redis_server.port) as watcher,
    ):
        for kind, address in (("redis_cluster", cluster), ("redis_sentinel", watcher)):
            settings = {"type": "redis", "redis_type": kind, "connection_string": address, "skip_dedup": True}
            folder = tmp_path / kind
            store = stock_store(folder, settings, ITEMS)

            batch = SemanticIDReader(folder / "feature_repo", timeout=5.0).item_codes([3, 999, 4])
            by_asyncio = asyncio.run(read_by_asyncio(folder / "feature_repo", [3, 999, 4]))

            assert batch.codes.tolist() == stock_codes(store, [3, 999, 4])
            assert by_asyncio.codes.tolist() == batch.codes.tolist()


async def read_by_asyncio(repo, item_ids):
    reader = AsyncSemanticIDReader(repo)
    batch = await reader.item_codes(item_ids)
    await reader.close()
    return batch
