"""What cannot be followed is said before a file is taken up."""

from __future__ import annotations

import pytest
import yaml

from qarm_features.feature_store.publishing.release_manifest import ReleaseError
from qarm_features.following.source_files import FollowError, arriving_files
from qarm_features.jobs.follow import follow
from qarm_features.jobs.project_lock import ProjectBusy, held_besides
from qarm_features.settings.load import SettingsError, load_settings


def test_a_project_without_a_release_has_nothing_to_follow(fresh_project):
    with pytest.raises(ReleaseError, match="No release is promoted. Run: qarm publish-features"):
        follow(fresh_project, once=True)


def test_a_catalog_that_is_no_files_is_refused(settings, spark):
    config = settings.feature_repo_path.parent / "qarm.yaml"
    config.write_text(config.read_text().replace("path: catalog/items.parquet", "table: shop.items"))
    tables = load_settings(config)

    with pytest.raises(FollowError, match="items.format is table, must be parquet, csv or jsonl.* Run for other"):
        arriving_files(spark, tables)


def test_a_pause_must_be_above_zero(fresh_project):
    with pytest.raises(ValueError, match="--trigger-seconds is -1, must be above 0. Use --once"):
        follow(fresh_project, trigger_seconds=-1)


def test_an_engine_that_writes_no_single_rows_is_refused(followed):
    file = followed.folder / "feature_repo" / "feature_store.yaml"
    config = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**config, "batch_engine": {"type": "spark.engine"}}))

    with pytest.raises(
        ReleaseError, match=r"batch_engine in feature_store.yaml is spark.engine, must be qarm_features"
    ):
        followed.follow()


def test_a_job_that_writes_the_same_tables_cannot_run_beside_it(followed):
    settings = followed.context.settings

    with (
        held_besides(settings, "qarm embed-items", ["embed_items"]),
        pytest.raises(ProjectBusy, match="qarm embed-items runs in this project since"),
    ):
        followed.follow()


def test_a_release_that_is_being_loaded_is_not_followed(followed):
    import dataclasses

    from qarm_features.feature_store.publishing.release_manifest import require_manifest, write_manifest

    settings = followed.context.settings
    write_manifest(settings, dataclasses.replace(require_manifest(settings, 0), state="loading"))

    with pytest.raises(
        ReleaseError, match="The release of codebook version 0 is loading, must be verified. Run: qarm pub"
    ):
        followed.follow()


def test_the_checkpoint_is_a_folder_of_this_machine(settings):
    config = settings.feature_repo_path.parent / "qarm.yaml"

    with pytest.raises(SettingsError, match="follow.checkpoint is 's3://bucket/x': must be a folder of this machine"):
        load_settings(config, follow={"checkpoint": "s3://bucket/x"})
