"""A span and metrics of each stage by OTLP, to the collector that the standard ``OTEL_*`` variables name.

In: runs of stages. Out: one span per run, sent before the job returns, and gauges with the attribute ``stage``.
"""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode

from qarm_features import __version__
from qarm_features.telemetry.stage_run import StageRun

_MILLISECONDS = 5_000
_GAUGES = {
    "seconds": ("duration", "s"),
    "rows_in": ("rows_in", "{row}"),
    "rows_out": ("rows_out", "{row}"),
    "rows_rejected": ("rows_rejected", "{row}"),
    "bytes_written": ("bytes_written", "By"),
    "lag_seconds": ("lag", "s"),
}


class OpenTelemetrySink:
    """Tells an OpenTelemetry collector of the stages."""

    def __init__(self) -> None:
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over these.
        resource = Resource.create({SERVICE_NAME: "qarm", "service.version": __version__})
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=_MILLISECONDS // 1_000)))
        self._resource = resource

    def started(self, run: StageRun) -> None:
        """Do nothing: a span is sent when it has ended."""

    def ended(self, run: StageRun) -> None:
        """Send the span and the metrics of a run."""
        assert run.ended_at is not None, "a run that has ended has a time"
        span = self._traces.get_tracer("qarm_features", __version__).start_span(
            run.stage, start_time=_nanoseconds(run.started_at.timestamp()), attributes=attributes(run)
        )
        succeeded = run.state == "succeeded"
        span.set_status(Status(StatusCode.OK if succeeded else StatusCode.ERROR, None if succeeded else run.error))
        span.end(_nanoseconds(run.ended_at.timestamp()))
        sent = self._traces.force_flush(_MILLISECONDS)
        if not (self._send_metrics(run) and sent):
            raise TimeoutError("the collector did not answer in time")

    def _send_metrics(self, run: StageRun) -> bool:
        exporter = OTLPMetricExporter(timeout=_MILLISECONDS // 1_000)
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))
        provider = MeterProvider([reader], resource=self._resource, shutdown_on_exit=False)
        meter = provider.get_meter("qarm_features", __version__)
        labels = {"stage": run.stage, "project": run.project, "state": run.state}
        for key, value in run.numbers.items():
            name, unit = _GAUGES[key]
            meter.create_gauge(f"qarm.stage.{name}", unit=unit).set(value, labels)
        sent = provider.force_flush(_MILLISECONDS)
        provider.shutdown()
        return sent


def attributes(run: StageRun) -> dict[str, str | int | float]:
    """Return the attributes of a run's span."""
    plain: dict[str, str | int | float | None] = {
        "qarm.run_id": run.run_id, "qarm.project": run.project, "host.name": run.host, "process.pid": run.pid,
        "qarm.rows_in": run.rows_in, "qarm.rows_out": run.rows_out, "qarm.rows_rejected": run.rows_rejected,
        "qarm.bytes_written": run.bytes_written, "qarm.remark": run.remark or None,
    }  # fmt: skip
    plain |= {f"qarm.{name}": number for name, number in run.versions.items()}
    return {name: value for name, value in plain.items() if value is not None}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e6) * 1_000
