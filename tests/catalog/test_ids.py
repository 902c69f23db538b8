"""An ID is the same value whatever the type of its column, and an ID that lost digits is rejected."""

from __future__ import annotations

from decimal import Decimal

import pytest

from qarm_features.catalog.ingest import IngestError, check_interactions, check_items
from qarm_features.settings.sources import InteractionSource, ItemSource

NAN = float("nan")


def ids(spark, values, kind, id_type):
    """Returns accepted IDs and the reasons of the others, in the order of the values."""
    raw = spark.createDataFrame([(v, f"{n:03}") for n, v in enumerate(values)], f"item_id {kind}, text string")
    checked = check_items(raw, ItemSource(path="x.parquet", item_id_type=id_type))
    accepted = {row["text"]: row["item_id"] for row in checked.accepted.collect()}
    rejected = {row["row"].split('"text":"')[1][:3]: row["reason"] for row in checked.rejected.collect()}
    assert not accepted.keys() & rejected.keys()
    return [both[f"{n:03}"] for both in [{**accepted, **rejected}] for n in range(len(values))]


def test_whole_floats_and_decimals_are_the_text_of_the_integer(spark):
    assert ids(spark, [10.0, 12345678.0, -0.0], "double", "string") == ["10", "12345678", "0"]
    assert ids(spark, [10.0, 16777215.0], "float", "string") == ["10", "16777215"]
    wide = Decimal("12345678901234567890.00")
    assert ids(spark, [Decimal("10.00"), wide], "decimal(38,2)", "string") == ["10", "12345678901234567890"]


@pytest.mark.parametrize(("kind", "limit"), [("double", 2**53), ("float", 2**24)])
@pytest.mark.parametrize(("id_type", "not_whole"), [("string", "a whole number"), ("integer", "an integer")])
def test_a_float_that_is_no_whole_number_or_lost_digits_is_rejected(spark, kind, limit, id_type, not_whole):
    lost = "item_id is too large for a float to hold all its digits"
    values = [1.5, float("inf"), NAN, None, float(limit), -float(limit), float(limit - 1)]

    found = ids(spark, values, kind, id_type)

    largest = limit - 1 if id_type == "integer" else str(limit - 1)
    none = "item_id is null"
    assert found == [f"item_id is not {not_whole}"] * 2 + [none, none, lost, lost, largest]


def test_integers_keep_all_digits_in_the_columns_that_have_them(spark):
    large = 2**53 + 1
    assert ids(spark, [large], "bigint", "string") == [str(large)]
    assert ids(spark, [str(large)], "string", "integer") == [large]
    assert ids(spark, [Decimal(large)], "decimal(20,0)", "integer") == [large]
    assert ids(spark, [f"{large}.0"], "string", "integer") == [
        "item_id is too large for a float to hold all its digits"
    ]


def test_text_of_a_string_id_stays_as_it_is_and_text_of_an_integer_id_is_read(spark):
    values = ["10.0", "007", " a\t", "\ufeffb\u00a0", "1e3"]

    assert ids(spark, values, "string", "string") == ["10.0", "007", "a", "b", "1e3"]
    bad = "item_id is not an integer"
    assert ids(spark, values, "string", "integer") == [10, 7, bad, bad, bad]


@pytest.mark.parametrize("id_type", ["integer", "string"])
def test_words_for_a_missing_value_are_no_ids(spark, id_type):
    words = ["null", "NULL", "None", "nan", "NaN", "<NA>", "\\N", " ", "", None]

    assert ids(spark, words, "string", id_type) == ["item_id is null"] * len(words)


def test_a_column_of_another_type_is_refused(spark):
    raw = spark.createDataFrame([(True, 1, 2)], "user_id boolean, item_id int, event_timestamp int")

    message = "The column user_id has type boolean, must hold numbers or text to be a user_id. Name another column."
    with pytest.raises(IngestError, match=message):
        check_interactions(raw, InteractionSource(path="x.csv", timestamp_unit="seconds"), item_id_type="integer")
