"""The log of the stages: one line per run, read from its end."""

from datetime import timedelta

from qarm_features.settings.load import load_settings
from qarm_features.telemetry.stage_log import append_run, last_runs, runs_backwards
from qarm_features.telemetry.stage_run import StageRun
from tests.telemetry.runs import START, run_of


def test_a_run_is_the_same_after_it_was_written_and_read():
    run = run_of(remark="98% näher \u202e\ud800", warnings=("one", "two"), error="")

    assert StageRun.from_line(run.to_line().encode("utf-8", "backslashreplace").decode()).stage == "ingest_catalog"
    plain = run_of(remark="ein Satz", warnings=("one", "two"))
    assert StageRun.from_line(plain.to_line()) == plain
    assert "\n" not in plain.to_line()


def test_a_line_of_a_later_version_with_further_keys_is_read():
    line = run_of().to_line().replace("{", '{"carbon": 3, ', 1)

    assert StageRun.from_line(line) == run_of()


def test_the_latest_run_comes_first_over_months_and_many_blocks(settings):
    runs = [run_of(at=START + timedelta(hours=n), remark="x" * 200) for n in range(1_000)]
    for run in runs:
        append_run(settings, run)

    assert len(list((settings.artifacts_path / "runs").glob("stages-*.jsonl"))) == 2
    assert list(runs_backwards(settings)) == runs[::-1]


def test_a_line_that_was_cut_off_is_left_out(settings):
    append_run(settings, run_of())
    file = next((settings.artifacts_path / "runs").glob("stages-*.jsonl"))
    with open(file, "a") as opened:
        opened.write(run_of("embed_items").to_line()[:50])

    assert [run.stage for run in runs_backwards(settings)] == ["ingest_catalog"]


def test_the_last_run_and_the_last_success_of_a_stage_are_found(settings):
    success = run_of(at=START)
    failure = run_of(at=START + timedelta(hours=1), state="failed", error="the disk is full")
    for run in (success, run_of("embed_items", at=START + timedelta(minutes=5)), failure):
        append_run(settings, run)

    found = last_runs(settings, {"ingest_catalog", "embed_items", "write_report"})

    assert found["ingest_catalog"] == (failure, success)
    assert set(found) == {"ingest_catalog", "embed_items"}


def test_in_an_object_store_each_run_is_an_object_and_the_latest_comes_first(bucket, tmp_path):
    (tmp_path / "qarm.yaml").write_text(
        f"artifacts: {bucket}/shop\nitems: {{path: a.parquet}}\ninteractions: {{path: b.parquet}}\n"
    )
    settings = load_settings(tmp_path / "qarm.yaml")
    runs = [run_of(at=START + timedelta(days=25 * n), remark=f"run {n}", run_id=f"id-{n}") for n in range(4)]

    for run in runs:
        append_run(settings, run)

    assert list(runs_backwards(settings)) == runs[::-1]
    assert len((settings.artifacts_path / "runs").folders()) == 3  # months
    assert last_runs(settings)["ingest_catalog"].last == runs[3]
