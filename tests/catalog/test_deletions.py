"""Rows that say that their item is deleted: which of several rows decides, and what else such a column may hold."""

from __future__ import annotations

import pytest

from qarm_features.catalog.checks import IngestError
from qarm_features.catalog.deletions import DELETED
from qarm_features.catalog.ingest import check_items
from qarm_features.catalog.rejections import RowCounts, require_few_rejected
from qarm_features.settings.sources import ItemSource, RejectedShares

LAMP, SOFA = "A red lamp", "A sofa"
# SKU, name, changed, gone
ROWS = [
    ("kept", LAMP, "1", None),
    ("left", LAMP, "1", "false"),
    ("left", None, "2", " TRUE "),
    ("back", LAMP, "1", ""),
    ("back", None, "2", "1"),
    ("back", SOFA, "3", "0"),
    ("never there", None, "1", "true"),
    ("unclear", LAMP, "1", "yes"),
    (None, LAMP, "1", "true"),
]


def checked(spark, rows=ROWS, kind="string", **changes):
    raw = spark.createDataFrame(rows, f"sku string, name string, changed string, gone {kind}").repartition(3)
    source = ItemSource(path="x.csv", item_id="sku", item_id_type="string", text=["name"], deleted="gone", **changes)
    found = check_items(raw, source)
    return (
        {row["item_id"]: row["text"] for row in found.accepted.collect()},
        sorted(row["item_id"] for row in found.deleted.collect()),
        found.counts("items"),
        found.contradicted.count(),
    )


@pytest.mark.parametrize(
    ("changes", "accepted", "deleted"),
    [
        ({"duplicates": "latest", "latest_by": "changed"}, {"kept": LAMP, "back": SOFA}, ["left", "never there"]),
        ({"duplicates": "first"}, {"kept": LAMP}, ["back", "left", "never there"]),
        ({}, {"kept": LAMP}, ["back", "left", "never there"]),
    ],
)
def test_the_latest_row_of_an_item_decides_and_without_an_order_the_deletion(spark, changes, accepted, deleted):
    found, gone, counts, contradicted = checked(spark, **changes)

    assert (found, gone) == (accepted, deleted)
    assert counts.rows_in == len(ROWS)
    of_back = (
        {DELETED: 3}
        if "back" in deleted
        else {"item_id is a duplicate": 1, "item_id is a duplicate with other content": 1}
    )
    expected = {DELETED: 3, "deleted is neither true nor false": 1, "item_id is null": 1}
    assert counts.by_reason == expected | {reason: expected.get(reason, 0) + n for reason, n in of_back.items()}
    assert contradicted == (0 if "back" in deleted else 1)


@pytest.mark.parametrize(
    ("kind", "yes", "no"),
    [("boolean", True, False), ("int", 1, 0), ("double", 1.0, float("nan")), ("string", "1.0", None)],
)
def test_every_format_says_it_in_its_own_way(spark, kind, yes, no):
    rows = [("left", LAMP, "1", yes), ("kept", SOFA, "1", no), ("kept too", SOFA, "1", None)]

    found, gone, counts, _ = checked(spark, rows, kind)

    assert (sorted(found), gone, counts.by_reason) == (["kept", "kept too"], ["left"], {DELETED: 1})


def test_a_column_that_cannot_say_so_is_refused(spark):
    with pytest.raises(
        IngestError, match=r"items\.deleted is gone, a column of type timestamp, must hold booleans, 0 and 1"
    ):
        checked(spark, [], "timestamp")


def test_a_column_that_deletes_most_items_is_taken_for_a_mistake_unless_its_share_is_set():
    active = RowCounts("items", 10, {DELETED: 90})

    with pytest.raises(
        IngestError, match=r'90 of 100 .* at most 50\.0% \(max_rejected_share\.reasons\["item is deleted"\]\)'
    ):
        require_few_rejected([active], RejectedShares())
    require_few_rejected([active], RejectedShares(reasons={DELETED: 0.95}))
    require_few_rejected([RowCounts("items", 60, {DELETED: 40})], RejectedShares())
