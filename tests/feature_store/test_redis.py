"""A release on a real Redis server is loaded by executors, read back, promoted and read as tensors."""

from __future__ import annotations

import shutil

import yaml

from qarm_features.feature_store import SemanticIDReader
from qarm_features.feature_store.publishing.releases import promoted_release, publish_release
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS


def test_the_same_release_is_served_from_redis(project, redis_server, tmp_path):
    repo = tmp_path / "feature_repo"
    shutil.copytree(project.settings.feature_repo_path, repo, ignore=shutil.ignore_patterns("*.db*"))
    config = yaml.safe_load((repo / "feature_store.yaml").read_text())
    config["registry"]["path"] = f"sqlite:///{repo}/registry.db"
    config["online_store"] = {"type": "redis", "connection_string": redis_server.connection_string, "skip_dedup": True}
    (repo / "feature_store.yaml").write_text(yaml.safe_dump(config))
    settings = project.settings.model_copy(update={"feature_repo": str(repo)})
    settings._folder = project.settings._folder

    publish_release(project.spark, settings, promoted_release(project.settings))

    table = {r["item_id"]: r["rq_codes"] for r in project.warehouse.read(ITEM_SEMANTIC_IDS).collect()}
    batch = SemanticIDReader(repo).item_codes([0, 63, 999])
    assert batch.codes.tolist() == [table[0], table[63], [-1, -1]]
    sqlite = SemanticIDReader(project.settings.feature_repo_path)
    assert SemanticIDReader(repo).behavior_codes([3]).codes.tolist() == sqlite.behavior_codes([3]).codes.tolist()


def test_what_a_server_held_is_there_after_a_restart(redis_server):
    redis_server.client().set("item", 7)

    redis_server.stop()
    redis_server.start()

    assert redis_server.client().get("item") == b"7"
