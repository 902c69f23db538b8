"""The systems that are told of each stage. What goes wrong there never ends a job.

In: the settings and the runs of stages. Out: metrics, spans, lineage events and experiment runs, as the settings ask.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Protocol

from qarm_features.extras import naming_extra
from qarm_features.settings.load import Settings
from qarm_features.telemetry.stage_log import STAGES, append_run
from qarm_features.telemetry.stage_run import StageRun

logger = logging.getLogger(__name__)


class Sink(Protocol):
    """A system that is told when a stage starts and when it has ended."""

    def started(self, run: StageRun) -> None:
        """Tell of a run that starts."""

    def ended(self, run: StageRun) -> None:
        """Tell of a run that has ended."""


class Sinks:
    """All systems that the settings name, and the log of the project, which is always written.

    Args:
        settings: Settings of the project.
        log: Name of the log of the project: that of the stages, or that of the batches of a follower.

    Raises:
        ImportError: The package of a system is not installed. The message names the extra that brings it.
    """

    def __init__(self, settings: Settings, *, log: str = STAGES) -> None:
        self._settings, self._log = settings, log
        self._sinks = list(_wanted(settings))

    def started(self, run: StageRun) -> None:
        """Tell all systems that a stage starts."""
        for sink in self._sinks:
            _try(sink, sink.started, run)

    def ended(self, run: StageRun) -> None:
        """Write a run into the log, and tell all systems that it has ended."""
        with _not_fatal("the log of the stages"):
            append_run(self._settings, run, log=self._log)
        for sink in self._sinks:
            _try(sink, sink.ended, run)


def _wanted(settings: Settings) -> Iterator[Sink]:
    wanted = settings.telemetry
    with naming_extra("Metrics and events of the stages", "monitoring"):
        if wanted.prometheus_gateway or wanted.prometheus_file:
            from qarm_features.telemetry.prometheus import PrometheusSink

            yield PrometheusSink(settings)
        if wanted.opentelemetry:
            from qarm_features.telemetry.opentelemetry import OpenTelemetrySink

            yield OpenTelemetrySink()
        if wanted.openlineage:
            from qarm_features.telemetry.openlineage import OpenLineageSink

            yield OpenLineageSink()
    if wanted.mlflow:
        with naming_extra("Runs in MLflow", "mlflow"):
            from qarm_features.telemetry.mlflow_runs import MlflowSink

            yield MlflowSink()


def _try(sink: Sink, tell: Callable[[StageRun], None], run: StageRun) -> None:
    with _not_fatal(type(sink).__name__.removesuffix("Sink")):
        tell(run)


@contextlib.contextmanager
def _not_fatal(system: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        logger.warning("%s was not told of a stage: %s: %s. The job goes on.", system, type(error).__name__, error)
