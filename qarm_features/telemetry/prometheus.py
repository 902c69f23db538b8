"""Metrics of the stages for Prometheus: pushed to a Pushgateway, or in a file for the node exporter.

In: runs of stages. Out: gauges with the label ``stage``. The gateway has a group for each project and stage, so that the
metrics of a stage stay there while other stages push. The file has the last run of each stage.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, push_to_gateway, write_to_textfile

from qarm_features.settings.load import Settings
from qarm_features.telemetry.stage_log import LastRuns, last_runs
from qarm_features.telemetry.stage_run import StageRun

_SECONDS = 5.0  # a gateway that does not answer holds a job up no longer
_OF_SUCCESS = {
    "duration_seconds": ("Duration of the last success in seconds.", lambda run: run.seconds),
    "rows_in": ("Rows that the last success read.", lambda run: run.rows_in),
    "rows_out": ("Rows that the last success gave.", lambda run: run.rows_out),
    "rows_rejected": ("Rows that the last success rejected.", lambda run: run.rows_rejected),
    "bytes_written": ("Bytes that the last success added to tables.", lambda run: run.bytes_written),
    "last_success_timestamp_seconds": (
        "End of the last success.",
        lambda run: run.ended_at and run.ended_at.timestamp(),
    ),
}


class PrometheusSink:
    """Tells Prometheus of the stages.

    Args:
        settings: Settings of the project.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def started(self, run: StageRun) -> None:
        """Do nothing: a gauge is set when a stage has ended."""

    def ended(self, run: StageRun) -> None:
        """Push the metrics of a run, and write those of all stages into the file."""
        wanted = self._settings.telemetry
        known = last_runs(self._settings, {run.stage}).get(run.stage)
        # A batch of a follower is in a log of its own, so the log of the stages may know an older run only.
        mine = {run.stage: LastRuns(run, run if run.state == "succeeded" else known and known.success)}
        if wanted.prometheus_gateway:
            push_to_gateway(
                wanted.prometheus_gateway,
                job="qarm",
                registry=metrics(mine),
                grouping_key={"project": run.project, "stage": run.stage},
                timeout=_SECONDS,
            )
        if wanted.prometheus_file:
            write_to_textfile(self._settings.path(wanted.prometheus_file), metrics(last_runs(self._settings) | mine))


def metrics(runs: dict[str, LastRuns]) -> CollectorRegistry:
    """Return the metrics of the last runs of stages.

    Args:
        runs: Last runs by the name of the stage.
    """
    registry = CollectorRegistry()
    gauges = {
        name: Gauge(f"qarm_stage_{name}", words, ["stage"], registry=registry)
        for name, (words, _) in _OF_SUCCESS.items()
    }
    failed = Gauge("qarm_stage_failed", "1 if the last run of the stage did not succeed.", ["stage"], registry=registry)
    by_reason = Gauge(
        "qarm_stage_rows_rejected_by_reason",
        "Rows that the last success rejected, by the most frequent reasons.",
        ["stage", "reason"],
        registry=registry,
    )
    version = Gauge(
        "qarm_table_version", "Delta version or number that a stage wrote.", ["stage", "name"], registry=registry
    )
    for stage, (last, success) in runs.items():
        failed.labels(stage).set(last.state != "succeeded")
        if success is None:
            continue
        for name, (_, value) in _OF_SUCCESS.items():
            if (found := value(success)) is not None:
                gauges[name].labels(stage).set(found)
        for reason, rows in success.rejected_by_reason.items():
            by_reason.labels(stage, reason).set(rows)
        for name, number in success.written.items():
            version.labels(stage, name).set(number)
    return registry
