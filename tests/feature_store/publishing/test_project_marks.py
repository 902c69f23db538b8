"""A project's views and rows are its own: a second project of the same name is refused by name, and told the way out."""

from __future__ import annotations

import shutil
import sqlite3
import sys

import pytest
import yaml
from feast import repo_operations
from feast.repo_config import load_repo_config

from qarm_features.feature_store.feast_internals import postgres_connection, redis_client
from qarm_features.feature_store.publishing.online_mark import mark, marked_by
from qarm_features.feature_store.publishing.ownership import TAG, ForeignProjectError, Ownership, adopt_project
from qarm_features.feature_store.publishing.release_list import release_lines
from qarm_features.feature_store.publishing.releases import (
    definitions,
    preview_release,
    promote_release,
    publish_release,
    roll_back,
    verify_release,
)
from qarm_features.feature_store.publishing.retirement import retire_release, rows_to_retire
from qarm_features.feature_store.reading.reader import SemanticIDReader
from qarm_features.feature_store.views.feature_views import open_feature_store
from qarm_features.settings.load import load_settings
from qarm_features.storage.project_fingerprint import find_fingerprint, project_fingerprint
from tests.feature_store.two_versions import release, write_two_versions


@pytest.fixture(params=["redis", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sqlite", "postgres"))])
def online_store(request, tmp_path):
    """The section ``online_store`` of two projects."""
    if request.param == "sqlite":
        return {"type": "sqlite", "path": str(tmp_path / "shared.db")}
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        return {"type": "redis", "skip_dedup": True, "connection_string": server.connection_string}
    server = request.getfixturevalue("postgres_server")
    return server.online_store(server.new_database())


@pytest.fixture(scope="module")
def neighbors(tmp_path_factory, spark):
    """Two projects that were given one registry and one online store; the first one has published releases 0 and 1."""
    folder = tmp_path_factory.mktemp("neighbors")
    shared = {
        "registry": f"sqlite:///{folder}/registry.db",
        "online_store": {"type": "sqlite", "path": f"{folder}/rows.db"},
    }
    first = write_two_versions(folder / "first", spark, **shared)
    second = write_two_versions(folder / "second", spark, **shared)
    publish_release(spark, first.settings, release(1))
    publish_release(spark, first.settings, release(0))
    shutil.copytree(first.settings.artifacts_path / "releases", second.settings.artifacts_path / "releases")
    return first, second


def registered(settings) -> dict[str, dict]:
    """Returns the tags of everything in the registry."""
    store = open_feature_store(settings.feature_repo_path)
    kinds = ("entities", "feature_views", "feature_services", "data_sources")
    found = [one for kind in kinds for one in getattr(store.registry, f"list_{kind}")(store.project)]
    return {f"{type(one).__name__} {one.name}": one.tags for one in found if one.name != "__dummy"}


def test_everything_that_is_published_carries_the_fingerprint_of_its_project(neighbors):
    settings = neighbors[0].settings
    own = find_fingerprint(settings.warehouse_path, settings.artifacts_path, name="data")

    tags = registered(settings)

    assert own is not None
    assert {name.split()[0] for name in tags} == {"Entity", "FeatureView", "FeatureService", "SparkSource"}
    assert {tag.get(TAG) for tag in tags.values()} == {own}
    assert marked_by(open_feature_store(settings.feature_repo_path).config) == own


def test_every_command_of_a_second_project_is_refused_by_name_and_changes_nothing(neighbors):
    first, second = neighbors
    spark, settings = second.spark, second.settings
    before, rows = registered(first.settings), sqlite_tables(first)
    config = settings.feature_repo_path.parent / "qarm.yaml"
    commands = {
        "publish": lambda: publish_release(spark, settings, release(0)),
        "preview": lambda: preview_release(spark, settings, release(0)),
        "promote": lambda: promote_release(settings, 1),
        "roll back": lambda: roll_back(settings),
        "verify": lambda: verify_release(spark, settings, 1),
        "retire": lambda: retire_release(settings, 1, force=True),
        "count": lambda: rows_to_retire(settings, 1, force=True),
        "feast apply": lambda: definitions(config),
    }

    for name, command in commands.items():
        with pytest.raises(ForeignProjectError) as told:
            command()
        assert "of the Feast project qarm belongs to another project (" in str(told.value), name
        assert f"Set another project: in {settings.feature_repo_path}/feature_store.yaml" in str(told.value), name

    assert registered(first.settings) == before
    assert sqlite_tables(first) == rows
    assert SemanticIDReader(first.settings.feature_repo_path).item_codes([1, 2]).codes.tolist() == [[0, 1], [0, 2]]
    assert [line.state for line in release_lines(settings)] == ["foreign", "foreign"]


def sqlite_tables(context) -> dict[str, int]:
    store = open_feature_store(context.settings.feature_repo_path)
    with sqlite3.connect(store.config.online_store.path) as rows:
        names = [name for (name,) in rows.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: rows.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}


def test_a_second_project_without_the_registry_is_refused_by_the_mark_online(spark, tmp_path, online_store):
    first = write_two_versions(tmp_path / "first", spark, online_store=online_store)
    second = write_two_versions(tmp_path / "second", spark, online_store=online_store)
    publish_release(spark, first.settings, release(0))

    with pytest.raises(
        ForeignProjectError, match=r"Another project \(\w{16}\) publishes to this .* store under the name qarm"
    ):
        publish_release(spark, second.settings, release(1))

    store = open_feature_store(second.settings.feature_repo_path)
    assert store.list_feature_views() == []
    own = Ownership.found(first.settings, store)
    adopt_project(second.settings, own.fingerprint)
    assert Ownership.found(second.settings, store).fingerprint == own.fingerprint
    assert mark(store.config, "another") == own.fingerprint  # a mark that is there stays
    Ownership.found(second.settings, store).require([])  # and the project that continues the first one passes


@pytest.mark.slow
def test_rows_that_an_earlier_version_wrote_for_another_project_are_not_overwritten(spark, tmp_path, online_store):
    first = write_two_versions(tmp_path / "first", spark, online_store=online_store)
    second = write_two_versions(tmp_path / "second", spark, online_store=online_store)
    publish_release(spark, first.settings, release(0))
    config = open_feature_store(first.settings.feature_repo_path).config
    forget_mark(config)

    with pytest.raises(ForeignProjectError, match="store holds rows of item_semantic_id__cb0 under the name qarm, and"):
        publish_release(spark, second.settings, release(0))
    with pytest.raises(ForeignProjectError, match="store holds rows of user_behavior under the name qarm") as told:
        publish_release(spark, second.settings, release(1))

    assert marked_by(config) is None
    own = find_fingerprint(second.settings.warehouse_path, second.settings.artifacts_path, name="data")
    assert str(told.value).endswith(f"its registry was lost, run: qarm release adopt {own}")
    adopt_project(second.settings, own)
    assert marked_by(config) == own
    publish_release(spark, second.settings, release(0))


def forget_mark(config) -> None:
    """Takes the mark of the project out of the store, as an earlier version of this package left it."""
    if config.online_store.type == "redis":
        with redis_client(config.online_store) as client:
            assert client.delete("qarm_project:qarm") == 1
    elif config.online_store.type == "sqlite":
        with sqlite3.connect(config.online_store.path) as rows:
            rows.execute("DROP TABLE qarm_project")
    else:
        with postgres_connection(config) as rows:
            rows.execute("DROP TABLE qarm_project")


@pytest.mark.slow
def test_what_an_earlier_version_published_is_accepted_once_with_a_warning_and_then_tagged(spark, tmp_path, caplog):
    context = write_two_versions(tmp_path, spark)
    settings = context.settings
    publish_release(spark, settings, release(0))
    with sqlite3.connect(settings.feature_repo_path / "online_store.db") as rows:
        rows.execute("DROP TABLE qarm_project")
    store = open_feature_store(settings.feature_repo_path)
    view, service = store.get_feature_view("item_semantic_id__cb0"), store.get_feature_service("item_semantic_id")
    for one in (view, service, view.batch_source):
        one.tags = {name: value for name, value in one.tags.items() if name != TAG}
    store.apply([view, service])
    intervals = store.get_feature_view("item_semantic_id__cb0").materialization_intervals

    warned = []
    for _ in range(2):
        promote_release(settings, 0)
        warned.append(
            [record.getMessage() for record in caplog.records if "No mark of a project is on" in record.getMessage()]
        )
        caplog.clear()

    assert "view item_semantic_id__cb0" in warned[0][0]
    assert warned[1] == []
    assert {TAG in tags for tags in registered(settings).values()} == {True}
    assert store.registry.get_feature_view("item_semantic_id__cb0", "qarm").materialization_intervals == intervals


def test_a_moved_project_keeps_its_fingerprint_and_copied_settings_get_another(tmp_path):
    first, moved, copied = (tmp_path / name for name in ("first", "moved", "copied"))

    def fingerprint(folder, find=project_fingerprint):
        return find(str(folder / "data"), folder / "artifacts", name="data")

    made = fingerprint(first)
    shutil.move(first, moved)
    assert fingerprint(moved) == made
    shutil.rmtree(moved / "artifacts")  # another driver's
    assert fingerprint(moved) == made
    shutil.rmtree(moved / "data")  # and tables that were made again
    assert fingerprint(moved) == made

    assert fingerprint(copied, find_fingerprint) is None
    assert fingerprint(copied) != made
    elsewhere = project_fingerprint(str(tmp_path / "other"), moved / "artifacts", name=str(tmp_path / "other"))
    assert elsewhere != made
    assert fingerprint(moved) == made


def test_feast_apply_deletes_neither_what_another_machine_published_nor_a_release_that_is_loading(
    neighbors, monkeypatch
):
    first, second = neighbors
    settings = first.settings
    records = settings.artifacts_path / "releases"
    before, rows = registered(settings), sqlite_tables(first)
    kept = {path: path.read_text() for path in records.glob("cb*.json")}
    (records / "cb1.json").unlink()  # another machine holds this record
    (records / "cb0.json").write_text(kept[records / "cb0.json"].replace('"verified"', '"loading"', 1))

    feast_apply(settings.feature_repo_path, monkeypatch)
    with pytest.raises(
        ForeignProjectError, match="The entity item of the Feast project qarm belongs to another project"
    ):
        feast_apply(second.settings.feature_repo_path, monkeypatch)

    for path, text in kept.items():
        path.write_text(text)
    assert registered(settings) == before
    assert sqlite_tables(first) == rows


def feast_apply(repo, monkeypatch) -> None:
    """Does what ``feast apply`` does in a folder."""
    monkeypatch.chdir(repo)
    monkeypatch.syspath_prepend(repo)
    monkeypatch.delitem(sys.modules, "feature_definitions", raising=False)
    config = load_repo_config(repo, repo / "feature_store.yaml")
    repo_operations.apply_total(config, repo, skip_source_validation=True)


def test_a_lost_project_is_continued_by_the_command_that_the_error_names(neighbors, capsys):
    from typer.testing import CliRunner

    from qarm_features.cli import main as cli

    first, _ = neighbors
    folder = first.settings.feature_repo_path.parent
    third = folder.parent / "third"
    shutil.copytree(folder / "feature_repo", third / "feature_repo")
    shutil.copy(folder / "qarm.yaml", third)
    settings = load_settings(third / "qarm.yaml")
    store = open_feature_store(settings.feature_repo_path)
    owner = Ownership.found(first.settings, store).fingerprint

    done = CliRunner().invoke(cli.app, ["release", "adopt", owner, "--config", str(third / "qarm.yaml")])

    assert done.exit_code == 0, done.output
    assert Ownership.found(settings, store).fingerprint == owner
    assert yaml.safe_load((settings.artifacts_path / "project.json").read_text())["fingerprints"] == {"data": owner}
