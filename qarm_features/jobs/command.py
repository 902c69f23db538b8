"""A job as a command, for ``qarm`` and for spark-submit.

In: a job. Out: a typer command with ``--config`` and the job's own flags, and one log line per run.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import time
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from qarm_features.jobs.context import JobContext
from qarm_features.jobs.failures import report, traceback_text
from qarm_features.jobs.interruption import EXIT_CODE, LINE, was_interrupted
from qarm_features.jobs.job import Counts, Flags, Job
from qarm_features.jobs.project_lock import held_for_job
from qarm_features.settings.load import load_settings
from qarm_features.settings.secrets import RedactingFilter
from qarm_features.terminal import OneLine

log = logging.getLogger("qarm")


def run_job(job: Job[Flags], context: JobContext, *args: Flags.args, **flags: Flags.kwargs) -> Counts:
    """Runs one job and logs one line with its row counts, its duration and its remark."""
    started = time.perf_counter()
    counts = job(context, *args, **flags)
    seconds = time.perf_counter() - started
    log.info(
        "%s: %d rows in, %d out, %d rejected, %.1f s, %.0f rows/s%s",
        job.name, counts.rows_in, counts.rows_out, counts.rows_rejected, seconds, counts.rows_in / seconds,
        f"; {counts.remark}" if counts.remark else "",
    )  # fmt: skip
    for warning in counts.warnings:
        log.warning("WARNING: %s", warning)
    return counts


def command(job: Job[...], *, spark_log_on_stderr: bool = True) -> Callable[..., None]:
    """Returns a typer command that runs a job. Its flags are ``--config`` and the job's own.

    Args:
        job: Job to run.
        spark_log_on_stderr: Leaves Spark's own log on stderr; otherwise it goes to a file of the project.
    """

    def run(
        config: Annotated[Path, typer.Option(help="Settings of the project.")] = Path("qarm.yaml"), **flags: Any
    ) -> None:
        settings = load_settings(config)
        with held_for_job(settings, job.name):
            counts = run_job(job, JobContext(settings, spark_log_on_stderr=spark_log_on_stderr), **flags)
        if counts.exit_code:
            raise typer.Exit(counts.exit_code)

    hints = typing.get_type_hints(job.function, include_extras=True)
    parameters = list(inspect.signature(job.function).parameters.values())[1:]
    # Keyword-only, because a flag without a default may follow --config, which has a default.
    own = [p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    shared = inspect.signature(run, eval_str=True).parameters["config"]
    run.__signature__ = inspect.Signature([shared, *own])  # type: ignore[attr-defined]  # typer reads the flags from it
    run.__annotations__ = {p.name: p.annotation for p in [shared, *own]}
    run.__doc__ = (
        f"{inspect.getdoc(job.function)}\n\nMust have run before: {job.after}. "
        f"Reads: {', '.join(map(str, job.reads))}. Writes: {', '.join(map(str, job.writes))}."
    )
    return run


def main(job: Job[...]) -> None:
    """Runs a job from its launcher, as spark-submit does. Any error ends in one line; QARM_DEBUG=1 shows the traceback."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for one in logging.getLogger().handlers:
        one.addFilter(RedactingFilter())
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name=job.name)(command(job))
    try:
        app()
    except BaseException as error:
        if was_interrupted(error):
            log.error("%s: %s", job.name, LINE)
            raise SystemExit(EXIT_CODE) from None
        if isinstance(error, SystemExit):
            raise
        if os.environ.get("QARM_DEBUG"):
            print(traceback_text(error), file=sys.stderr)
        log.error("%s failed: %s", job.name, " ".join(report(error, sys.argv).splitlines()))
        raise SystemExit(1) from None
