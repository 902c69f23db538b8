"""A view in Redis is counted and deleted in every topology. Other views in the same hashes stay."""

from __future__ import annotations

import time

import pytest
from feast.protos.feast.types.Value_pb2 import Value

from qarm_features.feature_store.publishing.online_counts import count_online_rows
from qarm_features.feature_store.publishing.redis_views import delete_rows
from qarm_features.feature_store.reading.reader import SemanticIDReader
from tests.feature_store.redis_server import RedisServer
from tests.feature_store.redis_topologies import one_server_cluster, sentinel, tls_server
from tests.feature_store.stock_store import add_release, flip, stock_store

ITEMS = {item: [item, item % 7] for item in range(300)}
NAMES = {f"film-{item} é*[": codes for item, codes in ITEMS.items()}
RATE = 100_000


@pytest.fixture(params=["cluster", "sentinel", "TLS and a password"])
def online_store(request, tmp_path):
    """The section ``online_store`` of ``feature_store.yaml``."""
    section = {"type": "redis", "skip_dedup": True}
    if request.param == "cluster":
        with one_server_cluster(tmp_path / "cluster") as address:
            yield section | {"redis_type": "redis_cluster", "connection_string": address}
    elif request.param == "sentinel":
        (tmp_path / "redis").mkdir()
        master = RedisServer(tmp_path / "redis")
        master.start()
        with sentinel(tmp_path / "sentinel", master.port) as address:
            names = {"redis_type": "redis_sentinel", "sentinel_master": "mymaster"}
            yield section | names | {"connection_string": address}
        master.stop(keep=False)
    else:
        with tls_server(tmp_path / "tls", "s3cret") as connection_string:
            yield section | {"connection_string": connection_string}


@pytest.mark.parametrize("rows", [ITEMS, NAMES], ids=["integer IDs", "string IDs"])
def test_a_view_is_counted_and_deleted_and_its_neighbor_stays(tmp_path, online_store, rows):
    folder = tmp_path / "project"
    store = stock_store(folder, online_store, rows)
    add_release(store, folder, 1, rows)
    flip(store, folder, 1, rows)
    old, new = (store.get_feature_view(f"item_semantic_id__cb{version}") for version in (0, 1))
    of_version = {"codebook_version": Value(int32_val=0).SerializeToString()}

    assert count_online_rows(store.config, old, of_version, RATE) == {"rq_codes": 300, "codebook_version": 300}
    assert count_online_rows(store.config, new, of_version, RATE) == {"rq_codes": 300, "codebook_version": 0}
    assert delete_rows(store.config, old, RATE) == 300
    assert delete_rows(store.config, old, RATE) == 0
    assert count_online_rows(store.config, old, {}, RATE) == {"rq_codes": 0, "codebook_version": 0}
    assert SemanticIDReader(folder / "feature_repo").item_codes(list(rows)).codes.tolist() == list(rows.values())


def test_no_more_keys_are_looked_at_in_a_second_than_was_said(tmp_path, redis_server):
    redis = {"type": "redis", "connection_string": redis_server.connection_string, "skip_dedup": True}
    store = stock_store(tmp_path, redis, ITEMS)
    view = store.get_feature_view("item_semantic_id__cb0")
    redis_server.client().mset({f"other-{n}": n for n in range(2_500)})
    started = time.monotonic()

    counts = count_online_rows(store.config, view, {}, 10_000)

    assert counts == {"rq_codes": 300, "codebook_version": 300}
    assert time.monotonic() - started >= 0.28  # 2,800 keys at 10,000 keys per second
