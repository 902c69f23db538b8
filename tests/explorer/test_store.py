"""The store answers from one file: ranges of prefixes, searches of any text, and clear errors."""

from __future__ import annotations

import threading

import pytest

from qarm_features.explorer.schema import ItemRow
from qarm_features.explorer.store import Explorer, ExplorerError
from tests.explorer.small_store import ITEMS, write_store


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    explorer = write_store(tmp_path_factory.mktemp("artifacts"))
    yield explorer
    explorer.close()


def ids(lines):
    return [line["item_id"] for line in lines]


def test_the_tree_of_the_catalog_has_the_largest_prefixes_first_and_counts_what_is_left_out(explorer):
    tree = explorer.tree("", limit=2)

    assert (tree["node"]["items"], tree["node"]["children"], tree["node"]["level"]) == (5, 3, 0)
    assert [child["prefix"] for child in tree["children"]] == ["0", "10"]
    assert (tree["left_out"], tree["left_out_items"]) == (1, 1)
    assert ids(tree["children"][0]["typical"]) == ["a", "b"]


def test_a_prefix_of_few_items_is_typical_of_all_of_them(explorer):
    assert ids(explorer.tree("3")["node"]["typical"]) == ["c"]


def test_a_semantic_id_has_no_prefixes_below_it(explorer):
    tree = explorer.tree("0.2")

    assert (tree["children"], tree["left_out"], tree["left_out_items"]) == ([], 0, 0)


@pytest.mark.parametrize(
    ("prefix", "offset", "limit", "expected", "total"),
    [
        ("", 0, 50, ["a", "b", "c/é %_'\"", "c", "d"], 5),
        ("0", 1, 1, ["b"], 3),
        ("0", 3, 9, [], 3),
        ("10", 0, 9, ["d"], 1),
        ("0", 0, 0, [], 3),
    ],
)
def test_the_items_of_a_prefix_are_read_from_any_offset(explorer, prefix, offset, limit, expected, total):
    page = explorer.items(prefix, offset, limit)

    assert (ids(page["items"]), page["total"]) == (expected, total)


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("toy", ["a", "b"]),
        ("TOY sto", ["a"]),
        ("schon", ["c/é %_'\""]),
        ("SCHÖNER tag", ["c/é %_'\""]),
        ('"', []),
        ('"wolf" OR NEAR(', []),
        ("100%", ["c"]),
        ("o'hara", ["c"]),
        ("the wolf", ["d"]),
        ("wolf", ["d", "c"]),
        ("c", ["c", "c/é %_'\""]),
        ("c/é %_'\"", ["c/é %_'\""]),
        ("title:wolf", []),
        ("wolf*", ["d", "c"]),
        ("' UNION SELECT 1 --", []),
        ("\x00", []),
        ("\ud800", []),
        ("  ", []),
    ],
)
def test_any_text_can_be_searched_for_and_has_no_meaning_of_its_own(explorer, q, expected):
    assert ids(explorer.search(q)["items"]) == expected


def test_a_search_finds_users_and_the_prefix_itself(explorer):
    assert explorer.search("u")["users"] == ["u%"]
    assert [node["prefix"] for node in explorer.search("0.2")["prefixes"]] == ["0.2"]
    assert explorer.search("0.9")["prefixes"] == []


def test_the_page_of_an_item_has_its_path_its_neighbors_and_its_history(explorer):
    page = explorer.item("b")

    assert [(node["prefix"], node["items"]) for node in page["path"]] == [("0", 3), ("0.2", 2)]
    assert [(near["item"]["item_id"], near["value"]) for near in page["by_prefix"]] == [("a", 2.0), ("c/é %_'\"", 1.0)]
    assert page["by_co_click"] == [
        {"item": {"item_id": "gone", "title": "", "rq_codes": [], "positives": 0, "picture": False}, "value": 4.0}
    ]
    assert [(past["release"], past["rq_codes"]) for past in page["history"]] == [
        ("item_semantic_id__cb1", [0, 2]),
        ("item_semantic_id__cb0", None),
    ]
    assert page["collisions"] == 1


def test_at_most_ten_items_share_a_prefix_and_those_of_the_longest_one_come_first(tmp_path):
    items = [ItemRow(str(code), "", "", [0, code], 0) for code in range(30)]
    explorer = write_store(tmp_path, items)
    explorer._read.nodes = lambda prefixes: [{"prefix": prefix, "items": 1} for prefix in prefixes]

    near = explorer.item("15")["by_prefix"]

    assert ids(one["item"] for one in near) == ["16", "14", "17", "13", "18", "12", "19", "11", "20", "10"]
    explorer.close()


def test_an_explorer_that_was_deleted_says_so(tmp_path):
    explorer = write_store(tmp_path, [ItemRow("a", "", "", [0, 0], 0)])
    explorer.close()
    explorer._read.file.unlink()

    with pytest.raises(ExplorerError, match="was deleted, newer ones are there. Start again: qarm explore"):
        explorer.item("a")


def test_a_picture_is_bytes_or_none(explorer):
    assert explorer.picture("a") == b"\xff\xd8jpeg"
    assert explorer.picture("b") is None


def test_the_page_of_a_user_names_items_that_left_the_catalog_by_their_id(explorer):
    page = explorer.user("u%")

    assert [(moment[:10], line["item_id"], line["title"]) for moment, line in page["behavior"]] == [
        ("2024-01-02", "b", "Toy Soldiers"),
        ("2024-01-01", "gone", ""),
    ]
    assert page["candidates"][0]["item"]["title"] == "Toy Story (1995)"
    assert ids(page["candidates"][0]["matched"]) == ["b"]
    assert page["model"] == "wide v3"


def test_a_collision_has_its_first_items_as_examples(explorer):
    (collision,) = explorer.collisions()

    assert (collision["rq_codes"], collision["items"], ids(collision["examples"])) == ([0, 2], 2, ["a", "b"])


def test_the_time_at_which_the_data_was_made_comes_from_the_manifest(explorer):
    assert explorer.summary()["made_at"] == "2024-03-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda explorer: explorer.item("x"), "Item x is not in this explorer"),
        (lambda explorer: explorer.picture("' OR 1=1"), "Item ' OR 1=1 is not in this explorer"),
        (lambda explorer: explorer.user("x"), "User x has no page"),
        (lambda explorer: explorer.tree("0.9"), "Prefix 0.9 does not exist"),
        (lambda explorer: explorer.items("nothing"), "Prefix nothing does not exist"),
        (lambda explorer: explorer.items("", -1), "offset is -1, must be from 0"),
        (lambda explorer: explorer.tree("", 1001), "limit is 1001, must be from 0 to 1000"),
        (lambda explorer: explorer.collisions(2**60), "offset is"),
    ],
)
def test_what_does_not_exist_is_said_in_one_sentence(explorer, ask, message):
    with pytest.raises(ExplorerError, match=message):
        ask(explorer)


def test_a_folder_without_an_explorer_is_refused(tmp_path):
    with pytest.raises(ExplorerError, match="holds no explorer. Run: qarm build-explorer"):
        Explorer(tmp_path)
    with pytest.raises(ExplorerError, match="holds no explorer. Run: qarm build-explorer"):
        Explorer.latest(tmp_path)


def test_items_in_another_order_than_that_of_their_codes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Sort items by codes"):
        write_store(tmp_path, [ITEMS[4], ITEMS[0]])

    assert not list((tmp_path / "explorers").glob("v*"))


def test_many_threads_read_one_explorer(explorer):
    found = []
    threads = [threading.Thread(target=lambda: found.append(explorer.item("a")["text"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == ["toys"] * 8


def test_the_same_rows_give_the_same_file(tmp_path):
    one, other = write_store(tmp_path / "one"), write_store(tmp_path / "other")

    assert one._read.file.read_bytes() == other._read.file.read_bytes()
