"""The command line on the toy project: commands that a person types, and the output that the person sees."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pandas as pd
import pytest

from qarm_features.cli.job_file import launcher, launchers_folder
from qarm_features.cli.job_lists import JOBS, OTHER_JOBS, comparing, jobs_of, jobs_until
from qarm_features.settings.load import load_settings
from tests.toy_catalog import write_toy_project

QARM = str(Path(sys.executable).with_name("qarm"))


def qarm(folder, *arguments):
    return subprocess.run([QARM, *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(project):
    return project.settings.feature_repo_path.parent


def test_a_run_with_nothing_to_do_starts_no_spark_and_ends_with_the_summary(folder):
    done = qarm(folder, "run")

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("unchanged, skipped") == 9
    assert "Ivy" not in done.stderr
    for part in (
        "What was made",
        "semantic IDs, codebook version 0",
        "codebook quality",
        "AUC per user",
        "report.html",
    ):
        assert part in done.stdout


def test_a_run_without_labels_leaves_out_the_ranking_models(tmp_path):
    settings = load_settings(write_toy_project(tmp_path) / "qarm.yaml", interactions={"label": None})

    names = jobs_of(JOBS, settings)

    assert names[-3:] == ("build_user_behavior", "publish_features", "write_report")
    assert len(names) == 7


def test_a_comparing_run_codes_the_frozen_items_before_the_aligned_ones(tmp_path):
    settings = load_settings(write_toy_project(tmp_path) / "qarm.yaml", encoder={"align": True})

    names = comparing(jobs_of(JOBS, settings), settings)

    assert names[2:7] == ("align_encoder", "code_frozen_items", "embed_items", "evaluate_encoder", "fit_codebooks")
    assert len(names) == 13


def test_until_takes_the_names_of_the_commands():
    assert jobs_until("report") == jobs_until("write-report") == JOBS
    assert jobs_until("embed-items")[-1] == "embed_items"


def test_show_prints_the_codes_and_the_neighbors_with_their_titles(folder):
    done = qarm(folder, "show", "0", "--neighbors", "3")

    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if " sea " in line]
    assert len(lines) == 4
    assert "sea part one, a comedy" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "999"), "error: Item 999 has no semantic ID under codebook version 0"),
        (("run", "--until", "never"), "error: --until is never, must be one of ingest-catalog, mine-item-pairs"),
        (("run", "--compare"), "error: --compare needs an aligned encoder, but encoder.align is false"),
        (
            ("run", "--config", "none.yaml"),
            "error: --config is none.yaml, must be an existing file. Run: qarm init DIR",
        ),
        (("job-file", "never"), "error: JOB is never, must be one of advise-codes, align-encoder"),
    ],
)
def test_a_wrong_input_ends_in_one_clear_line(folder, arguments, message):
    done = qarm(folder, *arguments)

    assert done.returncode == 1
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_init_writes_a_project(tmp_path):
    done = qarm(tmp_path, "init", "mine")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine" / "feature_repo" / "feature_store.yaml").is_file()
    assert f"Set the paths and columns of items and interactions in {Path('mine') / 'qarm.yaml'}." in done.stdout
    assert "cd mine && qarm doctor" in done.stdout
    assert "qarm run" in done.stdout


def test_init_refuses_a_file(tmp_path):
    (tmp_path / "mine").touch()

    done = qarm(tmp_path, "init", "mine")

    assert done.returncode == 1
    assert done.stderr == "error: FOLDER is mine, a file, must be a folder.\n"


@pytest.mark.slow
def test_doctor_finds_this_machine_fit(folder):
    done = qarm(folder, "doctor")

    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("Java: ", "Spark and Delta: ", "wrote and read 1 row", "encoder: ", "384 dimensions", "4 views"):
        assert part in done.stdout
    assert "Redis: the online store is sqlite" in done.stdout


def test_doctor_says_how_to_repair_what_fails(monkeypatch, tmp_path):
    from qarm_features.cli.doctor import Check, checks

    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    by_name = {check.name: check for check in checks(tmp_path / "qarm.yaml")}

    java, settings = by_name["Java"], by_name["settings"].run()

    assert java.run().state == "failed"
    assert "openjdk-17" in java.repair
    assert settings.state == "failed"
    assert "must be an existing file" in settings.found
    assert Check("x", lambda: 1 / 0, "").run().found == "ZeroDivisionError: division by zero"


def test_a_job_file_is_the_launcher_of_the_job(tmp_path):
    done = qarm(tmp_path, "job-file", "embed-items")

    path = Path(done.stdout.strip())
    assert path.name == "embed_items.py"
    assert path.is_file()
    assert launcher("embed_items") == launcher("embed-items")


def test_every_job_has_a_launcher_and_every_launcher_a_job():
    assert sorted(path.stem for path in launchers_folder().glob("*.py")) == sorted(JOBS + OTHER_JOBS)


def test_no_launcher_has_the_name_of_a_module_that_can_be_imported():
    """spark-submit puts the folder of the launcher first on sys.path."""
    names = {path.stem for path in launchers_folder().glob("*.py")}
    own = {launchers_folder(), Path(__file__).parents[2] / "benchmarks"}  # tests of benchmarks add the latter
    outside = [place for place in sys.path if Path(place or ".").resolve() not in own]

    assert [name for name in names if PathFinder.find_spec(name, outside)] == []
    assert names & set(sys.stdlib_module_names) == set()


@pytest.mark.parametrize(
    ("package", "command", "message"),
    [
        ("pyspark", "embed-items", "The package pyspark is not installed. Run: pip install 'qarm-features[spark]'"),
        ("pyspark", "run", "Run: pip install 'qarm-features[spark]'"),
        ("torch", "embed-items", "pip install 'qarm-features[torch]'"),
    ],
)
def test_a_command_whose_package_is_missing_ends_in_one_line_that_names_the_extra(tmp_path, package, command, message):
    write_toy_project(tmp_path)
    code = f"import sys; sys.modules[{package!r}] = None; sys.argv[:] = ['qarm', {command!r}]\n"
    code += "from qarm_features.cli.main import main; main()"

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_is_shown_without_spark(tmp_path):
    code = "import sys; sys.modules['pyspark'] = None; sys.argv[:] = ['qarm', '--help']\n"
    code += "from qarm_features.cli.main import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "embed-items" in done.stdout
    assert "The package pyspark is not installed." in done.stdout


@pytest.mark.slow
def test_a_project_runs_in_a_folder_of_any_name_with_ids_and_titles_of_any_kind(tmp_path):
    folder = write_toy_project(tmp_path / "it's a`b #1 50% für, {y}")
    items, log = (pd.read_parquet(folder / "catalog" / f"{name}.parquet") for name in ("items", "interactions"))
    for frame in (items, log):
        frame["item_id"] = [f"sku[/red]{item} :smile:\x1b[2J\u202e" for item in frame["item_id"]]
    items["title"] = [f"[bold]{title}[/] <script>alert(1)</script>\x1b[31m" for title in items["title"]]
    items.to_parquet(folder / "catalog" / "items.parquet", index=False)
    log.to_parquet(folder / "catalog" / "interactions.parquet", index=False)
    config = folder / "qarm.yaml"
    config.write_text(config.read_text().replace("items:\n", "items:\n  item_id_type: string\n", 1))

    done = qarm(folder, "run")
    shown = qarm(folder, "show", "sku[/red]7 :smile:\x1b[2J\u202e")

    page = (folder / "artifacts" / "report" / "report.html").read_text(encoding="utf-8")
    assert (done.returncode, shown.returncode) == (0, 0), done.stderr + shown.stderr
    assert "sku[/red]7 :smile:" in shown.stdout
    assert "[bold]sea part one" in shown.stdout
    assert not {"\x1b", "\u202e"} & set(done.stdout + shown.stdout)
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
