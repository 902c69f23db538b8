"""Times and labels are read strictly: what Spark's casts guess is rejected with a reason."""

from __future__ import annotations

import json
from datetime import date, datetime

import pandas as pd
import pytest

from qarm_features.catalog.ingest import IngestError, check_interactions
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.settings.sources import InteractionSource
from tests.toy_catalog import open_project, toy_interactions, write_toy_project


def read(spark, values, kind, column="at", **changes):
    """Returns per value the time or label of its row, or the reason of its rejection."""
    schema = f"item_id int, {column} {kind}" + (", at int" if column != "at" else "")
    rest = (10,) if column != "at" else ()
    raw = spark.createDataFrame([(n, v, *rest) for n, v in enumerate(values)], schema)
    source = InteractionSource(path="x.csv", user_id="item_id", event_timestamp="at", **changes)
    checked = check_interactions(raw, source, item_id_type="integer")
    name = "event_timestamp" if column == "at" else "label"
    found = {row["item_id"]: row[name] for row in checked.accepted.collect()}
    found |= {json.loads(row["row"])["item_id"]: row["reason"] for row in checked.rejected.collect()}
    return [str(found[n]) for n in range(len(values))]


def test_text_is_a_time_if_it_is_iso_8601_with_a_date(spark):
    good = {
        "2024-01-05": "2024-01-05 00:00:00",
        "2024-01-05 10:15": "2024-01-05 10:15:00",
        " 2024-01-05T10:15:00Z ": "2024-01-05 10:15:00",
        "2024-01-05T10:15Z": "2024-01-05 10:15:00",
        "2024-1-5 9:05+01:00": "2024-01-05 08:05:00",
        "2024-01-05T10:15:00.123456789+0100": "2024-01-05 09:15:00.123456",
        "2024-01-05 10:15:00 Europe/Paris": "2024-01-05 09:15:00",
    }
    words = ["10:15:00", "T10:15", "2024", "2024-01", "now", "today", "epoch", "2024-01-05 10:15:00 EST"]
    words += ["2024-01-05 at noon", "2024-01-05T10:15:00.", "2024-02-30", "05/01/2024", "20240105", "1704067200"]

    assert read(spark, list(good), "string") == list(good.values())
    assert read(spark, words, "string") == ["event_timestamp is not a timestamp"] * len(words)
    assert read(spark, ["", None, "1969-12-31"], "string") == [
        "event_timestamp is null",
        "event_timestamp is null",
        "event_timestamp is not between 1970 and 2100",
    ]


def test_text_and_timestamps_without_a_zone_are_utc_unless_the_session_says_another_zone(spark):
    def read_both():
        return [
            *read(spark, ["2024-07-05 10:15:00"], "string"),
            *read(spark, [datetime(2024, 7, 5, 10, 15)], "timestamp_ntz"),
            *read(spark, [date(2024, 7, 5)], "date"),
        ]

    in_utc = read_both()
    spark.conf.set("spark.sql.session.timeZone", "Europe/Paris")
    try:
        in_paris = read_both()
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")

    assert in_utc == ["2024-07-05 10:15:00", "2024-07-05 10:15:00", "2024-07-05 00:00:00"]
    assert in_paris == ["2024-07-05 08:15:00", "2024-07-05 08:15:00", "2024-07-04 22:00:00"]


@pytest.mark.parametrize("kind", ["bigint", "double", "string"])
@pytest.mark.parametrize(
    ("unit", "per_second"), [("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)]
)
def test_numbers_are_times_in_each_unit_and_old_and_synthetic_ones_are_kept(spark, kind, unit, per_second):
    seconds = [10, 874_724_710, 1_700_000_000]
    values = [{"bigint": int, "double": float, "string": str}[kind](second * per_second) for second in seconds]

    assert read(spark, values, kind, timestamp_unit=unit) == [
        "1970-01-01 00:00:10",
        "1997-09-20 03:05:10",
        "2023-11-14 22:13:20",
    ]


def test_a_number_is_exact_to_the_microsecond(spark):
    text = ["1700000000.123456", "1.7e9"]

    assert read(spark, text, "string", timestamp_unit="seconds") == [
        "2023-11-14 22:13:20.123456",
        "2023-11-14 22:13:20",
    ]
    assert read(spark, [1_700_000_000_123_456_789], "bigint", timestamp_unit="nanoseconds") == [
        "2023-11-14 22:13:20.123456"
    ]


def test_what_only_a_program_calls_a_number_is_neither_a_time_nor_a_label(spark):
    words = ["5d", "0x1p3", "1_000", "Infinity", "soon", "1e400"]

    times = read(spark, words, "string", timestamp_unit="seconds")
    labels = read(spark, words, "string", "label", label="label", timestamp_unit="seconds")

    assert times == ["event_timestamp is not a number"] * len(words)
    assert labels == ["label is not a number"] * len(words)


def test_labels_are_read_alike_in_every_column(spark):
    options = {"column": "label", "label": "label", "timestamp_unit": "seconds"}

    assert read(spark, [True, False, None], "boolean", **options) == ["1", "0", "label is null"]
    assert read(spark, ["true", "False", "TRUE", "yes"], "string", **options) == [
        "1",
        "0",
        "1",
        "label is not a number",
    ]
    assert read(spark, [1.0, 0.5, float("nan"), float("inf")], "double", **options) == [
        "1",
        "0",
        "label is null",
        "label is not a number",
    ]
    for kind, value in (("float", 4.1), ("double", 4.1), ("string", "4.1")):
        assert read(spark, [value], kind, positive_from=4.1, **options) == ["1"]


@pytest.mark.parametrize(
    ("kind", "value", "changes", "message"),
    [
        ("timestamp", datetime(2024, 1, 1), {"timestamp_unit": "seconds"},
         "timestamp_unit is seconds, must be timestamp, because the column at has type timestamp"),
        ("float", 1.0, {"timestamp_unit": "seconds"}, "a column of type float, which holds present times to a minute"),
        ("boolean", True, {}, "event_timestamp is at, a column of type boolean, must hold timestamps, dates"),
        ("boolean", True, {"column": "label", "label": "label", "positive_from": 4, "timestamp_unit": "seconds"},
         "positive_from is 4, must be above 0 and at most 1, because the column label holds booleans"),
        ("date", date(2024, 1, 1), {"column": "label", "label": "label", "timestamp_unit": "seconds"},
         "interactions.label is label, a column of type date, must hold numbers, booleans or text"),
    ],
)  # fmt: skip
def test_a_column_of_another_type_is_refused(spark, kind, value, changes, message):
    with pytest.raises(IngestError, match=message):
        read(spark, [value], kind, **changes)


@pytest.mark.parametrize(("unit", "fitting"), [("milliseconds", "seconds"), ("seconds", "milliseconds")])
def test_numbers_in_another_unit_are_refused_with_the_unit_that_fits(spark, tmp_path, unit, fitting):
    folder = write_toy_project(tmp_path)
    log = toy_interactions()
    log["event_timestamp"] = log["event_timestamp"].astype("int64") // (10**6 if fitting == "seconds" else 10**3)
    log.loc[0, "event_timestamp"] = 10
    log.to_parquet(folder / "catalog" / "interactions.parquet", index=False)
    settings = (folder / "qarm.yaml").read_text().replace("label: rating", f"label: rating\n  timestamp_unit: {unit}")
    (folder / "qarm.yaml").write_text(settings)

    message = (
        f"timestamp_unit is {unit}, but most .* only in {fitting}, .* to 2024-01-01. Set timestamp_unit: {fitting}"
    )
    with pytest.raises(IngestError, match=message):
        ingest_catalog(open_project(folder, spark))


def test_times_that_became_1970_before_they_came_here_are_told(spark, tmp_path):
    folder = write_toy_project(tmp_path)
    log = toy_interactions()
    seconds = log["event_timestamp"].astype("int64") // 10**6
    log["event_timestamp"] = pd.to_datetime(seconds * 1000).dt.as_unit("us")  # without a unit, pandas reads nanoseconds
    log.to_parquet(folder / "catalog" / "interactions.parquet", index=False)

    counts = ingest_catalog(open_project(folder, spark))

    assert "800 rows of interactions lie in January or February 1970: check their unit" in counts.remark
