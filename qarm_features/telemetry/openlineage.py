"""OpenLineage events of each stage, to where the client's standard variables say.

In: runs of stages. Out: a START event, and a COMPLETE, FAIL or ABORT event with the Delta version of each table that the
stage read and wrote. Artifacts, such as codebooks, are datasets as well.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    dataset_version_dataset,
    error_message_run,
    job_type_job,
    output_statistics_output_dataset,
    processing_engine_run,
)

from qarm_features.telemetry.stage_run import StageRun

_STATES = {
    "running": RunState.START,
    "succeeded": RunState.COMPLETE,
    "failed": RunState.FAIL,
    "interrupted": RunState.ABORT,
}


class OpenLineageSink:
    """Tells an OpenLineage back end of the stages."""

    def __init__(self) -> None:
        self._client = OpenLineageClient()

    def started(self, run: StageRun) -> None:
        """Send the START event."""
        self._client.emit(event(run))

    def ended(self, run: StageRun) -> None:
        """Send the event of the end."""
        self._client.emit(event(run))


def event(run: StageRun) -> RunEvent:
    """Return the event of a run, by its state."""
    producer = f"urn:qarm-features:{run.code}"
    namespace, folder = place_of(run.project)
    inputs = [
        InputDataset(namespace, f"{folder}/{name}", facets=_version(number, producer))
        for name, number in run.read.items()
    ]
    outputs = [
        OutputDataset(
            namespace,
            f"{folder}/{name}",
            facets=_version(number, producer),
            outputFacets=_statistics(run, producer) if len(run.written) == 1 else {},
        )
        for name, number in run.written.items()
    ]
    facets: dict[str, Any] = {
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
            version=run.code, name="qarm-features", producer=producer
        )
    }
    if run.error:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(run.error, "python", producer=producer)
    kind = job_type_job.JobTypeJobFacet(
        processingType="BATCH", integration="QARM_FEATURES", jobType="JOB", producer=producer
    )
    return RunEvent(
        eventType=_STATES[run.state],
        eventTime=_text(run.ended_at or run.started_at),
        run=Run(run.run_id, facets),
        job=Job(f"{namespace}{folder}", run.stage, {"jobType": kind}),
        inputs=inputs,
        outputs=outputs,
        producer=producer,
    )


def place_of(project: str) -> tuple[str, str]:
    """Return namespace and folder of a warehouse, by OpenLineage's rules for names of datasets.

    Example:
        >>> place_of("s3://lake/qarm/data"), place_of("/srv/qarm/data")
        (('s3://lake', 'qarm/data'), ('file', '/srv/qarm/data'))
    """
    if "://" not in project:
        return "file", Path(project).as_posix()
    parts = urlsplit(project)
    return f"{parts.scheme}://{parts.netloc}", parts.path.strip("/")


def _version(number: int, producer: str) -> dict[str, Any]:
    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(str(number), producer=producer)}


def _statistics(run: StageRun, producer: str) -> dict[str, Any]:
    facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=run.rows_out, size=run.bytes_written, producer=producer
    )
    return {"outputStatistics": facet}


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
