"""The README names every job, table and setting, and no command that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from qarm_features.cli import main as cli
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import TABLES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def commands() -> set[str]:
    if not any(command.name == "embed-items" for command in cli.app.registered_commands):
        cli._add_jobs(cli.JOBS + cli.OTHER_JOBS)
    alone = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
    return alone | {group.name for group in cli.app.registered_groups}


def subcommands(group: str) -> set[str]:
    app = next(one.typer_instance for one in cli.app.registered_groups if one.name == group)
    return {command.name or command.callback.__name__ for command in app.registered_commands}


def test_the_readme_names_every_job_file():
    jobs = {path.stem for path in (ROOT / "spark_jobs").glob("*.py")}

    assert jobs == set(cli.JOBS + cli.OTHER_JOBS)
    assert [job for job in jobs if f"`{job}`" not in README] == []


def test_the_readme_names_every_table_and_every_section_of_the_settings():
    assert [table.name for table in TABLES if f"`{table.name}`" not in README] == []
    assert [name for name in Settings.model_fields if f"`{name}`" not in README] == []


def test_every_command_that_the_docs_name_exists():
    pages = [
        README,
        *[path.read_text() for path in (ROOT / "docs").rglob("*.md")],
        (ROOT / "CONTRIBUTING.md").read_text(),
    ]
    named = {name for page in pages for name in re.findall(r"\bqarm ([a-z][a-z-]+)", page)}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    made = {name for page in pages for name in re.findall(r"`make ([a-z-]+)", page)}

    assert named - commands() == set()
    assert made - targets == set()


def test_errors_name_only_commands_that_exist():
    source = "".join(path.read_text() for path in (ROOT / "qarm_features").rglob("*.py"))
    named = set(re.findall(r"Run: qarm ([a-z][a-z-]+)", source))

    assert named - commands() == set()


def test_every_command_of_a_group_is_in_the_readme_and_none_is_named_that_does_not_exist():
    source = "".join(path.read_text() for path in (ROOT / "qarm_features").rglob("*.py"))
    named = set(re.findall(r"qarm release ([a-z]+)", source + README))

    assert named == subcommands("release")


def test_the_help_of_a_job_says_what_must_have_run_and_what_it_reads_and_writes():
    commands()

    shown = CliRunner().invoke(cli.app, ["embed-items", "--help"]).output

    assert "Must have run before: ingest-catalog." in " ".join(shown.split())
    assert "Reads: items, encoders/. Writes: item_embeddings" in " ".join(shown.split())
    assert "--encoder-version" in shown
