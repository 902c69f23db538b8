"""The same values in Parquet, Delta, JSON Lines and CSV become the same rows of ``items``."""

from __future__ import annotations

import csv
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from qarm_features.catalog.ingest import check_items
from qarm_features.catalog.reading.read_source import read_source
from qarm_features.settings.sources import ItemSource

ROWS = 300
CHARACTERS = "ab z,;:é漢 ½'[]{}\\\n\u2028\U0001f600\""


def maybe(rng, value):
    return None if rng.random() < 0.15 else value


def text(rng):
    return maybe(rng, "".join(rng.choices(CHARACTERS, k=rng.randint(0, 6))))


def number(rng):
    return maybe(rng, rng.choice([0, -1, rng.randint(-(2**62), 2**62)]))


def several(rng, draw, most=3):
    return maybe(rng, [draw(rng) for _ in range(rng.randint(0, most))])


def random_row(rng):
    return {
        "name": text(rng),
        "tags": several(rng, text),
        "sizes": several(rng, number),
        "count": number(rng),
        "sold": maybe(rng, rng.random() < 0.5),
        "price": maybe(rng, rng.choice([0.0, 1e7, 12345678.5, 0.001, 0.00025, round(rng.uniform(-9999, 9999), 2)])),
        "details": maybe(rng, {"b": text(rng), "a": several(rng, text, 2)}),
        "parts": several(rng, lambda rng: {"x": text(rng), "n": number(rng)}, 2),
    }


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


@given(st.integers(0, 2**32))
@settings(
    max_examples=1, deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=[Phase.generate]
)
def test_the_same_values_give_the_same_rows_in_every_format(spark, tmp_path_factory, seed):
    folder, rng = tmp_path_factory.mktemp("formats"), random.Random(seed)
    rows = [{"sku": f"s{n}", **random_row(rng)} for n in range(ROWS)]
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
