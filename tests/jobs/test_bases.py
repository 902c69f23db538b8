"""What came to a table since a run is read from its feed, or it is said why the whole work must be done."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from qarm_features.jobs.bases import (
    Basis,
    NoBasis,
    WholeWork,
    changes_since,
    mark,
    read_basis,
    require_only_new,
    require_same,
    write_basis,
)
from qarm_features.storage.sql_names import files_at
from qarm_features.storage.tables import ITEM_COUNTERS
from qarm_features.storage.warehouse import Warehouse


def counters(spark, *items: int):
    rows = spark.createDataFrame([(item,) for item in items], "item_id long")
    return rows.selectExpr(
        "item_id", "0L AS item_positive_count", "1L AS item_impression_count", "timestamp_seconds(0) AS event_timestamp"
    )


@pytest.fixture
def warehouse(spark, tmp_path) -> Warehouse:
    """A warehouse with one table of one row."""
    made = Warehouse(str(tmp_path), item_id_type="integer", user_id_type="integer", spark=spark)
    made.overwrite(ITEM_COUNTERS, counters(spark, 1))
    return made


def found_since(warehouse: Warehouse, before) -> int | str:
    """Returns the number of rows that came since a state, or why it is not known."""
    try:
        return require_only_new(
            ITEM_COUNTERS, changes_since(warehouse, ITEM_COUNTERS, before, mark(warehouse, ITEM_COUNTERS))
        )
    except WholeWork as reason:
        return str(reason)


def test_rows_that_came_are_counted_and_all_other_changes_are_a_reason(warehouse, spark):
    path, found = warehouse.path(ITEM_COUNTERS), []
    first = mark(warehouse, ITEM_COUNTERS)

    found.append(found_since(warehouse, first))
    warehouse.append(ITEM_COUNTERS, counters(spark, 2, 3))
    found.append(found_since(warehouse, first))
    later = mark(warehouse, ITEM_COUNTERS)
    spark.sql(f"DELETE FROM {files_at(path)} WHERE item_id = 2")
    found.append(found_since(warehouse, later))
    warehouse.overwrite(ITEM_COUNTERS, counters(spark, 1))
    found.append(found_since(warehouse, later))
    found.append(found_since(warehouse, [later[0], later[1] + 9, later[2]]))
    found.append(found_since(warehouse, [later[0], later[1], 0]))
    found.append(found_since(warehouse, None))

    assert found == [
        0,
        2,
        "rows of item_counters changed or left",
        "item_counters was written anew",
        "item_counters has another history, or a log that no longer tells of it",
        "item_counters has another history, or a log that no longer tells of it",
        "item_counters was made anew",
    ]


def test_a_table_that_was_made_anew_kept_no_feed_or_lost_its_files_is_a_reason(warehouse, spark):
    path = Path(warehouse.path(ITEM_COUNTERS))
    first = mark(warehouse, ITEM_COUNTERS)
    warehouse.append(ITEM_COUNTERS, counters(spark, 2, 3))
    added = {file for file in warehouse.files(ITEM_COUNTERS)}
    spark.sql(f"OPTIMIZE {files_at(str(path))}").collect()
    for file in added:
        Path(file).unlink()

    removed = found_since(warehouse, first)
    spark.sql(f"ALTER TABLE {files_at(str(path))} SET TBLPROPERTIES ('delta.enableChangeDataFeed' = 'false')")
    second = mark(warehouse, ITEM_COUNTERS)
    warehouse.append(ITEM_COUNTERS, counters(spark, 4))
    without = found_since(warehouse, second)
    shutil.rmtree(path)
    warehouse.overwrite(ITEM_COUNTERS, counters(spark, 1))
    anew = found_since(warehouse, first)

    assert (removed, without, anew) == (
        "files of the changes of item_counters were removed",
        "item_counters kept no feed of its changes",
        "item_counters was made anew",
    )


def test_a_basis_is_read_as_it_was_written_and_a_job_that_never_ran_has_none(settings):
    with pytest.raises(NoBasis, match="no earlier run is recorded"):
        read_basis(settings, "ingest_catalog", whole=False)

    basis = Basis({"code": "1"}, {"items": ["id", 3, 5]}, {"unknown": 0})
    write_basis(settings, "ingest_catalog", basis)

    assert read_basis(settings, "ingest_catalog", whole=False) == basis
    with pytest.raises(WholeWork, match="--force asks for it"):
        read_basis(settings, "ingest_catalog", whole=True)
    assert (NoBasis.level, WholeWork.level) == (logging.DEBUG, logging.INFO)


def test_all_values_but_the_named_ones_must_be_the_same():
    require_same({"a": [1], "b": 2}, {"a": (1,), "b": 3}, "changed", but=["b"])

    with pytest.raises(WholeWork, match="^b, c changed$"):
        require_same({"a": 1, "b": 2}, {"a": 1, "c": 2}, "changed")
