"""The page of one file: what lies in it, what it leaves out, and that it appears as a whole or not at all."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re

import pytest
from typer.testing import CliRunner

from qarm_features.cli.main import app
from qarm_features.explorer import bundle_parts
from qarm_features.explorer.bundle import write_page
from qarm_features.explorer.bundle_parts import chosen_items, item_hash
from qarm_features.explorer.one_html import files, joined_modules
from qarm_features.explorer.page_files import PAGE
from tests.explorer.planted_store import HOSTILE, write_planted_store
from tests.toy_catalog import write_toy_project


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    made = write_planted_store(tmp_path_factory.mktemp("artifacts"))
    yield made
    made.close()


def parts_of(path) -> dict:
    tags = re.findall(r'<script type="application/json" id="data-([\w-]+)">([^<]*)</script>', path.read_text())
    return {name: json.loads(gzip.decompress(base64.b64decode(text))) for name, text in tags}


def test_the_page_holds_every_item_once_and_opens_their_pages_by_number(explorer, tmp_path):
    items = write_page(explorer, tmp_path / "one.html")
    parts = parts_of(tmp_path / "one.html")

    number = parts["lines"]["item_id"].index("script")
    page = parts["items-0"][number]
    assert items == parts["lines"]["pages"] == len(set(parts["lines"]["item_id"])) == 300
    assert page["item"] == {"#": number}
    assert page["text"].startswith(HOSTILE["script"])
    assert parts["index"]["summary"]["shown_items"] == 300
    assert parts["tree-0"]["0.1"] == _folded(explorer.tree("0.1"), parts["lines"]["item_id"])


def _folded(value, ids):
    if isinstance(value, dict) and "item_id" in value:
        return {"#": ids.index(value["item_id"])}
    if isinstance(value, dict):
        return {name: _folded(one, ids) for name, one in value.items()}
    return [_folded(one, ids) for one in value] if isinstance(value, list) else value


def test_of_too_many_items_those_with_the_lowest_hash_are_kept_with_neighbors_among_them(explorer, tmp_path):
    write_page(explorer, tmp_path / "one.html", most=40)
    parts = parts_of(tmp_path / "one.html")

    lines = explorer.items("", 0, 1000)["items"]
    lowest = sorted((line["item_id"] for line in lines), key=item_hash)[:40]
    near = [one for page in parts["items-0"] for one in page["by_embedding"] + page["by_prefix"] + page["by_co_click"]]
    assert sorted(parts["lines"]["item_id"][:40]) == sorted(lowest)
    assert parts["index"]["summary"]["shown_items"] == 40
    assert parts["index"]["map"]["sampled"] is True
    assert near != []
    assert all(one["item"]["#"] < 40 for one in near)


def test_the_hash_of_an_id_is_the_same_everywhere():
    assert item_hash("50") == int.from_bytes(hashlib.blake2b(b"50", digest_size=8).digest())


def test_pictures_stop_where_the_page_is_full(explorer, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_parts, "_MOST_PICTURE_BYTES", 10_000)

    write_page(explorer, tmp_path / "one.html")
    parts = parts_of(tmp_path / "one.html")

    pictures = {int(number): base64.b64decode(text) for number, text in parts["pictures-0"].items()}
    assert sorted(pictures) == parts["lines"]["pictures"]
    assert 5_000 < sum(map(len, pictures.values())) <= 10_000


def test_nothing_of_the_catalog_stands_in_the_page_as_it_is(explorer, tmp_path):
    write_page(explorer, tmp_path / "one.html")
    text = (tmp_path / "one.html").read_text()

    assert "window.broken" not in text
    assert text.count("</script>") == text.count("<script")


def test_the_policy_of_the_page_names_the_hashes_of_its_own_scripts_and_styles(explorer, tmp_path):
    write_page(explorer, tmp_path / "one.html")
    text = (tmp_path / "one.html").read_text()

    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    run = re.findall(r"<script>(.*?)</script>", text, flags=re.S) + re.findall(
        r"<style>(.*?)</style>", text, flags=re.S
    )
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in run]
    assert len(run) == 3
    assert re.findall(r"sha256-([^']+)'", policy) == hashes
    assert policy.startswith("default-src 'none'")
    assert "connect-src" not in policy


def test_every_module_of_the_page_is_joined_after_those_that_it_imports():
    joined = joined_modules()

    modules = [path for path in PAGE.rglob("*.js") if path.parent.name != "vendor"]
    assert sorted(files()) == sorted(modules)
    assert not re.search(r"^(import|export) ", joined, flags=re.M)


def test_a_file_is_replaced_only_by_force(explorer, tmp_path):
    (tmp_path / "one.html").write_text("mine")

    with pytest.raises(ValueError, match=r"one.html exists already. Choose another name, or replace it with --force"):
        write_page(explorer, tmp_path / "one.html")
    write_page(explorer, tmp_path / "one.html", force=True)

    assert (tmp_path / "one.html").read_text().startswith("<!doctype html>")


def test_a_folder_that_does_not_exist_is_named(explorer, tmp_path):
    with pytest.raises(ValueError, match=r"The folder .*none does not exist. Create it first"):
        write_page(explorer, tmp_path / "none" / "one.html")


def test_a_page_that_fails_half_way_leaves_nothing_behind(explorer, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_page(explorer, tmp_path / "one.html", progress=stop)

    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_the_page_and_says_how_large_it_is(tmp_path):
    folder = write_toy_project(tmp_path)
    write_planted_store(folder / "artifacts", items=5000).close()
    arguments = ["explore", "--config", str(folder / "qarm.yaml"), "--html", str(tmp_path / "one.html")]

    done = CliRunner().invoke(app, arguments)
    again = CliRunner().invoke(app, arguments)

    assert "one.html holds 300 items, a sample of 5,000 (" in " ".join(done.stderr.split())
    assert (tmp_path / "one.html").read_text().startswith("<!doctype html>")
    assert "or replace it with --force" in str(again.exception)


def test_no_more_than_all_items_are_chosen(explorer):
    assert len(chosen_items(explorer, 1000)) == 300
