"""A run in MLflow for each stage, where the standard variables say.

In: runs of stages. Out: runs of the experiment that ``MLFLOW_EXPERIMENT_NAME`` names, with versions as parameters and row
counts as metrics.
"""

from __future__ import annotations

import os
from datetime import datetime

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from qarm_features.telemetry.stage_run import StageRun

_STATUS = {"succeeded": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_LONGEST = 500  # characters of a parameter or a tag


class MlflowSink:
    """Tells MLflow of the stages."""

    def __init__(self) -> None:
        self._client = MlflowClient()
        self._runs: dict[str, str] = {}

    def started(self, run: StageRun) -> None:
        """Make a run in MLflow."""
        tags = {"qarm.stage": run.stage, "qarm.run_id": run.run_id, "qarm.project": run.project, "qarm.code": run.code}
        made = self._client.create_run(
            self._experiment(), start_time=_milliseconds(run.started_at), tags=tags, run_name=run.stage
        )
        self._runs[run.run_id] = made.info.run_id

    def ended(self, run: StageRun) -> None:
        """Log what a run did, and end it in MLflow."""
        if run.run_id not in self._runs:
            self.started(run)
        assert run.ended_at is not None, "a run that has ended has a time"
        at = _milliseconds(run.ended_at)
        mlflow_id = self._runs.pop(run.run_id)
        self._client.log_batch(
            mlflow_id,
            metrics=[Metric(name, float(value), at, 0) for name, value in run.numbers.items()],
            params=[Param(name, str(number)) for name, number in run.versions.items()],
            tags=[
                RunTag(f"qarm.{name}", getattr(run, name)[:_LONGEST])
                for name in ("remark", "error")
                if getattr(run, name)
            ],
        )
        self._client.set_terminated(mlflow_id, status=_STATUS[run.state], end_time=at)

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
        if name is None:
            return os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
        known = self._client.get_experiment_by_name(name)
        return self._client.create_experiment(name) if known is None else known.experiment_id


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000)
