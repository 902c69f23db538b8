"""The point-in-time join in plain Spark against Feast's join and a range join, and the loader against Python lists.

Usage: python benchmarks/training_rows.py                       # 200,000 rows to join, 100,000 to load
       python benchmarks/training_rows.py --rows 20000 --loader-rows 0

Three views are joined: behavior of users (lists of 20; one row in ten arrives late and corrects an earlier one), counts of
items over time, and codes of items. A third of the rows have the time of a view row. Each join runs --repeats times after a
first run that does not count. Equality is checked in both directions on all columns.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

THREADS, LIST, START = 2, 20, datetime(2024, 1, 1, tzinfo=UTC)
FEATURES = ["codes:rq_codes", "counted:count", "behavior:recent", "behavior:total"]


def start_spark(folder: str):
    """Start a Spark session on a few threads, as the jobs do."""
    from qarm_features.jobs.spark_session import start_session
    from qarm_features.settings.sections import SparkOptions

    conf = {"spark.driver.memory": "4g", "spark.sql.shuffle.partitions": "8", "spark.local.dir": folder}
    return start_session(SparkOptions(master=f"local[{THREADS}]", conf=conf), name="benchmark")


def write_tables(spark, folder: Path, rows: int) -> None:
    """Write the rows to join and the tables of the views. Times are whole minutes, so that many tie."""
    from pyspark.sql import functions as F

    keys = max(rows // 40, 10)
    minute = F.floor(F.rand(2) * 100_000).cast("long")

    def drawn(seed: int, key: str):
        ids = spark.range(0, rows, 1, 8).select(
            "id", F.floor(F.rand(seed) * keys).cast("long").alias(key), minute.alias("minute")
        )
        return ids.withColumn("at", F.timestamp_seconds(1_700_000_000 + 60 * F.col("minute")))

    behavior = drawn(1, "user_id").dropDuplicates(["user_id", "at"]).withColumn("made", F.col("at"))
    late = behavior.where("id % 10 = 0").withColumns(
        {"made": F.col("at") + F.expr("INTERVAL 2 DAYS"), "id": -F.col("id")}
    )
    recent = F.transform(F.sequence(F.lit(1), F.lit(LIST)), lambda place: place * 1000 + F.col("id"))
    behavior = behavior.unionByName(late).select(
        "user_id", recent.alias("recent"), F.col("id").alias("total"), "at", "made"
    )
    counted = drawn(3, "item_id").dropDuplicates(["item_id", "at"]).select("item_id", F.col("id").alias("count"), "at")
    codes = spark.range(keys).select(
        F.col("id").alias("item_id"), F.array(F.col("id") % 7, F.col("id") % 5).alias("rq_codes"),
        F.timestamp_seconds(F.lit(0)).alias("at"),
    )  # fmt: skip
    for name, frame in {"behavior": behavior, "counted": counted, "codes": codes}.items():
        frame.write.format("delta").save(str(folder / name))
    beside = F.when(F.rand(5) < 0.33, 0).otherwise(F.floor(F.rand(6) * 60_000_000)).cast("long")
    shown = drawn(4, "user_id").withColumn("item_id", F.floor(F.rand(7) * keys * 1.05).cast("long"))
    at = F.timestamp_micros(F.unix_micros("at") + beside).alias("event_timestamp")
    shown.select(F.col("id").alias("number"), "user_id", "item_id", at).write.format("delta").save(str(folder / "rows"))


def open_store(folder: Path):
    """Return a feature store with the three views."""
    from feast import Entity, FeatureView, Field, ValueType
    from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
    from feast.table_format import DeltaFormat
    from feast.types import Array, Int64

    from qarm_features.cli.new_project import write_project
    from qarm_features.feature_store.views.feature_views import open_feature_store

    write_project(folder / "project")
    user, item = (Entity(name=n, join_keys=[f"{n}_id"], value_type=ValueType.INT64) for n in ("user", "item"))
    fields = {
        "behavior": (user, [Field(name="recent", dtype=Array(Int64)), Field(name="total", dtype=Int64)]),
        "counted": (item, [Field(name="count", dtype=Int64)]),
        "codes": (item, [Field(name="rq_codes", dtype=Array(Int64))]),
    }
    views = [
        FeatureView(
            name=name, entities=[entity], ttl=timedelta(0), schema=[Field(name=entity.join_key, dtype=Int64), *schema],
            source=SparkSource(
                name=name, path=str(folder / name), table_format=DeltaFormat(), timestamp_field="at",
                created_timestamp_column="made" if name == "behavior" else None,
            ),
        )
        for name, (entity, schema) in fields.items()
    ]  # fmt: skip
    store = open_feature_store(folder / "project" / "feature_repo")
    store.apply([user, item, *views])
    return store


def range_join(spark, folder: Path, rows):
    """Join each row to all earlier view rows of its key, then keep the latest of them."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    views = {"codes": ("item_id", ["at"]), "counted": ("item_id", ["at"]), "behavior": ("user_id", ["at", "made"])}
    for name, (key, order) in views.items():
        view = spark.read.format("delta").load(str(folder / name)).withColumnRenamed(key, "_key")
        on = (F.col(key) == F.col("_key")) & (F.col("at") <= F.col("event_timestamp"))
        newest = Window.partitionBy("number").orderBy(*[F.col(column).desc() for column in order])
        joined = rows.join(view, on=on, how="left").withColumn("_place", F.row_number().over(newest))
        rows = joined.where("_place = 1").drop("_place", "_key", *order)
    return rows


def seconds(make, repeats: int) -> float:
    """Return the seconds of the fastest run that makes a DataFrame and computes all of it, after a first run."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        make().write.format("noop").mode("overwrite").save()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def benchmark_join(rows: int, repeats: int) -> None:
    """Print the seconds of each join and the number of rows that differ."""
    from qarm_features.training.point_in_time import feast_join, spark_join

    with tempfile.TemporaryDirectory() as name:
        spark, folder = start_spark(name), Path(name)
        write_tables(spark, folder, rows)
        store = open_store(folder)
        shown = spark.read.format("delta").load(str(folder / "rows"))
        ways = {
            "ours": lambda: spark_join(store, shown, FEATURES),
            "Feast": lambda: feast_join(store, shown, FEATURES),
            "range join": lambda: range_join(spark, folder, shown),
        }
        columns = ["number", "user_id", "item_id", "event_timestamp", *[f.split(":")[1] for f in FEATURES]]
        ours = ways["ours"]().select(columns).persist()
        for way in ("Feast", "range join"):
            other = ways[way]().select(columns).persist()
            differing = ours.exceptAll(other).count() + other.exceptAll(ours).count()
            print(f"rows {ours.count():,}, {way} {other.count():,}: {differing} differ", flush=True)
        spark.catalog.clearCache()
        taken = {way: seconds(make, repeats) for way, make in ways.items()}
        for way, value in taken.items():
            print(f"{way}: {value:.2f} s, ratio to ours {value / taken['ours']:.2f}", flush=True)
        spark.stop()


def write_training_rows(file: Path, rows: int, length: int, levels: int) -> None:
    """Write rows like ``build_training_set``, with sequences of 0 to ``length`` items and flattened codes."""
    random = np.random.default_rng(0)
    sizes = random.integers(0, length + 1, rows)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    items = random.integers(0, 20_000, offsets[-1])
    codes = random.integers(0, 256, offsets[-1] * levels).astype(np.int32)
    target = random.integers(0, 256, rows * levels).astype(np.int32)
    table = pa.table({
        "user_id": random.integers(0, rows // 20 + 1, rows),
        "item_id": random.integers(0, 20_000, rows),
        "label": random.integers(0, 2, rows).astype(np.int32),
        "item_codes": pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * levels, target),
        "behavior_item_ids": pa.ListArray.from_arrays(offsets, items),
        "behavior_codes": pa.ListArray.from_arrays(offsets * levels, codes),
    })  # fmt: skip
    pq.write_table(table, file, row_group_size=20_000)


def python_lists(file: Path, batch_size: int, length: int, levels: int):
    """Yield the first five tensors of each batch, made from Python lists as in a short script."""
    import torch

    for batch in pq.ParquetFile(file).iter_batches(batch_size):
        rows = batch.to_pylist()
        items, codes, mask = [], [], []
        for row in rows:
            kept, pad = len(row["behavior_item_ids"]), length - len(row["behavior_item_ids"])
            items.append([item + 1 for item in row["behavior_item_ids"]] + [0] * pad)
            flat = row["behavior_codes"]
            codes.append(
                [flat[start : start + levels] for start in range(0, kept * levels, levels)]
                + [[-1] * levels for _ in range(pad)]
            )
            mask.append([True] * kept + [False] * pad)
        target = torch.tensor([row["item_id"] + 1 for row in rows]), torch.tensor([row["item_codes"] for row in rows])
        yield *target, torch.tensor(items), torch.tensor(codes), torch.tensor(mask)


def benchmark_loader(rows: int, repeats: int, length: int = 50, levels: int = 3, batch_size: int = 1024) -> None:
    """Print rows per second of both loaders in order, and of ours shuffled."""
    import torch

    from qarm_features.ranking import ItemVocabulary, TrainingRows

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "rows.parquet"
        write_training_rows(file, rows, length, levels)

        def ours(shuffle_rows: int):
            options = {"num_levels": levels, "batch_size": batch_size, "behavior_length": length}
            return TrainingRows([str(file)], ItemVocabulary(range(20_000)), **options, shuffle_rows=shuffle_rows)

        ways = {
            "ours": lambda: iter(ours(0)),
            "ours, shuffled": lambda: iter(ours(min(65_536, rows // 2))),
            "Python lists": lambda: python_lists(file, batch_size, length, levels),
        }
        differing = sum(
            not torch.equal(mine, its)
            for batch, other in zip(ways["ours"](), ways["Python lists"]())
            for mine, its in zip(batch[:5], other)
        )
        print(f"{differing} tensors differ")
        speed = {}
        for way, make in ways.items():
            times = []
            for _ in range(repeats):
                started = time.perf_counter()
                read = sum(len(batch[0]) for batch in make())
                times.append(time.perf_counter() - started)
            speed[way] = read / min(times)
            print(f"{way}: {speed[way]:,.0f} rows/s", flush=True)
        print(f"ratio of ours to Python lists: {speed['ours'] / speed['Python lists']:.1f}, shuffled "
              f"{speed['ours, shuffled'] / speed['Python lists']:.1f}")  # fmt: skip


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--loader-rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    if args.loader_rows:
        benchmark_loader(args.loader_rows, args.repeats)
    if args.rows:
        benchmark_join(args.rows, args.repeats)


if __name__ == "__main__":
    main()
