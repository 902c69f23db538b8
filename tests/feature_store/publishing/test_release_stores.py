"""Releases in the registries and stores of a cluster: PostgreSQL for both, and Redis. Credentials are never logged."""

from __future__ import annotations

import logging

import psycopg
import pytest
import yaml

from qarm_features.feature_store import SemanticIDReader
from qarm_features.feature_store.publishing.release_list import release_lines
from qarm_features.feature_store.publishing.releases import (
    ReleaseError,
    promote_release,
    publish_release,
    verify_release,
)
from qarm_features.feature_store.publishing.retirement import retire_release, rows_to_retire
from qarm_features.feature_store.views.feature_views import open_feature_store
from tests.feature_store.postgres_server import PASSWORD
from tests.feature_store.two_versions import release, write_two_versions


@pytest.mark.slow
def test_postgres_holds_registry_and_rows_through_a_flip_and_a_retirement(spark, postgres_server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    database = postgres_server.new_database()
    url, rows = postgres_server.registry_url(database), postgres_server.online_store(database)
    context = write_two_versions(tmp_path, spark, registry=url, online_store=rows)
    settings = context.settings
    publish_release(spark, settings, release(0))
    publish_release(spark, settings, release(1), promote=False)
    reader = SemanticIDReader(settings.feature_repo_path)
    before = reader.item_codes([1, 2, 9])

    promote_release(settings, 1)
    reader._store.refresh_registry()
    after = reader.item_codes([1, 2, 9])

    assert (before.codes.tolist(), before.codebook_version) == ([[0, 1], [0, 2], [-1, -1]], 0)
    assert (after.codes.tolist(), after.codebook_version) == ([[1, 1], [1, 2], [-1, -1]], 1)
    verify_release(spark, settings, 1)
    with psycopg.connect(postgres_server.conninfo(database), autocommit=True) as connection:
        connection.execute("DELETE FROM \"qarm_item_semantic_id__cb1\" WHERE feature_name = 'rq_codes'")
        with pytest.raises(ReleaseError, match="has 0 rows with rq_codes in the online store, must have 3"):
            verify_release(spark, settings, 1)
        assert rows_to_retire(settings, 0) == {"item_semantic_id__cb0": 3}
        retire_release(settings, 0)
        found = connection.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'qarm_item_semantic_id__cb0'")
        assert found.fetchone()[0] == 0
        lease = connection.execute("SELECT * FROM qarm_publisher_lease").fetchall()
    written = [path.read_text() for path in settings.artifacts_path.rglob("*.json")]
    for text in (caplog.text, str(release_lines(settings)), str(lease), *written):
        assert PASSWORD not in text


@pytest.mark.slow
def test_redis_loses_the_fields_of_the_retired_view_and_no_others(spark, redis_server, tmp_path):
    redis = {"type": "redis", "connection_string": redis_server.connection_string, "skip_dedup": True}
    settings = write_two_versions(tmp_path, spark, online_store=redis).settings
    client = redis_server.client()
    publish_release(spark, settings, release(1))
    alone = {key: client.hgetall(key) for key in client.scan_iter()}
    publish_release(spark, settings, release(0))
    promote_release(settings, 1)
    (some,) = [key for key in alone if len(client.hgetall(key)) == 6][:1]
    client.hset(some + b"2", mapping=client.hgetall(some))  # an item of another project whose name has the same ending
    verify_release(spark, settings, 0)
    assert rows_to_retire(settings, 0) == {"item_semantic_id__cb0": 3}

    retire_release(settings, 0)

    other = client.hgetall(some + b"2")
    client.delete(some + b"2")
    assert len(other) == 6
    assert {key: client.hgetall(key) for key in client.scan_iter()} == alone
    client.hset(some, next(name for name in alone[some] if not name.startswith(b"_ts")), b"")
    with pytest.raises(ReleaseError, match="item_semantic_id__cb1 has 2 rows with"):
        verify_release(spark, settings, 1)


def test_credentials_come_from_the_environment_and_a_missing_one_is_named(settings, postgres_server, monkeypatch):
    repo = settings.feature_repo_path
    production = (repo / "feature_store.production.yaml").read_text()
    (repo / "feature_store.yaml").write_text(production)
    monkeypatch.setenv("QARM_REDIS", "127.0.0.1:6379,password=a#b: 1")
    with pytest.raises(
        ValueError,
        match="feature_store.yaml names the variable QARM_REGISTRY_URL, which is not set. Run: export QARM_REGISTRY_URL",
    ):
        open_feature_store(repo)

    url = postgres_server.registry_url(postgres_server.new_database())
    monkeypatch.setenv("QARM_REGISTRY_URL", url)
    store = open_feature_store(repo)

    assert store.list_feature_views() == []
    assert store.config.online_store.connection_string == "127.0.0.1:6379,password=a#b: 1"
    assert yaml.safe_load(production)["registry"]["path"] == "${QARM_REGISTRY_URL}"
