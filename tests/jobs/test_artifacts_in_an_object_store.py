"""A whole run with its artifacts in an object store, and what a second machine finds there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qarm_features.explorer.store import Explorer
from qarm_features.feature_store import SemanticIDReader
from qarm_features.feature_store.publishing.release_manifest import published_releases
from qarm_features.jobs.build_explorer import build_explorer
from qarm_features.jobs.command import run_job
from qarm_features.jobs.find_nearest_items import find_nearest_items
from qarm_features.jobs.skipping import changed_inputs, inputs, record_run
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.objects import any_path
from qarm_features.storage.tables import TABLE_BY_NAME
from qarm_features.telemetry.stage_log import last_runs
from tests.s3_server import KEYS
from tests.toy_catalog import SETTINGS, all_jobs, open_project, write_toy_project

READ_VERSIONS = ("embed_items", "fit_codebooks", "assign_semantic_ids", "find_nearest_items")
KINDS = ("encoders", "codebooks", "ranking_models", "banks")


def run_all(context, jobs) -> None:
    for job in jobs:
        seen = inputs(job, context.settings)
        record_run(job, context.settings, seen, run_job(job, context), 1.0)


def versions(settings) -> dict[str, list[tuple[int, str]]]:
    kinds = {kind: Artifacts(settings.artifacts_path, kind) for kind in KINDS}
    return {kind: [(n, found.get(n).content_hash) for n in found.versions()] for kind, found in kinds.items()}


def table_versions(context) -> dict[str, int | None]:
    return {name: context.warehouse.data_version(table) for name, table in TABLE_BY_NAME.items()}


@pytest.mark.slow
def test_a_run_in_an_object_store_is_found_by_a_machine_that_has_nothing(
    reached_by_executors, spark, tmp_path, monkeypatch
):
    uri, jobs = f"{reached_by_executors}/shop", all_jobs()
    jobs.insert([job.name for job in jobs].index("fit_codebooks"), find_nearest_items)
    jobs.append(build_explorer)
    first = open_project(write_toy_project(tmp_path / "first"), spark)
    yaml = tmp_path / "first" / "qarm.yaml"
    yaml.write_text(f"artifacts: {uri}\nnearest_items: {{k: 3, exact_up_to: 10}}\n{SETTINGS}")
    first = open_project(tmp_path / "first", spark)

    run_all(first, jobs)
    made, tables = versions(first.settings), table_versions(first)

    second_folder = tmp_path / "second"
    shutil.copytree(tmp_path / "first" / "catalog", second_folder / "catalog")
    places = {name: tmp_path / "first" / name for name in ("data", "feature_repo")}
    places = f"warehouse: {places['data']}\nfeature_repo: {places['feature_repo']}\n"
    (second_folder / "qarm.yaml").write_text(places + yaml.read_text())
    monkeypatch.setenv("QARM_CACHE_DIR", str(tmp_path / "other_cache"))
    second = open_project(second_folder, spark)
    changed = {job.name: changed_inputs(job, second.settings) for job in jobs}
    run_all(second, [job for job in jobs if changed[job.name] != () or job.name in READ_VERSIONS])

    assert {kind: [n for n, _ in found] for kind, found in made.items()} == {
        "encoders": [0], "codebooks": [0], "ranking_models": [0, 1], "banks": [0],
    }  # fmt: skip
    assert set(changed.values()) == {()}
    assert (versions(second.settings), table_versions(second)) == (made, tables)
    assert [release.codebook_version for release in published_releases(second.settings)] == [0]
    assert Explorer.latest(second.settings.artifacts_path).item("63")["item"]["title"].startswith("court")
    assert set(last_runs(second.settings)) == {job.name for job in jobs}
    codes = SemanticIDReader(repo_path=tmp_path / "first" / "feature_repo").item_codes([0, 63, 99])
    assert (codes.found.tolist(), codes.codebook_version) == ([True, True, False], 0)
    assert not (tmp_path / "first" / "artifacts").exists()
    assert list((tmp_path / "cache_of_executors").rglob("shard-*.arrow")) != []
    objects = {one.name: (any_path(uri) / one.name).read_bytes() for one in any_path(uri).objects()}
    assert not [name for name in objects if "/.draft-" in name]
    assert not [n for n, content in objects.items() if any(key.encode() in content for key in KEYS.values())]


def test_uri_of_a_store_that_is_not_known_is_refused_before_anything_runs(tmp_path, spark):
    from qarm_features.settings.load import SettingsError

    folder = write_toy_project(tmp_path)
    (folder / "qarm.yaml").write_text(f"artifacts: hdfs://name/shop\n{SETTINGS}")

    with pytest.raises(SettingsError, match=r"artifacts is 'hdfs://name/shop': .* must begin with one of s3://"):
        open_project(folder, spark)
    assert Path(tmp_path, "qarm.yaml").is_file()
