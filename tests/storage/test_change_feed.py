"""The change feed of a table tells which rows commits added, changed and removed."""

from __future__ import annotations

from qarm_features.storage.change_feed import COMMIT, KIND, changes, keep_change_feed
from qarm_features.storage.sql_names import files_at
from qarm_features.storage.tables import ITEM_COUNTERS
from qarm_features.storage.warehouse import Warehouse


def counters(spark, *rows):
    schema = "item_id long, item_positive_count long, item_impression_count long"
    return spark.createDataFrame(rows, schema).selectExpr("*", "timestamp_seconds(0) AS event_timestamp")


def test_rows_that_came_changed_and_left_since_a_version_are_read(spark, tmp_path):
    warehouse = Warehouse(str(tmp_path), item_id_type="integer", user_id_type="integer", spark=spark)
    path = warehouse.path(ITEM_COUNTERS)
    warehouse.overwrite(ITEM_COUNTERS, counters(spark, (1, 0, 1), (2, 0, 1)))
    spark.sql(f"ALTER TABLE {files_at(path)} SET TBLPROPERTIES ('delta.enableChangeDataFeed' = 'false')")
    first, second = keep_change_feed(spark, path), keep_change_feed(spark, path)
    since = warehouse.version(ITEM_COUNTERS)
    warehouse.append(ITEM_COUNTERS, counters(spark, (3, 0, 1)))
    warehouse.upsert(ITEM_COUNTERS, counters(spark, (1, 5, 6)))
    spark.sql(f"DELETE FROM {files_at(path)} WHERE item_id = 2")

    found = changes(spark, path, after=since, until=since + 3).collect()

    assert (first, second) == (True, False)
    assert sorted((row[COMMIT] - since, row[KIND], row["item_id"], row["item_positive_count"]) for row in found) == [
        (1, "insert", 3, 0),
        (2, "update_postimage", 1, 5),
        (2, "update_preimage", 1, 0),
        (3, "delete", 2, 0),
    ]


def test_a_write_that_is_repeated_under_its_number_adds_nothing(spark, tmp_path):
    warehouse = Warehouse(str(tmp_path), item_id_type="integer", user_id_type="integer", spark=spark)
    warehouse.overwrite(ITEM_COUNTERS, warehouse.empty(ITEM_COUNTERS))
    for number in (0, 0, 1, 0):
        warehouse.append(ITEM_COUNTERS, counters(spark, (number, 0, 1)), once=("somebody", number))

    rows = warehouse.read(ITEM_COUNTERS).collect()

    assert sorted(row["item_id"] for row in rows) == [0, 1]
