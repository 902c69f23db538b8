"""A release is published, listed, promoted, rolled back and retired. Readers have one whole release all the time."""

from __future__ import annotations

import getpass
import json
import sqlite3

import pytest
from feast import FeatureService
from typer.testing import CliRunner

from qarm_features.cli import main as cli
from qarm_features.feature_store.publishing import releases
from qarm_features.feature_store.publishing.one_publisher import one_publisher
from qarm_features.feature_store.publishing.publisher_lease import LeaseError
from qarm_features.feature_store.publishing.release_list import release_lines
from qarm_features.feature_store.publishing.release_manifest import promoted_before, publisher
from qarm_features.feature_store.publishing.releases import (
    ReleaseError,
    definitions,
    promote_release,
    promoted_release,
    publish_release,
    roll_back,
    verify_release,
)
from qarm_features.feature_store.publishing.retirement import retire_release, rows_to_retire
from qarm_features.feature_store.reading.reader import SemanticIDReader
from qarm_features.feature_store.views.feature_views import open_feature_store, release_view
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.tables import ITEMS
from tests.feature_store.two_versions import release, write_two_versions


@pytest.fixture(scope="module")
def published(tmp_path_factory, spark):
    """A project whose release 0 is promoted and whose release 1 is only loaded and verified."""
    context = write_two_versions(tmp_path_factory.mktemp("lifecycle"), spark)
    publish_release(spark, context.settings, release(0))
    publish_release(spark, context.settings, release(1), promote=False)
    return context


@pytest.fixture
def settings(published):
    """Settings of the two releases. Afterwards readers are pointed at release 0 again."""
    yield published.settings
    promote_release(published.settings, 0)


def served(settings) -> list:
    return SemanticIDReader(settings.feature_repo_path).item_codes([1, 2, 3]).codes.tolist()


def online(settings) -> sqlite3.Connection:
    return sqlite3.connect(settings.feature_repo_path / "online_store.db", isolation_level=None)


def test_a_promotion_and_a_rollback_load_nothing_and_are_kept_with_who_and_when(settings):
    before = served(settings)

    promote_release(settings, 1)
    promoted = served(settings)
    roll_back(settings)

    assert (before, promoted, served(settings)) == ([[0, 1], [0, 2], [0, 3]], [[1, 1], [1, 2], [1, 3]], before)
    first, second = release_lines(settings)
    assert (first.codebook_version, first.rows, first.state, first.served_by) == (
        0,
        3,
        "verified",
        ["item_semantic_id"],
    )
    assert (second.codebook_version, second.rows, second.state, second.served_by) == (1, 3, "verified", [])
    assert first.promoted.what == "rollback"
    assert second.promoted.what == "promote"
    record = json.loads((settings.artifacts_path / "releases" / "cb1.json").read_text())
    assert record["delta_version"] == 0
    assert record["verified"]["what"] == "verify"
    assert (record["promotions"][-1]["what"], record["promotions"][-1]["by"]) == ("promote", getpass.getuser())
    assert len(record["checksum"]) == 16
    with pytest.raises(ReleaseError, match=r"Releases promoted so far are \[0\], must be at least two to roll back"):
        roll_back(settings)


def test_while_one_publisher_is_at_work_another_is_told_by_every_command(settings):
    publishing = settings.publishing.model_copy(update={"lease_seconds": 1.0, "publisher": "ann"})
    settings = settings.model_copy(update={"publishing": publishing})
    told = r"ann@.* \(process \d+\) is publishing in project qarm, and only one publisher may run at a time"
    with one_publisher(open_feature_store(settings.feature_repo_path), settings):
        with pytest.raises(LeaseError, match=told):
            promote_release(settings, 1)
        with pytest.raises(LeaseError, match=told):
            roll_back(settings)
        with pytest.raises(LeaseError, match=told):
            retire_release(settings, 1)

    assert served(settings) == [[0, 1], [0, 2], [0, 3]]


def test_records_carry_the_name_of_the_settings(settings):
    publishing = settings.publishing.model_copy(update={"publisher": "ann"})

    assert publisher(settings.model_copy(update={"publishing": publishing})) == "ann"


def test_a_rollback_undoes_a_promotion_that_died_before_it_was_recorded(settings, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(releases, "record_promotion", _die)
        with pytest.raises(KeyboardInterrupt):
            promote_release(settings, 1)
    promoted = served(settings)

    assert roll_back(settings) == release(0)

    assert (promoted, served(settings)) == ([[1, 1], [1, 2], [1, 3]], [[0, 1], [0, 2], [0, 3]])


def test_a_release_whose_record_another_machine_keeps_is_listed(settings):
    record = settings.artifacts_path / "releases" / "cb1.json"
    kept = record.read_text()
    record.unlink()

    lines = release_lines(settings)

    record.write_text(kept)
    assert [(line.codebook_version, line.rows, line.state) for line in lines] == [
        (0, 3, "verified"),
        (1, 3, "elsewhere"),
    ]


def test_going_back_twice_leads_two_releases_back(settings):
    history = [(0, "promote"), (1, "promote"), (1, "promote"), (2, "promote"), (1, "rollback")]
    folder = settings.artifacts_path / "releases"
    kept = (folder / "promoted.json").read_text()
    entries = [{"codebook_version": version, "what": what} for version, what in history]
    (folder / "promoted.json").write_text(json.dumps({"codebook_version": 1, "history": entries}))

    versions = promoted_before(settings)

    (folder / "promoted.json").write_text(kept)
    assert versions == [0, 1]


def test_a_record_of_before_there_were_manifests_is_a_verified_release(settings):
    path = settings.artifacts_path / "releases" / "cb1.json"
    record = json.loads(path.read_text())
    old = ("codebook_version", "encoder_version", "num_levels", "codebook_size", "delta_version", "rows")
    path.write_text(json.dumps({name: record[name] for name in old}))
    (path.parent / "promoted.json").write_text('{"codebook_version": 0}')

    promote_release(settings, 1)

    assert promoted_release(settings) == release(1)
    assert promoted_before(settings) == [0, 1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            "UPDATE qarm_item_semantic_id__cb1 SET value = (SELECT value FROM qarm_item_semantic_id__cb0 "
            "WHERE feature_name = 'rq_codes' LIMIT 1) WHERE feature_name = 'rq_codes'",
            r"item_semantic_id__cb1 serves rq_codes = \[0, \d\] for item_id = \d, must be \[1, \d\]",
        ),
        (
            "DELETE FROM qarm_item_semantic_id__cb1 WHERE feature_name = 'rq_codes' "
            "AND entity_key = (SELECT min(entity_key) FROM qarm_item_semantic_id__cb1)",
            "item_semantic_id__cb1 has 2 rows with rq_codes in the online store, must have 3 as in Delta",
        ),
        (
            "UPDATE qarm_item_semantic_id__cb1 SET value = x'1800' WHERE feature_name = 'codebook_version' "
            "AND entity_key = (SELECT min(entity_key) FROM qarm_item_semantic_id__cb1)",
            "item_semantic_id__cb1 has 2 rows with codebook_version = 1 in the online store, must have 3",
        ),
        (
            "INSERT INTO qarm_item_semantic_id__cb1 SELECT x'00', feature_name, value, value_text, vector_value, event_ts, "
            "created_ts FROM qarm_item_semantic_id__cb1 GROUP BY feature_name",
            "has 4 rows with .* Rows of keys that left are still served. Run: qarm release publish --codebook-version 1",
        ),
    ],
)
def test_verify_finds_a_row_that_is_wrong_missing_or_of_another_version(published, settings, damage, message):
    verify_release(published.spark, settings, 1)
    with online(settings) as database:
        database.execute("CREATE TEMP TABLE kept AS SELECT * FROM qarm_item_semantic_id__cb1")
        database.execute(damage)

        with pytest.raises(ReleaseError, match=message):
            verify_release(published.spark, settings, 1)

        database.execute("DELETE FROM qarm_item_semantic_id__cb1")
        database.execute("INSERT INTO qarm_item_semantic_id__cb1 SELECT * FROM kept")


def test_verify_finds_that_delta_holds_other_rows_than_were_published(published, settings):
    path = settings.artifacts_path / "releases" / "cb1.json"
    record = path.read_text()
    verify_release(published.spark, settings, 1)
    changed = json.loads(path.read_text())
    changed["views"]["item_semantic_id__cb1"]["checksum"] = "0" * 16
    path.write_text(json.dumps(changed))

    with pytest.raises(ReleaseError, match="Delta holds .* for item_semantic_id__cb1, must be .*0000000000000000"):
        verify_release(published.spark, settings, 1)

    path.write_text(record)


def test_a_release_that_is_asked_for_is_not_retired(settings):
    store = open_feature_store(settings.feature_repo_path)
    with pytest.raises(
        ReleaseError, match="item_semantic_id__cb0 is in use by the feature service item_semantic_id. Point"
    ):
        retire_release(settings, 0, force=True)

    Artifacts(settings.artifacts_path, "ranking_models").publish(lambda folder: None, codebook_version=1)
    store.apply([FeatureService(name="item_semantic_id__cb1", features=[release_view(settings, release(1))])])
    pinned = (
        "item_semantic_id__cb1 is pinned by ranking model v0, the feature service item_semantic_id__cb1, which reads it"
    )
    for attempt in (retire_release, rows_to_retire):
        with pytest.raises(ReleaseError, match=pinned):
            attempt(settings, 1)

    assert rows_to_retire(settings, 1, force=True) == {"item_semantic_id__cb1": 3}
    assert SemanticIDReader(settings.feature_repo_path, "item_semantic_id__cb1").item_codes([1]).codes.tolist() == [
        [1, 1]
    ]
    store.delete_feature_service("item_semantic_id__cb1")


def test_the_command_line_lists_promotes_and_says_what_would_go(settings):
    def qarm(*arguments):
        config = str(settings.feature_repo_path.parent / "qarm.yaml")
        done = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, ["release", *arguments, "--config", config])
        assert done.exit_code == 0, done.output
        return done.output.splitlines()

    qarm("promote", "1")
    promoted = [line for line in qarm("list") if "item_semantic_id" in line]
    qarm("rollback")
    listed = [line for line in qarm("list") if "item_semantic_id" in line]

    assert [line.split()[1] for line in (promoted[0], listed[0])] == ["1", "0"]
    assert f"by {getpass.getuser()}" in listed[0]
    assert qarm("retire", "1", "--dry-run", "--force") == ["item_semantic_id__cb1: 3 rows would be deleted"]
    assert rows_to_retire(settings, 1, force=True) == {"item_semantic_id__cb1": 3}


def test_the_list_is_whole_in_a_pipe_and_a_rollback_says_what_the_older_release_lacks(published, settings):
    items = published.spark.range(5).selectExpr("id AS item_id", *[f"NULL AS {one.name}" for one in ITEMS.columns[1:]])
    published.warehouse.overwrite(ITEMS, items)
    promote_release(settings, 1)
    config = str(settings.feature_repo_path.parent / "qarm.yaml")

    def qarm(*arguments):
        done = CliRunner(env={"COLUMNS": "80"}).invoke(cli.app, ["release", *arguments, "--config", config])
        assert done.exit_code == 0, done.output
        return done.output

    listed = qarm("list")
    rolled_back = qarm("rollback")

    promoted = release_lines(settings)[1].promoted
    assert f"{promoted.at} by {promoted.by}" in listed
    assert "…" not in listed
    assert rolled_back.splitlines() == [
        "item_semantic_id__cb0 is served now, with 3 items",
        "At least 2 items of today's catalog have no semantic ID in it and are served as not found. To add them, run: qarm "
        "assign-semantic-ids --codebook-version 0 and qarm release publish --codebook-version 0",
    ]


def test_a_retired_release_is_gone_and_can_be_published_again(published, settings, monkeypatch):
    from qarm_features.feature_store.publishing import retirement

    with monkeypatch.context() as patched:  # the process is killed between the registry and the online store
        patched.setattr(retirement, "_delete_rows", _die)
        with pytest.raises(KeyboardInterrupt):
            retire_release(settings, 1, force=True)
    assert [line.state for line in release_lines(settings)] == ["verified", "retiring"]

    assert retire_release(settings, 1, force=True) == ["item_semantic_id__cb1"]

    with online(settings) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert "qarm_item_semantic_id__cb1" not in tables
    names = {found.name for found in definitions(settings.feature_repo_path.parent / "qarm.yaml")}
    assert {"item_semantic_id__cb0", "item_semantic_id__cb1"} & names == {"item_semantic_id__cb0"}
    assert served(settings) == [[0, 1], [0, 2], [0, 3]]
    for version, what in ((1, "The release of codebook version 1 is retired, must be verified"), (7, "Present: 0, 1")):
        with pytest.raises(ReleaseError, match=what):
            promote_release(settings, version)

    publish_release(published.spark, settings, release(1))
    assert served(settings) == [[1, 1], [1, 2], [1, 3]]


def _die(*_, **__):
    raise KeyboardInterrupt
