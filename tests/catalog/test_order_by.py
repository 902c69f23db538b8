"""The setting interactions.order_by names the column that orders the rows of one user with the same timestamp."""

from __future__ import annotations

import pytest

from qarm_features.catalog.ingest import IngestError, check_interactions
from qarm_features.settings.sources import InteractionSource
from qarm_features.storage.tables import INTERACTIONS

SOURCE = {"path": "log.csv", "event_timestamp": "at", "timestamp_unit": "seconds", "order_by": "line"}


def checked(spark, rows, line_type, **changes):
    log = spark.createDataFrame(rows, f"user_id long, item_id long, at long, line {line_type}")
    return check_interactions(log, InteractionSource(**{**SOURCE, **changes}), item_id_type="integer")


@pytest.mark.parametrize(
    ("line_type", "lines", "expected"),
    [
        ("long", [2, 1, None], [2, 1, None]),
        ("string", ["9007199254740993", "1.0", ""], [2**53 + 1, 1, None]),
        ("double", [2.0, -1.0, None], [2, -1, None]),
    ],
)
def test_the_column_becomes_whole_numbers_and_a_missing_one_stays_missing(spark, line_type, lines, expected):
    rows = [(7, item, 60, line) for item, line in zip((1, 2, 3), lines)]

    accepted = checked(spark, rows, line_type).accepted.orderBy("item_id").collect()

    assert [row["order_in_moment"] for row in accepted] == expected


def test_a_value_that_is_no_whole_number_rejects_its_row(spark):
    rows = [(7, 1, 60, "2"), (7, 2, 60, "second"), (7, 3, 60, "1.5"), (7, 4, 60, "99999999999999999999")]

    found = checked(spark, rows, "string")

    assert [row["item_id"] for row in found.accepted.collect()] == [1]
    assert sorted(row["reason"] for row in found.rejected.collect()) == [
        "order_by does not fit 64 bits",
        "order_by is not an integer",
        "order_by is not an integer",
    ]


def test_a_column_that_the_source_lacks_is_named(spark):
    with pytest.raises(IngestError, match=r"The source of interactions has no column row_number\. Present: .*line"):
        checked(spark, [(7, 1, 60, 1)], "long", order_by="row_number")


def test_without_the_setting_the_table_has_no_such_column_and_readers_see_nulls(spark, fresh_project):
    accepted = checked(spark, [(7, 1, 60, 1)], "long", order_by=None).accepted

    fresh_project.warehouse.overwrite(INTERACTIONS, accepted)

    assert "order_in_moment" not in accepted.columns
    assert fresh_project.warehouse.read(INTERACTIONS).first()["order_in_moment"] is None
