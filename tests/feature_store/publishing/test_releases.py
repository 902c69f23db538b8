"""Readers see a whole release or the one before it. The expected values come from stock Feast."""

from __future__ import annotations

import pytest

from qarm_features.feature_store.publishing import loading, planning, releases, verification
from qarm_features.feature_store.publishing.gone_rows import GoneRows
from qarm_features.feature_store.publishing.release_list import release_lines
from qarm_features.feature_store.publishing.releases import (
    ReleaseError,
    definitions,
    promoted_release,
    publish_release,
    published_releases,
)
from qarm_features.feature_store.reading.reader import SemanticIDReader
from qarm_features.feature_store.views.feature_views import open_feature_store, release_view
from qarm_features.jobs.publish_features import publish_features
from tests.feature_store.two_versions import release, write_two_versions


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory, spark):
    return write_two_versions(tmp_path_factory.mktemp("versions"), spark)


def test_a_flip_moves_readers_that_follow_the_service_and_not_those_that_pin_a_version(two_versions):
    settings = two_versions.settings
    publish_release(two_versions.spark, settings, release(0))
    follows = SemanticIDReader(settings.feature_repo_path)
    pinned = SemanticIDReader(settings.feature_repo_path, "item_semantic_id__cb0")
    assert follows.item_codes([2, 9, 2]).codes.tolist() == [[0, 2], [-1, -1], [0, 2]]

    publish_release(two_versions.spark, settings, release(1))
    follows._store.refresh_registry()

    batch = follows.item_codes([2, 9, 2])
    assert batch.codes.tolist() == [[1, 2], [-1, -1], [1, 2]]
    assert batch.found.tolist() == [True, False, True]
    assert batch.codebook_version == 1
    assert pinned.item_codes([2]).codes.tolist() == [[0, 2]]
    assert [r.codebook_version for r in published_releases(settings)] == [0, 1]
    assert promoted_release(settings).codebook_version == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 4}, "item_semantic_ids holds 3 rows of 3 items for codebook version 1, must hold 4 rows"),
        ({"codebook_size": 3}, r"1 semantic IDs are null or not 2 codes in \[0, 3\), must be none"),
        ({"num_levels": 3}, r"3 semantic IDs are null or not 3 codes in \[0, 4\), must be none"),
    ],
)
def test_a_release_that_is_not_whole_is_not_published(two_versions, change, message):
    publish_release(two_versions.spark, two_versions.settings, release(0))

    with pytest.raises(ReleaseError, match=message):
        publish_release(two_versions.spark, two_versions.settings, release(1, **change))

    assert SemanticIDReader(two_versions.settings.feature_repo_path).item_codes([1]).codebook_version == 0


def test_a_publisher_that_dies_at_any_step_leaves_the_old_release_and_the_next_one_finishes(two_versions, monkeypatch):
    settings = two_versions.settings
    publish_release(two_versions.spark, settings, release(0))
    reader = SemanticIDReader(settings.feature_repo_path)
    steps = [(planning, "check_codes"), (loading, "materialize"), (GoneRows, "delete"), (verification, "check_count")]
    for module, step in [*steps, (verification, "check_served"), (releases, "_flip")]:
        with monkeypatch.context() as patched:
            patched.setattr(module, step, _die)
            with pytest.raises(KeyboardInterrupt):
                publish_release(two_versions.spark, settings, release(1))
        reader._store.refresh_registry()
        assert reader.item_codes([1, 2, 3]).codes.tolist() == [[0, 1], [0, 2], [0, 3]], step

    publish_release(two_versions.spark, settings, release(1))
    reader._store.refresh_registry()
    assert reader.item_codes([1, 2, 3]).codes.tolist() == [[1, 1], [1, 2], [1, 3]]


def _die(*_, **__):
    raise KeyboardInterrupt


def test_a_wrong_value_in_the_online_store_stops_the_flip(two_versions, monkeypatch):
    settings = two_versions.settings
    publish_release(two_versions.spark, settings, release(0))
    load = loading.materialize

    def load_and_damage(store, views, moment):
        load(store, views, moment)
        import sqlite3

        with sqlite3.connect(settings.feature_repo_path / "online_store.db") as online:
            other = "SELECT value FROM qarm_item_semantic_id__cb0 WHERE feature_name = 'rq_codes' LIMIT 1"
            online.execute(f"UPDATE qarm_item_semantic_id__cb1 SET value = ({other}) WHERE feature_name = 'rq_codes'")

    monkeypatch.setattr(loading, "materialize", load_and_damage)
    with pytest.raises(
        ReleaseError, match=r"item_semantic_id__cb1 serves rq_codes = \[0, \d\] for item_id = \d, must be \[1, \d\]"
    ):
        publish_release(two_versions.spark, settings, release(1))

    assert promoted_release(settings).codebook_version == 0


def test_feast_apply_of_the_feature_repo_changes_nothing(project):
    store = open_feature_store(project.settings.feature_repo_path)
    before = {v.name: v for v in store.list_feature_views()}, {s.name: s for s in store.list_feature_services()}

    store.apply(definitions(project.settings.feature_repo_path.parent / "qarm.yaml"))

    after = {v.name: v for v in store.list_feature_views()}, {s.name: s for s in store.list_feature_services()}
    assert set(before[0]) == {"item_semantic_id__cb0", "user_behavior", "user_impressions", "item_counters"}
    assert before == after


def test_a_dry_run_of_the_job_prints_a_line_per_view_and_changes_nothing(project, capsys):
    before = release_lines(project.settings)

    counts = publish_features(project, dry_run=True)

    assert counts.remark == "nothing was changed"
    assert release_lines(project.settings) == before
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "item_semantic_id__cb0: 64 rows would be written, 0 keys that left would be deleted"
    assert [line.split(":")[0] for line in lines[1:]] == ["user_behavior", "user_impressions", "item_counters"]


def test_a_view_holds_only_its_own_codebook_version(two_versions):
    view = release_view(two_versions.settings, release(1))

    rows = two_versions.spark.sql(view.batch_source.query).collect()

    assert {r["codebook_version"] for r in rows} == {1}
    assert len(rows) == 3


@pytest.mark.slow
def test_publishing_again_serves_new_items_and_moves_no_published_id(fresh_project):
    import pandas as pd

    from tests.toy_catalog import all_jobs

    jobs = {job.name: job for job in all_jobs()}
    first = (
        "ingest_catalog",
        "embed_items",
        "fit_codebooks",
        "assign_semantic_ids",
        "build_user_behavior",
        "publish_features",
    )
    for name in first:
        jobs[name](fresh_project)
    reader = SemanticIDReader(fresh_project.settings.feature_repo_path)
    before = reader.item_codes(list(range(64))).codes.tolist()
    catalog = fresh_project.settings.feature_repo_path.parent / "catalog" / "items.parquet"
    items = pd.read_parquet(catalog)
    items.loc[5, "plot"] = "something else altogether"
    new = pd.DataFrame({"item_id": [64], "title": ["sea part five"], "plot": ["pirates sail the ocean"]})
    pd.concat([items, new]).to_parquet(catalog, index=False)

    for name in first:
        jobs[name](fresh_project)

    reader = SemanticIDReader(fresh_project.settings.feature_repo_path)
    after = reader.item_codes(list(range(65)))
    assert after.codes[:64].tolist() == before
    assert bool(after.found[64])
    assert after.codebook_version == 0


def test_without_codebooks_publishing_says_what_to_run(fresh_project):
    with pytest.raises(
        ValueError,
        match="No codebooks were fitted with the settings codebooks and seed of qarm.yaml. Run: qarm fit-codebooks",
    ):
        publish_features(fresh_project)


def test_a_file_registry_is_refused(tmp_path):
    (tmp_path / "feature_store.yaml").write_text("project: a\nprovider: local\nregistry: registry.db\n")
    with pytest.raises(ValueError, match="registry_type in feature_store.yaml is file, must be sql"):
        open_feature_store(tmp_path)
    with pytest.raises(ValueError, match="feature_repo is .*, must be a folder with feature_store.yaml"):
        open_feature_store(tmp_path / "none")
