"""Neighbors share the longest prefix, and of equal prefixes the smaller item IDs come first."""

import pytest

from qarm_features.report.prefix_neighbors import item_cards
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS, ITEMS
from qarm_features.storage.warehouse import TableError, Warehouse


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory, spark):
    warehouse = Warehouse(
        str(tmp_path_factory.mktemp("ids")), item_id_type="string", user_id_type="integer", spark=spark
    )
    codes = [("a", [0, 1, 2]), ("b", [0, 1, 3]), ("c", [0, 1, 2]), ("d", [0, 2, 2]), ("e", [1, 1, 2]), ("f", [0, 2, 1])]
    schema = "item_id string, rq_codes array<int>"
    ids = spark.createDataFrame(codes, schema).selectExpr(
        "*", "0 AS codebook_version", "0 AS encoder_version", "timestamp_seconds(0) AS event_timestamp"
    )
    warehouse.append(ITEM_SEMANTIC_IDS, ids)
    titles = [(item, None if item == "b" else item.upper(), f"text of {item}", "") for item, _ in codes]
    items = spark.createDataFrame(titles, "item_id string, title string, text string, content_hash string")
    warehouse.overwrite(ITEMS, warehouse.empty(ITEMS).unionByName(items, allowMissingColumns=True))
    return warehouse


def test_the_longest_prefix_comes_first_and_an_item_is_not_its_own_neighbor(warehouse):
    (card,) = item_cards(warehouse, ["a"], codebook_version=0, num_neighbors=3)

    assert (card.title, card.rq_codes) == ("A", [0, 1, 2])
    assert [(n.item_id, n.title, n.shared_levels) for n in card.neighbors] == [
        ("c", "C", 3),
        ("b", "text of b", 2),
        ("d", "D", 1),
    ]


def test_an_item_that_shares_no_code_has_no_neighbor(warehouse):
    assert item_cards(warehouse, ["e"], codebook_version=0)[0].neighbors == []


def test_an_unknown_item_is_named(warehouse):
    with pytest.raises(TableError, match="Item z has no semantic ID under codebook version 0"):
        item_cards(warehouse, ["z"], codebook_version=0)


@pytest.mark.parametrize("item_id", ["x[/red]", "1e5", "1.0", "", str(2**63)])
def test_an_id_that_no_integer_can_be_is_refused(tmp_path, item_id):
    warehouse = Warehouse(str(tmp_path), item_id_type="integer", user_id_type="integer")

    with pytest.raises(TableError, match="ITEM_ID is .*, must be a 64-bit integer as the item IDs of the catalog are"):
        item_cards(warehouse, [item_id], codebook_version=0)
