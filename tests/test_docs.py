"""The documentation names what exists, nothing else, and its links, code blocks and generated pages hold."""

from __future__ import annotations

import ast
import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from typer.testing import CliRunner

from qarm_features.cli import job_lists
from qarm_features.cli import main as cli
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import TABLES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
REFERENCE = ROOT / "docs" / "reference"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
WORKFLOWS = sorted([*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"])


def commands() -> set[str]:
    if not any(command.name == "embed-items" for command in cli.app.registered_commands):
        cli._add_jobs(job_lists.JOBS + job_lists.OTHER_JOBS)
    alone = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
    return alone | {group.name for group in cli.app.registered_groups}


def subcommands(group: str) -> set[str]:
    app = next(one.typer_instance for one in cli.app.registered_groups if one.name == group)
    return {command.name or command.callback.__name__ for command in app.registered_commands}


def blocks(page: Path, *languages: str) -> list[str]:
    """Returns the fenced code blocks of a page that are marked as one of the languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), flags=re.M | re.S)
    return [text for language, text in found if language in languages]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_names_every_job_file():
    jobs = {path.stem for path in (ROOT / "spark_jobs").glob("*.py")}
    page = (REFERENCE / "jobs.md").read_text()

    assert jobs == set(job_lists.JOBS + job_lists.OTHER_JOBS)
    assert [job for job in jobs if f"`{job}`" not in page] == []


def test_the_reference_names_every_table_and_every_section_of_the_settings():
    tables, settings = (REFERENCE / "tables.md").read_text(), (REFERENCE / "settings.md").read_text()

    assert [table.name for table in TABLES if f"`{table.name}`" not in tables] == []
    assert [name for name in Settings.model_fields if f"`{name}`" not in settings] == []


def test_the_reference_pages_say_what_the_code_says():
    written = generator().pages()

    lagging = [file for file, text in written.items() if (REFERENCE / file).read_text() != text]

    assert lagging == [], "The code and these pages differ. Run: make docs"


def test_every_command_that_the_docs_name_exists():
    pages = [page.read_text() for page in PAGES]
    named = {name for page in pages for name in re.findall(r"\bqarm ([a-z][a-z-]+)", page)}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    made = {name for page in pages for name in re.findall(r"`make ([a-z-]+)", page)}

    assert named - commands() == set()
    assert made - targets == set()


def test_errors_name_only_commands_that_exist():
    source = "".join(path.read_text() for path in (ROOT / "qarm_features").rglob("*.py"))
    named = set(re.findall(r"Run: qarm ([a-z][a-z-]+)", source))

    assert named - commands() == set()


def test_every_command_of_a_group_is_in_the_docs_and_none_is_named_that_does_not_exist():
    source = "".join(path.read_text() for path in (ROOT / "qarm_features").rglob("*.py"))
    by_hand = "".join(page.read_text() for page in PAGES if REFERENCE not in page.parents)
    named = set(re.findall(r"qarm release ([a-z]+)", source + by_hand))

    assert named == subcommands("release")


def test_the_help_of_a_job_says_what_must_have_run_and_what_it_reads_and_writes():
    commands()

    shown = CliRunner().invoke(cli.app, ["embed-items", "--help"]).output

    assert "Must have run before: ingest-catalog." in " ".join(shown.split())
    assert "Reads: items, deleted_items, encoders/. Writes: item_embeddings" in " ".join(shown.split())
    assert "--encoder-version" in shown


def test_the_readme_has_at_most_150_lines():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_of_a_page_points_to_a_file_that_exists(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]

    assert [target for target in targets if target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_python_block_of_a_page_compiles_and_every_yaml_block_parses(page):
    for code in blocks(page, "python"):
        ast.parse(code)
    for text in blocks(page, "yaml"):
        assert yaml.safe_load(text) is not None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_row_of_a_table_has_the_cells_of_its_header(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    tables = re.findall(r"(?:^\|.*\|$\n?)+", text, flags=re.M)

    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.strip().splitlines()}
        assert len(widths) == 1, table.splitlines()[0]


def test_the_ranking_input_of_contributing_works_without_any_other_change():
    from qarm_features.ranking import RankingModel

    (code,) = blocks(ROOT / "CONTRIBUTING.md", "python")
    exec(code, {"__name__": "recent_behavior"})

    model = RankingModel(num_items=3, use_semantic_ids=False, inputs={"recent_behavior": {"days": 30.0}})

    assert model.optional_fields == ("behavior_age",)


def test_every_page_of_the_docs_is_named_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    pages = [page.relative_to(ROOT / "docs") for page in PAGES if (ROOT / "docs") in page.parents]

    assert [str(page) for page in pages if page.name != "index.md" and f"({page})" not in index] == []


def test_the_navigation_of_the_site_names_every_page_and_none_that_does_not_exist():
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = set(re.findall(r"'([^']+\.md)'", str(navigation)))
    there = {str(page.relative_to(ROOT / "docs")) for page in PAGES if (ROOT / "docs") in page.parents}

    assert {page for page in there - named if not page.startswith("decisions/")} == set()
    assert {page for page in named - there if not page.startswith("project/")} == set()


@pytest.mark.parametrize("file", WORKFLOWS, ids=name)
def test_workflows_templates_and_hooks_are_yaml_and_name_only_make_targets_that_exist(file):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))

    content = yaml.safe_load(file.read_text())

    assert isinstance(content, dict)
    assert set(re.findall(r"run: make ([a-z-]+)", file.read_text())) - targets == set()


def test_workflows_pin_actions_by_a_major_version():
    used = [use for file in WORKFLOWS for use in re.findall(r"uses: (\S+)", file.read_text())]

    assert used != []
    assert [use for use in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", use)] == []


def test_the_license_is_the_one_that_the_package_names_and_is_complete():
    text = (ROOT / "LICENSE").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE"]
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert len(text.splitlines()) == 202
