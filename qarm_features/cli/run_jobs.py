"""The jobs of ``qarm run``, one after another in one Spark session, with a line on the screen for each.

In: settings and jobs. Out: what the jobs write, and a record of each success, by which the next run skips the job.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from qarm_features.jobs.context import JobContext
from qarm_features.jobs.job import Counts, Job
from qarm_features.jobs.skipping import inputs, is_current, last_run, record_run
from qarm_features.settings.load import Settings
from qarm_features.terminal import literal


def run_jobs(
    settings: Settings,
    jobs: Iterable[tuple[str, Job[...]]],
    *,
    count: int,
    force: bool,
    spark_log_on_stderr: bool,
    console: Console,
) -> None:
    """Runs jobs in order. A job whose inputs have not changed since its last success is skipped.

    Args:
        settings: Settings of the project.
        jobs: Name for people and job, in the order in which they run.
        count: Number of jobs.
        force: Runs every job over all rows, even if its inputs have not changed.
        spark_log_on_stderr: Leaves Spark's own log on stderr; otherwise it goes to a file of the project.
        console: Console for the lines.
    """
    context = JobContext(settings, spark_log_on_stderr=spark_log_on_stderr, whole=force)
    started_spark = False
    for number, (name, job) in enumerate(jobs, 1):
        label = Text(f"{number}/{count} {name}", "bold")
        record = last_run(job, settings)
        if record is not None and not force and is_current(job, settings):
            remark = literal(f" ({record['remark']})" if record["remark"] else "")
            console.print(Text.assemble("= ", label, "  unchanged, skipped", remark, style="dim"))
            continue
        if not started_spark:
            with console.status(Text("starting Spark")):
                _ = context.spark
            started_spark = True
        started, seen = time.perf_counter(), inputs(job, settings)
        reading = Text.assemble(label, f": reading {', '.join(map(str, job.reads))}")
        if not console.is_terminal:  # A spinner would be drawn nowhere.
            console.print(reading)
        try:
            with console.status(reading):
                counts = job(context)
        except Exception:
            console.print(Text.assemble(("✗", "red"), " ", label))
            raise
        seconds = time.perf_counter() - started
        record_run(job, settings, seen, counts, seconds)
        _print(console, label, counts, seconds)


def _print(console: Console, label: Text, counts: Counts, seconds: float) -> None:
    figures = (
        f"  {counts.rows_in:,} rows in, {counts.rows_out:,} out, {counts.rows_rejected:,} rejected, {seconds:.1f} s, "
        f"{counts.rows_in / seconds:,.0f} rows/s"
    )
    console.print(Text.assemble(("✓", "green"), " ", label, figures))
    if counts.remark:
        console.print(Text.assemble("    ", literal(counts.remark)))
    for warning in counts.warnings:
        console.print(Text.assemble("    ", ("WARNING:", "yellow"), " ", literal(warning)))
