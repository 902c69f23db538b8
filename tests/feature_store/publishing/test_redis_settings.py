"""Settings of Redis that would serve something untrue: rows that are kept, keys that expire, a server without memory."""

from __future__ import annotations

import time

import pytest
import yaml
from pyspark.sql import functions as F

from qarm_features.cli.doctor import checks
from qarm_features.feature_store import SemanticIDReader
from qarm_features.feature_store.publishing.releases import ReleaseError, publish_release, verify_release
from qarm_features.feature_store.store_errors import OnlineStoreError
from qarm_features.jobs.publish_features import publish_features
from qarm_features.jobs.skipping import inputs
from qarm_features.jobs.states import UNKNOWN
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS, USER_BEHAVIOR
from tests.feature_store.two_versions import release, write_two_versions


@pytest.fixture
def project(spark, tmp_path, redis_server):
    """A project in Redis, before anything is published."""
    redis = {"type": "redis", "connection_string": redis_server.connection_string, "skip_dedup": True}
    return write_two_versions(tmp_path / "project", spark, online_store=redis)


def set_online_store(context, **options) -> None:
    """Changes the section online_store of feature_store.yaml; None takes an option away."""
    file = context.settings.feature_repo_path / "feature_store.yaml"
    config = yaml.safe_load(file.read_text())
    store = config["online_store"] | options
    config["online_store"] = {key: value for key, value in store.items() if value is not None}
    file.write_text(yaml.safe_dump(config))


def redis_check(context):
    config = context.settings.feature_repo_path.parent / "qarm.yaml"
    return next(check for check in checks(config) if check.name == "Redis").run()


@pytest.mark.slow
def test_a_retracted_event_is_gone_online_and_a_store_that_would_keep_it_is_refused(project):
    two = project.spark.createDataFrame([(7, [1], 11), (7, [1, 3], 21)], "user_id long, items array<long>, at long").select(
        "user_id", F.col("items").alias("behavior_item_ids"), F.col("items").alias("behavior_timestamps"),
        F.timestamp_seconds("at").alias("event_timestamp"),
    )  # fmt: skip
    project.warehouse.overwrite(USER_BEHAVIOR, two)
    publish_release(project.spark, project.settings, release(0))
    project.warehouse.overwrite(USER_BEHAVIOR, two.where(F.size("behavior_item_ids") == 1))
    set_online_store(project, skip_dedup=False)

    for refused in ({"skip_dedup": False}, {"skip_dedup": None}):  # Feast's default is false
        set_online_store(project, **refused)
        with pytest.raises(
            ReleaseError, match=r"skip_dedup in feature_store.yaml is false, must be true\. .* retracted"
        ):
            publish_release(project.spark, project.settings, release(0))

    set_online_store(project, skip_dedup=True)
    publish_release(project.spark, project.settings, release(0))
    reader = SemanticIDReader(project.settings.feature_repo_path)
    assert reader.behavior_codes([7]).item_ids.tolist() == [[1]]


def row_keys(client) -> list[bytes]:
    """Returns the keys of rows, without the mark of the project, which never expires."""
    return [key for key in client.scan_iter() if not key.startswith(b"qarm_project:")]


@pytest.mark.slow
def test_a_publication_renews_keys_that_expire_and_the_job_is_never_skipped(project, redis_server):
    client = redis_server.client()
    set_online_store(project, key_ttl_seconds=1_000)
    published = publish_release(project.spark, project.settings, release(0))
    before = {client.ttl(key) for key in row_keys(client)}
    state = inputs(publish_features, project.settings)
    set_online_store(project, key_ttl_seconds=9_000)
    publish_release(project.spark, project.settings, release(0))
    renewed = {client.ttl(key) for key in row_keys(client)}
    set_online_store(project, key_ttl_seconds=None)

    publish_release(project.spark, project.settings, release(0))

    assert max(before) <= 1_000
    assert min(renewed) > 8_000
    assert {client.ttl(key) for key in row_keys(client)} == {-1}
    assert "all keys expire in 1,000 s (key_ttl_seconds) unless they are published again before" in published.remark
    assert UNKNOWN in state.values()
    assert UNKNOWN not in inputs(publish_features, project.settings).values()


def test_a_changed_online_store_is_another_input_of_the_job_and_no_password_is_kept(project):
    before = inputs(publish_features, project.settings)
    set_online_store(project, connection_string="elsewhere:6379,username=ann,password=s3cret")
    after = inputs(publish_features, project.settings)

    assert before != after
    assert "s3cret" not in str(after)
    assert "elsewhere" in str(after)


def test_keys_that_expired_are_named_by_verify_and_by_doctor(project, redis_server):
    set_online_store(project, key_ttl_seconds=5_000)
    publish_release(project.spark, project.settings, release(0))
    alive = redis_check(project)
    client = redis_server.client()
    for key in client.scan_iter():
        client.pexpire(key, 1)
    time.sleep(0.1)

    with pytest.raises(
        ReleaseError, match="Keys expire 5,000 s after they were written, because key_ttl_seconds is set. Run: "
    ):
        verify_release(project.spark, project.settings, 0)
    expired = redis_check(project)

    assert alive.state == "ok"
    assert (
        "keys expire 5,000 s after a publication (key_ttl_seconds), the first of item_semantic_id__cb0 in "
        in alive.found
    )
    assert expired.state == "failed"
    assert "Redis holds no row of item_semantic_id__cb0, which is served" in expired.found


def test_a_redis_without_memory_ends_in_one_line_that_names_it(project, redis_server):
    rows = project.spark.range(20_000).selectExpr(
        "id AS item_id", "array(0, 1) AS rq_codes", "0 AS codebook_version", "0 AS encoder_version",
        "timestamp_seconds(0) AS event_timestamp",
    )  # fmt: skip
    project.warehouse.overwrite(ITEM_SEMANTIC_IDS, rows)
    client = redis_server.client()
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 400_000)

    with pytest.raises(OnlineStoreError, match="OOM command not allowed") as raised:
        publish_release(project.spark, project.settings, release(0, rows=20_000, delta_version=1))

    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"The online store (Redis at 127.0.0.1:{redis_server.port}) failed: OOM command not allowed")
    assert "Raise maxmemory of the server" in line


@pytest.mark.parametrize(
    ("setting", "value", "cause", "remedy"),
    [
        (
            "requirepass",
            "s3cret",
            "Authentication required|NOAUTH|HELLO must be called",
            "Set password= in connection_string",
        ),
        ("replicaof", "127.0.0.1 1", "read only replica|READONLY|MASTERDOWN", "Name the primary server"),
    ],
)
def test_a_redis_that_refuses_is_told_in_one_line(project, redis_server, setting, value, cause, remedy):
    publish_release(project.spark, project.settings, release(0))
    file = project.settings.feature_repo_path / "feature_store.yaml"
    config = yaml.safe_load(file.read_text())
    config["batch_engine"]["retry_seconds"] = 0.2
    file.write_text(yaml.safe_dump(config))
    client = redis_server.client()
    client.execute_command(
        *(["REPLICAOF", *value.split()] if setting == "replicaof" else ["CONFIG", "SET", setting, value])
    )

    with pytest.raises(OnlineStoreError, match=cause) as raised:
        publish_release(project.spark, project.settings, release(0))

    assert len(str(raised.value).splitlines()) == 1
    assert remedy in str(raised.value)
    if setting == "requirepass":
        with pytest.raises(OnlineStoreError, match=remedy):
            verify_release(project.spark, project.settings, 0)
