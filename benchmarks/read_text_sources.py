"""Reading of CSV and JSON Lines by the file's own header, with checked encoding and line numbers, against Spark's readers.

Run: python benchmarks/read_text_sources.py [--rows 1000000]

Both read the same files and count the rows whose four columns are not null, once each in turns, after one run to warm up.
Spark's CSV reader runs in its multiLine mode, as line breaks in quoted fields demand. What Spark's readers do not do: they
map columns by position, take invalid bytes, take the first of two objects on a line, and number no lines.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from pyspark.sql import functions as F

from qarm_features.catalog.reading.read_source import read_source
from qarm_features.jobs.spark_session import start_session
from qarm_features.settings.sections import SparkOptions
from qarm_features.settings.sources import InteractionSource

COLUMNS = ["user_id", "item_id", "event_timestamp", "label"]
ROUNDS = 3


def write_logs(folder: Path, rows: int) -> None:
    random = np.random.default_rng(0)
    users, items = random.integers(0, 10**6, rows), random.integers(0, 10**5, rows)
    times, labels = 1_700_000_000 + random.integers(0, 10**7, rows), random.integers(1, 6, rows)
    with (
        open(folder / "plain.csv", "w") as plain,
        open(folder / "quoted.csv", "w") as quoted,
        open(folder / "log.jsonl", "w") as objects,
    ):
        plain.write("user_id,item_id,event_timestamp,label,note\n")
        quoted.write("user_id,item_id,event_timestamp,label,note\n")
        for number, (user, item, at, label) in enumerate(zip(users, items, times, labels)):
            plain.write(f"{user},{item},{at},{label},seen on a phone\n")
            note = '"two\nlines"' if number % 100 == 0 else '"seen, ""liked"""' if number % 10 == 0 else "seen"
            quoted.write(f"{user},{item},{at},{label},{note}\n")
            objects.write(f'{{"user_id": {user}, "item_id": {item}, "event_timestamp": {at}, "label": {label}}}\n')


def count(frame) -> int:
    return frame.where(F.greatest(*[F.length(name) for name in COLUMNS]) > 0).count()


def by_us(spark, path: Path):
    return read_source(spark, InteractionSource(path=str(path), label="label", timestamp_unit="seconds"), str(path))


def by_spark(spark, path: Path):
    if path.suffix == ".csv":
        return spark.read.csv(str(path), header=True, multiLine=True, escape='"')
    return spark.read.schema(", ".join(f"{name} string" for name in COLUMNS)).json(str(path))


def seconds(function, *args) -> tuple[float, int]:
    started = time.perf_counter()
    rows = count(function(*args))
    return time.perf_counter() - started, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_logs(folder, rows)
        spark = start_session(SparkOptions(), name="read text", log_file=folder / "spark.log")
        for name in ("plain.csv", "quoted.csv", "log.jsonl"):
            path, took = folder / name, {by_us: [], by_spark: []}
            for turn in range(ROUNDS + 1):
                for reader, times in took.items():
                    spent, found = seconds(reader, spark, path)
                    assert found == rows, (name, reader, found)
                    times += [spent] if turn else []
            ours, theirs = (statistics.median(times) for times in took.values())
            print(
                f"{name}: ours {ours:.1f} s ({rows / ours:,.0f} rows/s), Spark's {theirs:.1f} s "
                f"({rows / theirs:,.0f} rows/s), ratio {theirs / ours:.2f}",
                flush=True,
            )
        spark.stop()


if __name__ == "__main__":
    main()
