"""Of several rows of one item or one interaction, one is kept by a stated rule, and contradictions are counted apart."""

from __future__ import annotations

import pandas as pd
import pytest

from qarm_features.catalog.ingest import check_interactions, check_items
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.settings.sources import InteractionSource, ItemSource
from tests.toy_catalog import open_project, toy_items, write_toy_project

SAME, OTHER = "is a duplicate", "is a duplicate with other content"
HEART = "WHITE HANGING HEART"
# number of the row, item, description, file, line, changed
ROWS = [
    (1, "A", "21733 mixed", "b.csv", 1, "9"),
    (2, "A", HEART, "a.csv", 3, "10"),
    (3, "A", "?", "a.csv", 2, None),
    (4, "A", HEART, "b.csv", 2, "2"),
    (5, "B", "MISSING", "b.csv", 7, "2024-01-02"),
    (6, "B", "A red lamp", "b.csv", 8, "2024-01-01"),
    (7, "B", "", "b.csv", 6, "2024-01-03"),
]


def kept(spark, partitions, columns, **changes):
    schema = "number int, sku string, name string, __qarm_file__ string, __qarm_line__ long, changed string"
    raw = spark.createDataFrame(ROWS, schema).repartition(partitions).select(*columns)
    source = ItemSource(path="x.csv", item_id="sku", item_id_type="string", text=["name"], **changes)
    checked = check_items(raw, source)
    reasons = sorted(row["reason"] for row in checked.rejected.collect())
    contradicted = sorted(row["item_id"] for row in checked.contradicted.collect())
    return {row["item_id"]: row["text"] for row in checked.accepted.collect()}, reasons, contradicted


@pytest.mark.parametrize(
    ("changes", "expected", "same"),
    [
        ({}, {"A": HEART, "B": "A red lamp"}, 1),  # most rows; of equally many, the longest text
        ({"duplicates": "first"}, {"A": "?", "B": "MISSING"}, 0),
        ({"duplicates": "latest", "latest_by": "changed"}, {"A": HEART, "B": "MISSING"}, 1),  # 10 is later than 9
    ],
)
def test_one_row_of_an_item_is_kept_by_the_rule_of_the_settings(spark, changes, expected, same):
    columns = ["sku", "name", "__qarm_file__", "__qarm_line__", "changed"]

    found, reasons, contradicted = kept(spark, 3, columns, **changes)

    assert found == expected
    assert reasons == ["content is empty", *[f"item_id {SAME}"] * same, *[f"item_id {OTHER}"] * (4 - same)]
    assert contradicted == ["A", "B"]


@pytest.mark.parametrize("partitions", [1, 4])
def test_without_lines_the_first_row_is_that_of_the_most_frequent_content(spark, partitions):
    found, _, _ = kept(spark, partitions, ["sku", "name"], duplicates="first")

    assert found == {"A": HEART, "B": "A red lamp"}


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({}, {1: 1, 2: 1, 3: 0}),
        ({"duplicates": "sum"}, {1: 0, 2: 1, 3: 0}),
        ({"duplicates": "latest", "order_by": "line"}, {1: 0, 2: 1, 3: 0}),
    ],
)
def test_a_purchase_and_a_return_at_one_moment_become_one_label_by_the_rule_of_the_settings(spark, changes, labels):
    # Item 1: bought twice, in two equal rows, and one returned. Item 2: one returned, then three bought. Item 3: two returns.
    rows = [(7, 1, 60, 1, 1), (7, 1, 60, 1, 1), (7, 1, 60, -1, 2), (7, 2, 60, -1, 3), (7, 2, 60, 3, 4)]
    rows += [(7, 3, 60, -1, 5), (7, 3, 60, -1, 5)]
    raw = spark.createDataFrame(rows, "user_id int, item_id int, at int, quantity int, line int")
    source = InteractionSource(
        path="x.csv", event_timestamp="at", timestamp_unit="seconds", label="quantity", **changes
    )

    checked = check_interactions(raw, source, item_id_type="integer")

    assert {row["item_id"]: row["label"] for row in checked.accepted.collect()} == labels
    same = 1 if changes.get("duplicates") == "latest" else 2
    reasons = sorted(row["reason"] for row in checked.rejected.collect())
    assert reasons == [f"interaction {SAME}"] * same + [f"interaction {OTHER}"] * (4 - same)
    assert sorted(row["item_id"] for row in checked.contradicted.collect()) == [1, 2]


def test_the_remark_counts_the_items_that_contradict_themselves(spark, tmp_path):
    folder = write_toy_project(tmp_path)
    items = toy_items()
    pd.concat([items, items[:3].assign(title="?"), items[3:5]]).to_parquet(folder / "catalog" / "items.parquet")

    counts = ingest_catalog(open_project(folder, spark))

    assert counts[:3] == (69 + 800, 64 + 800, 5)
    assert counts.remark == (
        "rejected_rows: 3 items: item_id is a duplicate with other content, 2 items: item_id is a duplicate; "
        "3 items came with different content (items.duplicates: most-frequent)"
    )
