"""What every job needs: the settings, one Spark session started on first use, the tables, the log line."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import os
import sys
import time
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from qarm_features.settings.load import Settings, load_settings
from qarm_features.settings.sections import SparkOptions
from qarm_features.storage.artifacts import Artifact, Artifacts
from qarm_features.storage.warehouse import Warehouse

if typing.TYPE_CHECKING:
    from pyspark.ml.torch.distributor import TorchDistributor
    from pyspark.sql import SparkSession

log = logging.getLogger("qarm")


class Counts(NamedTuple):
    """What a job did: rows in = rows out + rows rejected, and a remark for people."""

    rows_in: int
    rows_out: int
    rows_rejected: int = 0
    remark: str = ""


@dataclass(frozen=True)
class Job:
    """What a job reads, writes and depends on; ``qarm run`` skips it while none of that has changed."""

    function: Callable[..., Counts]
    after: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    settings: tuple[str, ...]

    @property
    def name(self) -> str:
        """The job's name, as in its file."""
        return self.function.__name__

    def __call__(self, context: JobContext, **flags) -> Counts:
        try:
            return self.function(context, **flags)
        finally:  # a cached DataFrame would stand in for the same files after they have changed
            if "spark" in vars(context):
                context.spark.catalog.clearCache()


def job(*, after: str, reads: tuple[str, ...], writes: tuple[str, ...], settings: tuple[str, ...] = ()):
    """Declares a function as a job. ``reads`` and ``writes`` name tables, or artifacts as ``codebooks/``."""
    return lambda function: Job(function, after, reads, writes, settings)


class JobContext:
    """Settings, session and tables of a run; Spark starts when a job first asks for it."""

    def __init__(self, settings: Settings, *, spark_log_on_stderr: bool = True):
        self.settings = settings
        self.spark_log_on_stderr = spark_log_on_stderr

    @functools.cached_property
    def spark(self) -> SparkSession:
        """The one session of the run."""
        log_file = None if self.spark_log_on_stderr else self.settings.artifacts_path / "logs" / "spark.log"
        return start_session(self.settings.spark, name="qarm", log_file=log_file)

    @functools.cached_property
    def warehouse(self) -> Warehouse:
        """The tables, with the session."""
        return Warehouse.of(self.settings, self.spark)

    def artifacts(self, kind: str) -> Artifacts:
        """The versions of one kind of artifact."""
        return Artifacts(self.settings.artifacts_path, kind)


def start_session(options: SparkOptions, *, name: str, log_file: Path | None = None) -> SparkSession:
    """Starts Spark with Delta, or takes the session that spark-submit configured.

    Args:
        options: The section ``spark``.
        name: Name of the application.
        log_file: Where Spark's own log goes; None leaves it on stderr.
    """
    from delta import configure_spark_with_delta_pip
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    ours = {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.showConsoleProgress": "false",
    }
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # spark-submit: its --master, --conf and jars win
    local = not submitted and (options.master or "local").startswith("local")
    if local:  # one machine, small tables: without these every Delta commit schedules tens of empty tasks
        ours |= {
            "spark.databricks.delta.snapshotPartitions": "2",
            "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 2)),
            "spark.ui.enabled": "false",
            "spark.driver.memory": "2g",
        }
    builder = SparkSession.builder.appName(name)
    if not submitted:
        builder = builder.master(options.master or "local[*]")
    for key, value in {**ours, **options.conf}.items():
        builder = builder.config(key, value)
    builder = builder if submitted else configure_spark_with_delta_pip(builder)
    with _stderr_to(log_file):
        spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


@contextlib.contextmanager
def _stderr_to(log_file: Path | None):
    """Lets the JVM, and the Python workers that it starts, inherit ``log_file`` as their stderr: they outlive this."""
    if log_file is None:
        yield
        return
    log_file.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(log_file, "wb") as log_output:
            os.dup2(log_output.fileno(), 2)
        yield
    except Exception as error:
        raise RuntimeError(f"Spark did not start; its log is {log_file}. Run: qarm doctor") from error
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def torch_distributor(context: JobContext, num_processes: int) -> TorchDistributor:
    """Returns what starts training processes: one beside the driver, several as tasks of the cluster, with its GPUs."""
    from pyspark.ml.torch.distributor import TorchDistributor

    gpus = float(context.spark.sparkContext.getConf().get("spark.task.resource.gpu.amount", "0"))
    alone = num_processes == 1
    return TorchDistributor(num_processes=num_processes, local_mode=alone, use_gpu=not alone and gpus > 0)


def current_codebooks(context: JobContext, codebook_version: int | None = None) -> Artifact:
    """Returns a codebook version, or the newest that was made with the settings as they are now.

    Raises:
        ValueError: There is none yet.
    """
    codebooks, settings = context.artifacts("codebooks"), context.settings
    if codebook_version is not None:
        return codebooks.get(codebook_version)
    found = codebooks.find(seed=settings.seed, **settings.codebooks.model_dump())
    if found is None:
        raise ValueError("No codebooks have the settings codebooks: and seed: of qarm.yaml. Run: qarm fit-codebooks")
    return found


def run_job(job: Job, context: JobContext, **flags) -> Counts:
    """Runs one job and logs its one line."""
    started = time.perf_counter()
    counts = job(context, **flags)
    seconds = time.perf_counter() - started
    log.info(
        "%s: %d rows in, %d out, %d rejected, %.1f s, %.0f rows/s%s",
        job.name, counts.rows_in, counts.rows_out, counts.rows_rejected, seconds, counts.rows_in / seconds,
        f"; {counts.remark}" if counts.remark else "",
    )  # fmt: skip
    return counts


def command(job: Job, *, spark_log_on_stderr: bool = True) -> Callable[..., None]:
    """Makes a typer command of a job: ``--config`` and the job's own flags."""

    def run(config: Annotated[Path, typer.Option(help="Settings of the project.")] = Path("qarm.yaml"), **flags):
        context = JobContext(load_settings(config), spark_log_on_stderr=spark_log_on_stderr)
        run_job(job, context, **flags)

    hints = typing.get_type_hints(job.function, include_extras=True)
    parameters = list(inspect.signature(job.function).parameters.values())[1:]
    # By keyword, so that a flag without a default may stand behind --config, which has one.
    own = [p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    shared = inspect.signature(run, eval_str=True).parameters["config"]
    run.__signature__ = inspect.Signature([shared, *own])
    run.__annotations__ = {p.name: p.annotation for p in [shared, *own]}
    run.__doc__ = (
        f"{inspect.getdoc(job.function)}\n\nMust have run before: {job.after}. "
        f"Reads: {', '.join(job.reads)}. Writes: {', '.join(job.writes)}."
    )
    return run


def main(job: Job) -> None:
    """Runs a job from its own file, as spark-submit does. A wrong input ends in one clear line, not in a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
    app.command(name=job.name)(command(job))
    try:
        app()
    except ValueError as error:
        log.error("%s failed: %s", job.name, error)
        raise SystemExit(1) from (error if os.environ.get("QARM_DEBUG") else None)
