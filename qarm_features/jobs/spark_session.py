"""The Spark session with Delta.

In: the section ``spark`` of the settings. Out: a session, either started here or configured by spark-submit. Settings with
secrets reach the JVM after it has started, because everybody on the machine may see the arguments of a process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from qarm_features.settings.secrets import SECRET_NAME, credentials_of, is_secret_name, open_private
from qarm_features.settings.sections import SparkOptions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What spark-submit must know before the JVM runs. All other settings wait until it does.
_AT_LAUNCH = re.compile(
    r"spark\.(master|app\.name|remote|api\.mode|jars($|\.)|files$|archives$|pyspark\.|submit\.|kerberos\.|yarn\.|kubernetes\."
    r"|driver\.(memory|cores|extra|default|supervise|userClassPathFirst|host|port|bindAddress)|plugins$|repl\.)"
)
_OF_SERVERS = re.compile(r"\b(?!file:|https?:|local:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_REDACTION = "spark.redaction.regex"


def start_session(options: SparkOptions, *, name: str, log_file: Path | None = None) -> SparkSession:
    """Starts Spark with Delta, or returns the session that spark-submit configured.

    Args:
        options: Section ``spark`` of the settings.
        name: Name of the Spark application.
        log_file: File that receives Spark's own log; None leaves the log on stderr.

    Raises:
        ValueError: A setting that spark-submit needs as an argument holds a secret.
        ImportError: pyspark or delta-spark is not installed.
        RuntimeError: Spark did not start, and its log is in ``log_file``.
    """
    try:
        from delta import configure_spark_with_delta_pip
        from pyspark import SparkConf, SparkContext
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
    given = {name: value.get_secret_value() for name, value in options.conf.items()}
    for key, value in {**_our_conf(options, submitted=submitted), **given, **_redaction(given)}.items():
        builder = builder.config(key, value)
    if not submitted and not delta_is_installed(spark_home()):
        builder = configure_spark_with_delta_pip(builder, extra_packages=asked_packages(given))
    arguments = launch_arguments(builder._options)
    with _stderr_to(log_file):
        if not submitted and "SPARK_REMOTE" not in os.environ:
            # Builder.getOrCreate would start the JVM with every setting as an argument. It takes a JVM that runs as it is.
            SparkContext._ensure_initialized(conf=SparkConf(loadDefaults=False).setAll(list(arguments.items())))
        spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    for logger in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        # They print an error as JSON before it is raised, and again in every place that catches it.
        PySparkLogger.getLogger(logger).setLevel(logging.CRITICAL + 1)
    return spark


def spark_home() -> Path:
    """Returns the folder of Spark: that of the variable ``SPARK_HOME``, or else that of the installed PySpark."""
    import pyspark

    return Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent)


def delta_is_installed(spark: Path) -> bool:
    """Says if Delta lies among the jars of Spark, as in an image of a cluster. Maven is not asked for it then.

    Args:
        spark: Folder of Spark.
    """
    return any((spark / "jars").glob("*delta-spark_*.jar"))


def asked_packages(conf: Mapping[str, str]) -> list[str]:
    """Returns the packages that a configuration of Spark asks for, beside which Delta's jars are loaded.

    Args:
        conf: Configuration of Spark.

    Example:
        >>> asked_packages({"spark.jars.packages": "org.apache.hadoop:hadoop-aws:3.5.0, a:b:1"})
        ['org.apache.hadoop:hadoop-aws:3.5.0', 'a:b:1']
        >>> asked_packages({})
        []
    """
    return [one for one in (part.strip() for part in conf.get("spark.jars.packages", "").split(",")) if one]


def launch_arguments(conf: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings that the command of the JVM names, which everybody on the machine may read.

    Args:
        conf: All settings of Spark by name.

    Raises:
        ValueError: One of them holds a secret.
    """
    found = {name: value for name, value in conf.items() if _AT_LAUNCH.match(name)}
    for name, value in found.items():
        if is_secret_name(name) or credentials_of(value):
            raise ValueError(
                f"{name} in spark.conf holds a secret, which everybody on the machine could read in the list of processes. "
                "Set it in conf/spark-defaults.conf of Spark, or by spark-submit --properties-file."
            )
    if _OF_SERVERS.search(" ".join(found.get(name, "") for name in ("spark.jars", "spark.files", "spark.archives"))):
        # spark-submit fetches these files itself, and asks the settings of Hadoop where from.
        found |= {n: v for n, v in conf.items() if n.startswith("spark.hadoop.") and not is_secret_name(n)}
    return found


def _redaction(conf: Mapping[str, str]) -> dict[str, str]:
    """Returns the setting by which Spark hides secrets in its UI and its event log, beside the user's own."""
    return {_REDACTION: f"{SECRET_NAME}|{conf[_REDACTION]}" if _REDACTION in conf else SECRET_NAME}


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
        with open_private(log_file) as log_output:
            os.dup2(log_output.fileno(), 2)
        yield
    except Exception as error:
        raise RuntimeError(f"Spark did not start. Read its log, {log_file}, or run: qarm doctor") from error
    finally:
        os.dup2(own_stderr, 2)
        os.close(own_stderr)
