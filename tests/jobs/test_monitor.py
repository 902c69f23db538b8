"""``qarm monitor`` says on the toy project whether a refit pays, and its exit code tells a scheduler."""

from __future__ import annotations

import json
import shutil

import pytest
from pyspark.sql import functions as F
from typer.testing import CliRunner

from qarm_features.cli import main as cli
from qarm_features.evaluation.unseen_items import unseen_items
from qarm_features.feature_store.publishing.releases import ReleaseError
from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
from qarm_features.jobs.monitor import monitor
from qarm_features.jobs.publish_features import publish_features
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS, ITEMS
from tests.toy_catalog import open_project


@pytest.fixture(scope="module")
def grown(project, tmp_path_factory, spark):
    """A copy of the finished toy project, with 16 further items far from all others, coded and published."""
    folder = tmp_path_factory.mktemp("grown") / "project"
    shutil.copytree(project.settings._folder, folder)
    config = folder / "qarm.yaml"
    config.write_text(config.read_text() + "monitor:\n  min_items: 10\n")
    context = open_project(folder, spark)
    for table, columns in ((ITEMS, {}), (ITEM_EMBEDDINGS, {"embedding": F.transform("embedding", lambda x: -x)})):
        copies = context.warehouse.read(table).where(F.col("item_id") < 16)
        copies = copies.withColumns({"item_id": F.col("item_id") + 1000, **columns})
        context.warehouse.append(table, copies)
    assign_semantic_ids(context)
    publish_features(context)
    return context


def figures_of(context):
    return json.loads((context.settings.artifacts_path / "evaluations" / "drift_v0.json").read_text())


def test_items_that_came_later_are_marked_in_the_table(grown):
    rows = grown.warehouse.read(ITEM_SEMANTIC_IDS).groupBy("added_after_fit").count().collect()

    assert {row["added_after_fit"]: row["count"] for row in rows} == {False: 64, True: 16}


def test_without_new_items_the_fit_alone_is_measured_as_its_manifest_says(project, tmp_path, spark, capsys):
    shutil.copytree(project.settings._folder, tmp_path / "copy")
    context = open_project(tmp_path / "copy", spark)

    counts = monitor(context)

    error = figures_of(context)["error"]
    assert error["of_fit"] == pytest.approx(error["at_fit"], rel=1e-4)
    assert (counts.rows_in, counts.exit_code, counts.remark) == (64, 0, "no limit is passed")
    assert "No item came since the fit, so nothing can be compared." in capsys.readouterr().out


def test_items_unlike_those_of_the_fit_make_a_refit_pay(grown, capsys):
    counts = monitor(grown)

    shown, found = " ".join(capsys.readouterr().out.split()), figures_of(grown)
    assert (found["items"], found["new_items"]) == (64, 16)
    assert found["verdicts"][0]["state"] == "past"
    assert "A refit pays. It keeps the semantic IDs that fit: qarm fit-codebooks --refit" in shown
    assert counts.exit_code == 1
    assert monitor(grown, fail=False).exit_code == 0


def test_the_command_ends_with_exit_code_1_past_a_limit_and_its_run_counts_as_a_success(grown, monkeypatch):
    monkeypatch.setattr("qarm_features.jobs.command.JobContext", lambda settings, **_: grown)
    cli._add_jobs(("monitor",))
    arguments = ["monitor", "--config", str(grown.settings._folder / "qarm.yaml")]

    codes = [CliRunner().invoke(cli.app, arguments + more).exit_code for more in ([], ["--no-fail"])]

    assert codes == [1, 0]


def test_without_a_promoted_release_there_is_nothing_to_compare(fresh_project):
    with pytest.raises(ReleaseError, match="No release is promoted. Run: qarm publish-features"):
        monitor(fresh_project)


def test_rows_of_the_last_days_are_told_by_what_the_release_knows_of_their_items(spark):
    moments = ["2026-01-01 00:00:00", "2026-01-09 00:00:00", "2026-01-09 12:00:00", "2026-01-10 00:00:00"]
    log = spark.createDataFrame(list(zip([1, 1, 2, 3], moments)), "item_id long, at string")
    log = log.select("item_id", F.col("at").cast("timestamp").alias("event_timestamp"))
    codes = spark.createDataFrame([(1, False), (2, True)], "item_id long, added_after_fit boolean")

    found = unseen_items(log, codes, days=7)

    assert found == {"rows": 3, "unseen": 1, "new": 1, "since": "2026-01-03T00:00:00Z"}
    assert unseen_items(log.limit(0), codes, days=7) is None
