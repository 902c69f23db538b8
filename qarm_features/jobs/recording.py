"""Each run of a job is recorded: its rows, the Delta versions that it read and wrote, its bytes, its time, how it ended.

In: a job and its context. Out: a ``StageRun`` in the log of the stages and in the systems that the settings name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from pyspark.sql import functions as F

from qarm_features.jobs.context import JobContext
from qarm_features.jobs.counts import Counts
from qarm_features.jobs.failures import one_line
from qarm_features.jobs.interruption import LINE, was_interrupted
from qarm_features.jobs.states import Place, table_state
from qarm_features.settings.load import Settings
from qarm_features.settings.secrets import redacted
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.tables import REJECTED_ROWS, TABLE_BY_NAME
from qarm_features.storage.warehouse import Warehouse
from qarm_features.telemetry.sinks import Sinks
from qarm_features.telemetry.stage_run import StageRun

_REASONS = 20
OTHER_REASONS = "other reasons"


def recorded(
    stage: str,
    context: JobContext,
    work: Callable[[], Counts],
    *,
    reads: Sequence[str | Place],
    writes: Sequence[str | Place],
) -> Counts:
    """Runs a stage and records how it ended.

    Args:
        stage: Name of the job.
        context: Context of the job.
        work: Function that does the work.
        reads: Tables, artifacts and places that it reads.
        writes: Tables, artifacts and places that it writes.

    Returns:
        What ``work`` returned.
    """
    settings = context.settings
    sinks = Sinks(settings)
    before = _versions(writes, settings)
    run = StageRun.begun(stage, settings.warehouse_path, read=_versions(reads, settings))
    sinks.started(run)
    try:
        counts = work()
    except BaseException as error:
        interrupted = was_interrupted(error)
        sinks.ended(
            dataclasses.replace(
                run,
                state="interrupted" if interrupted else "failed",
                ended_at=datetime.now(UTC),
                error=LINE if interrupted else redacted(one_line(error)),
            )
        )
        raise
    written = {name: number for name, number in _versions(writes, settings).items() if before.get(name) != number}
    sinks.ended(
        dataclasses.replace(
            run,
            state="succeeded",
            ended_at=datetime.now(UTC),
            rows_in=counts.rows_in,
            rows_out=counts.rows_out,
            rows_rejected=counts.rows_rejected,
            rejected_by_reason=_reasons(context, writes)
            if counts.rows_rejected and REJECTED_ROWS.name in written
            else {},
            written=written,
            bytes_written=_bytes_written(written, before, settings),
            remark=counts.remark,
            warnings=counts.warnings,
        )
    )
    return counts


def _versions(names: Sequence[str | Place], settings: Settings) -> dict[str, int]:
    """Returns the Delta versions of tables and the newest numbers of artifacts, of those that exist."""
    found: dict[str, int | None] = {}
    for name in map(str, names):
        if name in TABLE_BY_NAME:
            found[name] = table_state(TABLE_BY_NAME[name], settings)
        elif name.endswith("/"):
            found[name] = max(Artifacts(settings.artifacts_path, name.rstrip("/")).versions(), default=None)
    return {name: number for name, number in found.items() if number is not None}


def _reasons(context: JobContext, writes: Sequence[str | Place]) -> dict[str, int]:
    """Returns the number of rejected rows by reason, with one number for all but the most frequent reasons."""
    tables = [str(name) for name in writes if str(name) in TABLE_BY_NAME]
    rows = context.warehouse.read(REJECTED_ROWS).where(F.col("table").isin(tables))
    counted = rows.groupBy("reason").agg(F.count("*").alias("rows"))
    top = counted.orderBy(F.desc("rows"), "reason").limit(_REASONS + 1).collect()
    found = {str(row["reason"]): int(row["rows"]) for row in top[:_REASONS]}
    if len(top) > _REASONS:
        found[OTHER_REASONS] = rows.count() - sum(found.values())
    return found


def _bytes_written(written: Mapping[str, int], before: Mapping[str, int], settings: Settings) -> int:
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types)
    tables = [name for name in written if name in TABLE_BY_NAME]
    return sum(warehouse.bytes_added(TABLE_BY_NAME[name], since=before.get(name, -1)) for name in tables)
