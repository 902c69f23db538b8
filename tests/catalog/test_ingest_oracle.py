"""Ten thousand generated rows are accepted or rejected exactly as plain Python says, row by row and reason by reason."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from qarm_features.catalog.ingest import check_interactions, check_items
from qarm_features.settings.sources import InteractionSource, ItemSource
from tests.catalog.ingest_oracle import (
    UNITS,
    Rejected,
    id_of,
    label_of,
    settle_interactions,
    settle_items,
    time_of,
)

PLACE = "__qarm_file__ string, __qarm_line__ long"
ROWS = 1000
FEW = settings(
    max_examples=3, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
NUMBERS = [
    "1700000000", " 10 ", "1.7e9", "5d", "0x1p3", "Infinity", "nan", "1_000", ".5", "5.", "-3", "", None, "1e400",
    "\u0661\u0662", "+4", "4.0", "4,5", "1e-30", "\ufeff7\u00a0", "true", "FALSE", "yes", "0", "1", "4", "5",
]  # fmt: skip
TIMES = [
    "2024-01-05", "2024-01-05 10:15", "2024-01-05T10:15:00Z", "2024-1-5 9:05+01:00", "2024-01-05T10:15Z", "10:15:00",
    "2024", "2024-01", "now", "today", "epoch", "2024-02-30", "1969-12-31", "2100-01-01",
    "2100-01-01T00:00:00.000001", "2024-01-05T10:15:00.123456789+0530", "2024-07-05 10:15:00 Europe/Paris",
    "2024-01-05 10:15:00 EST", "", None, "2024-01-05T24:00:00", "2024-01-05T10:15:00.", "20240105", " 1997-09-20\t",
    "2024-01-05 x", "2024-01-05T10:15-19",
]  # fmt: skip
IDS = [
    "10", "10.0", "007", "-5", "+5", "1e3", "1.5", "a", " b ", "null", "nan", "NaN", "None", "<NA>", "\\N", "", None,
    "9007199254740993", "9007199254740993.0", "99999999999999999999", "9223372036854775808", "\u0661", "7\n",
]  # fmt: skip

_LETTERS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
# What hypothesis adds to the values above, by kind of column.
MORE = {
    "string": st.one_of(_LETTERS, st.from_regex(r"\A[0-9+.eE:TZ -]{1,12}\Z")),
    "bigint": st.one_of(st.integers(-9, 9), st.integers(-(2**63), 2**63 - 1)),
    "double": st.one_of(st.integers(-9, 9).map(float), st.floats(), st.integers(2**53 - 9, 2**53 + 9).map(float)),
    "float": st.one_of(
        st.integers(-9, 9).map(float), st.floats(width=32), st.integers(2**24 - 9, 2**24 + 9).map(float)
    ),
    "decimal(38,2)": st.one_of(st.integers(-9, 9), st.integers(-(10**30), 10**30)).map(lambda n: Decimal(n).scaleb(-2)),
}


def values(kind, usual):
    """Draws the values of a column: a null, usual ones, and some that hypothesis found."""
    usual = [value for value in usual if value is not None]
    return st.lists(MORE[kind], max_size=25).map(
        lambda more: [None, *more, *(usual * (1 + len(more) // max(len(usual), 1)))]
    )


def interaction_columns(kinds):
    """Draws the pools of values of one log, and a seed for its rows."""
    user, item, (time, unit), label = kinds
    numeric = {
        "string": NUMBERS,
        "bigint": [
            3,
            874_724_710 * UNITS.get(unit, 1),
            1_700_000_000 * UNITS.get(unit, 1),
            1_700_000_000,
            1_700_000_000_000,
        ],
        "double": [float("nan"), float("inf"), -1.0, 10.5, 1_700_000_000.25 * UNITS.get(unit, 1), 1.7e9, 1.7e12, 1e300],
        "timestamp": [datetime(year, 1, 5, 10, 15, tzinfo=UTC) for year in (1969, 1997, 2024, 2200)],
        "date": [date(2024, 1, 5), date(1960, 1, 1), date(2100, 1, 1)],
    }
    times = st.just([None, *(TIMES if unit == "timestamp" and time == "string" else numeric[time])])
    labels = {
        "string": [*NUMBERS, "4.1"],
        "float": [4.1, 4.5, -1.0, float("nan"), float("inf"), 3.9],
        "double": [4.1, 4.0999, float("nan"), float("-inf"), 0.0],
        "bigint": [5, 4, -1, 2**60],
    }[label]
    ids = [*range(1, 6)]
    usual = {
        "string": IDS,
        "bigint": ids,
        "double": [*map(float, ids), 1.5],
        "float": [*map(float, ids), 1.5],
        "decimal(38,2)": [Decimal(n) for n in ids],
    }
    return st.fixed_dictionaries(
        {
            "user": values(user, usual[user]),
            "item": values(item, usual[item]),
            "at": times,
            "rating": st.just([None, *labels]),
            "seed": st.integers(0, 2**32),
        }
    )


CASES = [
    # user, item, (time, unit), label, ID types, rule
    (("string", "double", ("string", "timestamp"), "string"), ("integer", "string"), "max"),
    (("string", "float", ("string", "seconds"), "float"), ("string", "integer"), "sum"),
    (("double", "decimal(38,2)", ("bigint", "milliseconds"), "double"), ("integer", "string"), "latest"),
    (("float", "bigint", ("double", "microseconds"), "bigint"), ("string", "string"), "sum"),
    (("bigint", "decimal(38,2)", ("timestamp", "timestamp"), "string"), ("integer", "integer"), "latest"),
    (("decimal(38,2)", "string", ("date", "timestamp"), "double"), ("string", "string"), "max"),
]


def by_line(checked, *columns):
    """Returns the accepted rows and the reasons by line, both as they are after all checks."""
    kept = checked.rows.where("_reason IS NULL").selectExpr("__qarm_line__", *columns).collect()
    reasons = {row["line"]: row["reason"] for row in checked.rejected.collect()}
    accepted = Counter(tuple(row) for row in checked.accepted.selectExpr(*columns).collect())
    by_line = {row[0]: tuple(row)[1:] for row in kept}
    assert by_line and any("duplicate" in reason for reason in reasons.values())
    assert accepted == Counter(by_line.values())
    return by_line, reasons


@pytest.mark.parametrize(("kinds", "id_types", "rule"), CASES)
def test_interactions_are_what_plain_python_makes_of_them(spark, kinds, id_types, rule):
    user, item, (time, unit), label = kinds
    user_type, item_type = id_types
    schema = f"user {user}, item {item}, at {time}, rating {label}, step int, {PLACE}"
    source = InteractionSource(
        path="log.csv",
        user_id="user",
        user_id_type=user_type,
        item_id="item",
        event_timestamp="at",
        timestamp_unit=unit,
        label="rating",
        positive_from=4.1,
        duplicates=rule,
        order_by="step",
    )

    @FEW
    @given(interaction_columns(kinds))
    def check(pools):
        choose = random.Random(pools["seed"])
        rows = []
        for n in range(ROWS):
            key = [choose.choice(pools[name]) for name in ("user", "item", "at")]
            if n % 2:
                key = choose.choice(rows)[:3]  # of an earlier row, so that there are duplicates
            rows.append((*key, choose.choice(pools["rating"]), choose.choice([None, 1, 2]), "f", n))
        usable, reasons = [], {}
        for u, i, at, rating, step, _, line in rows:
            try:
                key = (
                    id_of(u, user, user_type, "user_id"),
                    id_of(i, item, item_type, "item_id"),
                    time_of(at, time, unit),
                )
                usable.append((line, key, label_of(rating, label), step))
            except Rejected as rejected:
                reasons[line] = str(rejected)
        expected, duplicates = settle_interactions(usable, rule, 4.1)

        checked = check_interactions(spark.createDataFrame(rows, schema), source, item_id_type=item_type)
        accepted, found = by_line(
            checked, "user_id", "item_id", "unix_micros(event_timestamp)", "label", "order_in_moment"
        )

        assert len(accepted) + len(found) == ROWS
        assert found == reasons | duplicates
        micros = {line: (*row[:2], round(row[2].timestamp() * 10**6), *row[3:]) for line, row in expected.items()}
        assert accepted == micros

    check()


@pytest.mark.parametrize(
    ("kind", "id_type", "rule"),
    [("string", "string", "most-frequent"), ("double", "string", "first"), ("string", "integer", "latest")],
)
def test_items_are_what_plain_python_makes_of_them(spark, kind, id_type, rule):
    source = ItemSource(
        path="items.csv",
        item_id="sku",
        item_id_type=id_type,
        title="name",
        text=["about"],
        duplicates=rule,
        latest_by="changed",
    )
    pools = st.fixed_dictionaries(
        {
            "sku": values(kind, IDS if kind == "string" else [float(n) for n in range(1, 40)]),
            "about": st.lists(st.text("ab ?\u00e9\U0001f600", max_size=4), max_size=8).map(
                lambda more: [*more, "lamp", "?", "a"]
            ),
            "changed": st.lists(MORE["string"], max_size=10).map(lambda more: [*more, "9", "10", "2024-01-05", None]),
            "seed": st.integers(0, 2**32),
        }
    )

    @FEW
    @given(pools)
    def check(pools):
        choose = random.Random(pools["seed"])
        rows = []
        for n in range(ROWS):
            title, about = choose.choice([None, "", *pools["about"]]), choose.choice([None, *pools["about"]])
            rows.append((choose.choice(pools["sku"]), title, about, choose.choice(pools["changed"]), "f", n))
        usable, reasons = [], {}
        for sku, title, about, changed, _, line in rows:
            try:
                item_id = id_of(sku, kind, id_type, "item_id")
                if not (about or "").strip(" "):
                    raise Rejected("content is empty")
                usable.append((line, item_id, (title or "").strip(" ") or None, about.strip(" "), changed))
            except Rejected as rejected:
                reasons[line] = str(rejected)
        expected, duplicates = settle_items(usable, rule)

        schema = f"sku {kind}, name string, about string, changed string, {PLACE}"
        accepted, found = by_line(check_items(spark.createDataFrame(rows, schema), source), "item_id", "title", "text")

        assert len(accepted) + len(found) == ROWS
        assert found == reasons | duplicates
        assert accepted == expected

    check()
