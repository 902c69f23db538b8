"""The same values in Parquet, Delta, JSON Lines and CSV become the same rows of ``items``."""

from __future__ import annotations

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qarm_features.catalog.ingest import check_items
from qarm_features.catalog.reading.read_source import read_source
from qarm_features.settings.sections import ItemSource

TEXT = st.none() | st.text(st.characters(blacklist_categories=["Cs", "Cc"]) | st.just("\n"), max_size=6)
NUMBER = st.none() | st.integers(-(2**62), 2**62)
REAL = st.none() | st.floats(allow_nan=False, allow_infinity=False, width=64).map(lambda x: x + 0.0)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "name": TEXT,
            "tags": st.none() | st.lists(TEXT, max_size=3),
            "sizes": st.none() | st.lists(NUMBER, max_size=3),
            "count": NUMBER,
            "sold": st.none() | st.booleans(),
            "price": st.none() | st.decimals(-9999, 9999, places=2).map(float),
            "details": st.none() | st.fixed_dictionaries({"b": TEXT, "a": st.none() | st.lists(TEXT, max_size=2)}),
            "parts": st.none() | st.lists(st.fixed_dictionaries({"x": TEXT, "n": NUMBER}), max_size=2),
        }
    ),
    min_size=200, max_size=300,
)  # fmt: skip
SCHEMA = pa.schema(
    {
        "sku": pa.string(),
        "name": pa.string(),
        "tags": pa.list_(pa.string()),
        "sizes": pa.list_(pa.int64()),
        "count": pa.int64(),
        "sold": pa.bool_(),
        "price": pa.float64(),
        "details": pa.struct({"b": pa.string(), "a": pa.list_(pa.string())}),
        "parts": pa.list_(pa.struct({"x": pa.string(), "n": pa.int64()})),
    }
)
NESTED = ("tags", "sizes", "details", "parts")


def oracle(value):
    """The text of a value, as the documentation says it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {oracle(value[key])}" for key in sorted(value) if oracle(value[key]))
    if isinstance(value, list):
        return ", ".join(oracle(entry) for entry in value if oracle(entry))
    return repr(value)


def rows_of(spark, path, kind, columns):
    source = ItemSource(
        path=str(path), format=kind, item_id="sku", item_id_type="string", title="name", text=list(columns)
    )
    checked = check_items(read_source(spark, source, source.path), source)
    accepted = {row["item_id"]: (row["title"], row["text"]) for row in checked.accepted.collect()}
    return accepted, checked.rejected.count()


@given(ROWS)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_the_same_values_give_the_same_rows_in_every_format(spark, tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("formats")
    rows = [{"sku": f"s{n}", **row} for n, row in enumerate(rows)]
    table = pa.Table.from_pylist(rows, SCHEMA)
    pq.write_table(table, folder / "items.parquet")
    spark.read.parquet(str(folder / "items.parquet")).write.format("delta").save(str(folder / "delta"))
    (folder / "items.jsonl").write_text(
        "\n".join(json.dumps(row, ensure_ascii=n % 2 == 0) for n, row in enumerate(rows))
    )
    columns = [name for name in SCHEMA.names if name != "sku"]
    flat = [name for name in columns if name not in NESTED]
    with (folder / "items.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["sku", *flat])
        writer.writerows([[row["sku"], *[oracle(row[name]) for name in flat]] for row in rows])

    def expected(names):
        texts = {row["sku"]: [strip(oracle(row[name])) for name in names] for row in rows}
        joined = {sku: ". ".join(text for text in parts if text) for sku, parts in texts.items()}
        return {row["sku"]: (strip(row["name"]) or None, joined[row["sku"]]) for row in rows if joined[row["sku"]]}

    for kind, path in (("parquet", "items.parquet"), ("delta", "delta"), ("jsonl", "items.jsonl")):
        accepted, rejected = rows_of(spark, folder / path, kind, columns)
        assert accepted == expected(columns)
        assert len(accepted) + rejected == len(rows)
    assert rows_of(spark, folder / "items.csv", "csv", flat)[0] == expected(flat)


def strip(text):
    return text.strip(" ") if text else text
