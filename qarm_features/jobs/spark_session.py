"""The Spark session with Delta.

In: the section ``spark`` of the settings. Out: a session, either started here or configured by spark-submit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qarm_features.settings.sections import SparkOptions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def start_session(options: SparkOptions, *, name: str, log_file: Path | None = None) -> SparkSession:
    """Starts Spark with Delta, or returns the session that spark-submit configured.

    Args:
        options: Section ``spark`` of the settings.
        name: Name of the Spark application.
        log_file: File that receives Spark's own log; None leaves the log on stderr.

    Raises:
        ImportError: pyspark or delta-spark is not installed.
        RuntimeError: Spark did not start, and its log is in ``log_file``.
    """
    try:
        from delta import configure_spark_with_delta_pip
        from pyspark.logger import PySparkLogger
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise ImportError(
            f"Spark needs the package {error.name}. Run: pip install 'qarm-features[spark]'", name=error.name
        ) from error

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # Under spark-submit its --master, --conf and jars win.
    builder = SparkSession.builder.appName(name)
    if not submitted:
        builder = builder.master(options.master or "local[*]")
    for key, value in {**_our_conf(options, submitted=submitted), **options.conf}.items():
        builder = builder.config(key, value)
    if not submitted:
        builder = configure_spark_with_delta_pip(builder)
    with _stderr_to(log_file):
        spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    for logger in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        # They print an error as JSON before it is raised, and again in every place that catches it.
        PySparkLogger.getLogger(logger).setLevel(logging.CRITICAL + 1)
    return spark


def _our_conf(options: SparkOptions, *, submitted: bool) -> dict[str, str]:
    conf = {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.showConsoleProgress": "false",
    }
    if not submitted and (options.master or "local").startswith("local"):
        # On one machine with small tables every Delta commit would otherwise schedule tens of empty tasks.
        conf |= {
            "spark.databricks.delta.snapshotPartitions": "2",
            "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 2)),
            "spark.ui.enabled": "false",
            "spark.driver.memory": "2g",
        }
    return conf


@contextlib.contextmanager
def _stderr_to(log_file: Path | None) -> Iterator[None]:
    """Starts processes with ``log_file`` as their stderr: the JVM and its Python workers keep it when this ends."""
    if log_file is None:
        yield
        return
    log_file.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    own_stderr = os.dup(2)
    try:
        with open(log_file, "wb") as log_output:
            os.dup2(log_output.fileno(), 2)
        yield
    except Exception as error:
        raise RuntimeError(f"Spark did not start. Read its log, {log_file}, or run: qarm doctor") from error
    finally:
        os.dup2(own_stderr, 2)
        os.close(own_stderr)
