"""``qarm import`` writes a project that loads and names columns that exist, and never replaces one unasked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import DeltaTable
from rich.console import Console
from typer.testing import CliRunner

from qarm_features.catalog.reading.read_source import needed_columns
from qarm_features.cli import import_files
from qarm_features.cli.main import app
from qarm_features.importers.formats import FORMATS
from qarm_features.settings.load import load_settings
from tests.importers import test_json_formats as json_formats
from tests.importers import test_tab_formats as tab_formats
from tests.importers.imported import write_files

MOVIES = "1::One (1990)::Drama\n2::Two (1991)::\n2::Two\n"
RATINGS = "1::1::5::978300760\n1::2::3::978300761\n"
MOVIELENS = {"movies.dat": MOVIES, "ratings.dat": RATINGS}
EVERY = {
    "movielens": (MOVIELENS, ()),
    "amazon": ({"Beauty.jsonl.gz": json_formats.REVIEWS, "meta_Beauty.jsonl.gz": json_formats.META}, ()),
    "mind": ({**tab_formats.MIND, "dev/news.tsv": tab_formats.NEWS}, ("--history",)),
    "yelp": ({"business.json": '{"business_id": "b"}', "review.json": '{"review_id": "r"}'}, ()),
    "steam": ({"steam_games.json": json_formats.GAMES, "steam_reviews.json": "{'username': 'u'}"}, ()),
    "criteo": ({"log.tsv": tab_formats.ATTRIBUTION}, ("--column", "label=conversion")),
    "recbole": ({"ml.inter": tab_formats.INTER, "ml.item": tab_formats.ITEM}, ()),
}


@pytest.fixture
def qarm(monkeypatch, tmp_path):
    monkeypatch.setattr(import_files, "console", Console(width=200, highlight=False))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        done = CliRunner().invoke(app, ["import", *map(str, arguments)])
        return f"{done.output}{done.exception or ''}"

    return run


def test_every_format_is_covered_here():
    assert set(EVERY) == set(FORMATS)


@pytest.mark.parametrize("name", EVERY)
def test_the_settings_of_every_format_load_and_name_columns_that_exist(qarm, tmp_path, name):
    files, flags = EVERY[name]
    write_files(tmp_path / "source", files)

    output = qarm(name, "source", "project", *flags)

    settings = load_settings(tmp_path / "project" / "qarm.yaml")
    for source in (settings.items, settings.interactions):
        columns = pq.read_schema(settings.path(source.path)).names
        assert set(needed_columns(source)) <= set(columns)
    assert settings.codebooks.codebook_size == 2
    assert (tmp_path / "project" / "feature_repo" / "feature_store.yaml").is_file()
    assert f"License: {FORMATS[name].license}" in output


def test_the_counts_the_reasons_and_the_comments_are_all_said(qarm, tmp_path):
    write_files(tmp_path / "source", MOVIELENS)

    output = qarm("movielens", "source", "project")

    assert "items: 3 rows read = 2 written + 1 left out" in output
    assert "1 left out: 2 fields instead of 3" in output
    assert "line 3 of movies.dat: '2::Two'" in output
    assert "interactions: 2 rows read = 2 written + 0 left out" in output
    (left_out,) = (tmp_path / "project" / "catalog" / "left_out.jsonl").read_text().splitlines()
    assert json.loads(left_out) == {
        "table": "items",
        "reason": "2 fields instead of 3",
        "file": "movies.dat",
        "line": 3,
        "text": "2::Two",
    }
    text = (tmp_path / "project" / "qarm.yaml").read_text()
    assert "  item_id: movie_id  # Column of the item ID. From movies.dat, first field.\n" in text
    assert "  codebook_size: 2  # Number K of centroids" in text
    assert "Fits 2 items" in text
    assert text.count("\n") == import_files.settings_text({}).count("\n")  # every setting is still explained


def test_a_dry_run_says_what_it_would_write_and_writes_nothing(qarm, tmp_path):
    write_files(tmp_path / "source", MOVIELENS)

    output = qarm("movielens", "source", "project", "--dry-run")

    assert "One (1990) / Two (1991)" in output
    assert "items: 2 rows from the first 1,000 lines of each file; 1 left out: 2 fields instead of 3" in output
    assert "interactions.positive_from: 4" in output
    assert "Nothing was written." in output
    assert not (tmp_path / "project").exists()


def test_a_project_is_replaced_only_by_force_and_its_settings_are_kept_aside(qarm, tmp_path):
    write_files(tmp_path / "source", MOVIELENS)
    qarm("movielens", "source", "project")
    config = tmp_path / "project" / "qarm.yaml"
    config.write_text("mine: 1\n")
    write_files(tmp_path / "source", {"ratings.dat": RATINGS * 2})

    refused = qarm("movielens", "source", "project")
    assert "project has qarm.yaml, catalog/items.parquet, catalog/interactions.parquet already" in refused
    assert pq.read_metadata(tmp_path / "project" / "catalog" / "interactions.parquet").num_rows == 2

    replaced = qarm("movielens", "source", "project", "--force")
    assert "the former qarm.yaml is project/qarm.yaml.old now" in replaced
    assert (tmp_path / "project" / "qarm.yaml.old").read_text() == "mine: 1\n"
    assert yaml.safe_load(config.read_text())["items"]["item_id"] == "movie_id"
    assert pq.read_metadata(tmp_path / "project" / "catalog" / "interactions.parquet").num_rows == 4


def test_the_list_explains_each_format(qarm):
    output = qarm("--list")

    for one in FORMATS.values():
        assert all(part in output for part in (one.name, one.looks_for, one.from_whom, one.license))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "FORMAT, SOURCE and PROJECT must be given, for example: qarm import movielens"),
        (
            ("netflix", "a", "b"),
            "FORMAT is netflix, must be one of movielens, amazon, mind, yelp, steam, criteo, recbole",
        ),
        (
            ("movielens", "a", "b", "--history"),
            "--history is given, and movielens leaves no choice there. It is for: mind",
        ),
        (("recbole", "a", "b", "--column", "label"), "--column is label, must be ROLE=NAME"),
        (("movielens", "a", "b", "--encoding", "latin1x"), "--encoding is latin1x, must be one that Python knows"),
        (("movielens", "nowhere", "b"), "SOURCE is nowhere, and there is no such folder"),
    ],
)
def test_a_wrong_argument_is_named(qarm, arguments, message):
    assert message in qarm(*arguments)


def test_a_project_that_is_a_file_is_refused(qarm, tmp_path):
    write_files(tmp_path, {"project": "x", **{f"source/{name}": text for name, text in MOVIELENS.items()}})

    assert "PROJECT is project, a file, must be a folder" in qarm("movielens", "source", "project")


@pytest.mark.parametrize(("items", "size"), [(1, 2), (79, 2), (80, 4), (1_682, 64), (5_120, 256), (10**7, 256)])
def test_the_codebook_size_leaves_twenty_items_to_a_code(items, size):
    assert import_files.codebook_size(items) == size


@pytest.mark.slow
def test_imported_files_reach_the_tables_and_ingest_judges_the_rows_that_the_import_kept(tmp_path):
    movies = "".join(f"{n}::Movie {n} (19{60 + n})::Drama|Comedy\n" for n in range(1, 40)) + "40::Léon (1994)::Crime\n"
    ratings = "".join(f"{n % 9 + 1}::{n % 40 + 1}::{n % 5 + 1}::{978300760 + n}\n" for n in range(200))
    dirty = "1::2::5\n3::4::five::978300760\n3::4::5::soon\n9::777::5::978309999\n"
    source = write_files(tmp_path / "ml-1m", {"movies.dat": movies.encode("latin-1"), "ratings.dat": ratings + dirty})
    qarm = Path(sys.executable).with_name("qarm")

    for arguments in (
        ("import", "movielens", source, "my"),
        ("run", "--config", "my/qarm.yaml", "--until", "ingest-catalog"),
    ):
        done = subprocess.run([qarm, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    items, interactions, rejected = (
        DeltaTable(str(tmp_path / "my" / "data" / name)).to_pyarrow_table().to_pylist()
        for name in ("items", "interactions", "rejected_rows")
    )
    assert len(items) == 40
    assert {row["item_id"]: row["text"] for row in items}[40] == "Léon (1994). Crime"
    assert len(interactions) == 201
    assert (
        sum(row["label"] for row in interactions) == 81
    )  # of 200 ratings two fifths are 4 or 5, and one of a movie unknown
    assert sorted(row["reason"] for row in rejected) == ["event_timestamp is not a number", "label is not a number"]
