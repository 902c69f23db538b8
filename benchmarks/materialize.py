"""``feast materialize`` into Redis: the bulk engine against Feast's own Spark engine and a raw redis-py pipeline.

Every engine loads the same view in a process of its own. It reads the rows of the time window from Parquet and selects the
latest row of each item (a tenth of the items have an older row, too). The written rows are counted. The raw pipeline only
sends bytes that were encoded before. Memory is the peak PSS of the driver's JVM, its Python and Spark's Python workers.

    python benchmarks/materialize.py --rows 500000
    python benchmarks/materialize.py --memory          # the bulk engine at 100,000, 500,000 and 1,000,000 items
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from redis import Redis
from servers.redis_server import redis_server

BULK, STOCK = "qarm_features.feature_store.bulk_engine.BulkEngine", "spark.engine"
START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
CHUNK, LEVELS, CODES = 5000, 3, 256


def main() -> None:
    """Print rows per second of each engine and their ratios, or the memory of the bulk engine."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=500_000)
    arguments.add_argument("--repeats", type=int, default=2, help="loads of each engine; the fastest counts")
    arguments.add_argument(
        "--dedup", action="store_true", help="set skip_dedup: false, so that stored times are read first"
    )
    arguments.add_argument("--memory", action="store_true")
    arguments.add_argument("--load", nargs=2, metavar=("ENGINE", "PORT"), help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.load:
        print(json.dumps(load(*options.load, options)))
    elif options.memory:
        for rows in (100_000, 500_000, 1_000_000):
            figures = run(BULK, argparse.Namespace(rows=rows, repeats=1, dedup=options.dedup))
            print(f"{rows:>9,} items: {figures['seconds']:6.1f} s, peak memory {figures['memory']}")
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Print seconds, rows per second and memory of each engine, and the ratios."""
    bulk, stock = run(BULK, options), run(STOCK, options)
    print(
        f"{options.rows:,} items, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, skip_dedup {not options.dedup}"
    )
    for name, figures in (("bulk engine", bulk), ("spark.engine", stock)):
        print(f"{name:>22}: {figures['seconds']:6.1f} s {figures['rate']:>9,.0f} rows/s, memory {figures['memory']}")
    print(f"{'against spark.engine':>22}: {stock['seconds'] / bulk['seconds']:.1f}x")
    for processes in (1, 2):
        seconds = raw_pipeline(options.rows, processes)
        print(f"{'raw pipeline':>22}: {seconds:6.1f} s {options.rows / seconds:>9,.0f} rows/s, {processes} process(es)")
        print(f"{'against it':>22}: {seconds / bulk['seconds']:.2f}x")


def run(engine: str, options: argparse.Namespace) -> dict:
    """Load with one engine in a new process, into a new server."""
    with redis_server() as (port, _):
        command = [sys.executable, __file__, "--load", engine, str(port), "--rows", str(options.rows)]
        command += ["--repeats", str(options.repeats)] + (["--dedup"] if options.dedup else [])
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def load(engine: str, port: str, options: argparse.Namespace) -> dict:
    """Materialize the view, after a first load of few rows in which the workers import their modules."""
    from qarm_features.jobs.spark_session import start_session
    from qarm_features.settings.sections import SparkOptions

    spark = start_session(SparkOptions(conf={"spark.driver.memory": "1g"}), name="materialize")
    with tempfile.TemporaryDirectory() as folder, Redis(port=int(port)) as redis:
        online = {"type": "redis", "connection_string": f"127.0.0.1:{port}", "skip_dedup": not options.dedup}
        store = feast_store(Path(folder), engine, online)
        for name, rows in (("few", 1000), ("item_view", options.rows)):
            store.apply(item_view(spark, Path(folder) / name, name, rows))
        times, peaks = [], Peaks()
        for view in ["few"] + ["item_view"] * options.repeats:
            redis.flushall()
            started = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()), peaks:
                store.materialize(START, END, [view])
            times.append(time.perf_counter() - started)
        written = redis.dbsize()
        assert written == options.rows, f"{written:,} items written, must be {options.rows:,}"
    seconds = min(times[1:])
    return {"seconds": seconds, "rate": options.rows / seconds, "memory": str(peaks)}


def feast_store(folder: Path, engine: str, online: dict):
    """Return a Feast store with a batch engine and an online store."""
    import warnings

    import feast.infra.offline_stores.contrib.spark_offline_store.spark  # noqa: F401  turns warnings on again
    from feast import FeatureStore, RepoConfig

    warnings.simplefilter("ignore")
    config = RepoConfig(
        project="benchmark",
        provider="local",
        registry={"registry_type": "sql", "path": f"sqlite:///{folder}/registry.db"},
        online_store=online,
        offline_store={"type": "spark"},
        batch_engine={"type": engine},
        materialization={"online_write_batch_size": CHUNK},
        entity_key_serialization_version=3,
    )
    return FeatureStore(config=config)


def item_view(spark, path: Path, name: str, rows: int) -> list:
    """Write items with codes, a tenth of them twice, and return their entity and view."""
    from feast import Entity, FeatureView, Field, ValueType
    from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
    from feast.types import Array, Int32, Int64
    from pyspark.sql import functions as F

    twice = (
        spark.range(rows)
        .unionAll(spark.range(rows // 10))
        .withColumn("minute", F.monotonically_increasing_id() % 40_000)
    )

    def code(level):
        return F.pmod(F.xxhash64("id", level), F.lit(CODES)).cast("int")

    twice.select(
        F.col("id").alias("item_id"),
        F.transform(F.sequence(F.lit(1), F.lit(LEVELS)), code).alias("rq_codes"),
        F.lit(0).alias("codebook_version"),
        F.timestamp_seconds(F.lit(int(START.timestamp())) + 60 * F.col("minute")).alias("event_timestamp"),
    ).write.parquet(str(path))
    item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64)
    schema = {"item_id": Int64, "rq_codes": Array(Int32), "codebook_version": Int32}
    source = SparkSource(name=name, path=str(path), file_format="parquet", timestamp_field="event_timestamp")
    fields = [Field(name=column, dtype=dtype) for column, dtype in schema.items()]
    return [item, FeatureView(name=name, entities=[item], ttl=timedelta(0), schema=fields, source=source)]


def raw_pipeline(rows: int, processes: int) -> float:
    """Return the seconds that redis-py takes for the same hashes, from bytes that are encoded before."""
    with redis_server() as (port, _), multiprocessing.get_context("fork").Pool(processes) as pool:
        bounds = [rows * process // processes for process in range(processes + 1)]
        seconds = pool.starmap(send_encoded, [(port, *pair) for pair in itertools.pairwise(bounds)])
        with Redis(port=port) as redis:
            assert redis.dbsize() == rows
    return max(seconds)


def send_encoded(port: int, first: int, stop: int) -> float:
    """Send the encoded hashes of items ``first`` to ``stop`` and return the seconds."""
    key = b"\1\0\0\0\2\0\0\0\7\0\0\0item_id\4\0\0\0\10\0\0\0%bbenchmark"
    fields = (b"_ts:item_view", b"\x96\xb2\xaa\x05", b"\x81\xe9\xeb\x22")
    codes = bytes((0x6A, 0x06, 0x0A, 0x04, 0x69, 0x75, 0xC0, 0x01))
    values = (b"\x08\xd2\xe9\xcf\xaa\x06", codes, b"\x18\x00")
    rows = [(key % item.to_bytes(8, "little"), dict(zip(fields, values))) for item in range(first, stop)]
    started = time.perf_counter()
    with Redis(port=port) as redis:
        for start in range(0, len(rows), CHUNK):
            with redis.pipeline(transaction=False) as pipe:
                for name, mapping in rows[start : start + CHUNK]:
                    pipe.hset(name, mapping=mapping)
                pipe.execute()
    return time.perf_counter() - started


class Peaks:
    """A context that records the peak memory of this process, of Java and of Spark's Python workers."""

    def __init__(self):
        self._most = {"driver": 0, "JVM": 0, "workers": 0}

    def __enter__(self):
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def __str__(self) -> str:
        return ", ".join(f"{name} {size >> 20:,} MiB" for name, size in self._most.items())

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._done.wait(0.25):
            now = dict.fromkeys(self._most, 0)
            for process in [own, *own.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    is_java = process.name().startswith("java")
                    kind = "driver" if process == own else "JVM" if is_java else "workers"
                    now[kind] += process.memory_full_info().pss
            self._most = {name: max(size, now[name]) for name, size in self._most.items()}


if __name__ == "__main__":
    main()
