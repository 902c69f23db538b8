"""The section ``telemetry`` of the settings: where operators see what the stages did.

In: nothing. Out: a pydantic model that ``Settings`` puts together. A new setting is one line here; its description becomes
the comment in ``qarm.yaml``.
"""

from __future__ import annotations

from pydantic import Field

from qarm_features.settings.section import Section


class Telemetry(Section):
    """What is told to monitoring systems about each stage, beside the log in artifacts/runs."""

    prometheus_gateway: str | None = Field(
        None,
        description="URL of a Prometheus Pushgateway, to which each stage pushes its metrics; null pushes nothing.",
    )
    prometheus_file: str | None = Field(
        None,
        pattern=r"\.prom$",
        description="File that ends in .prom, for the textfile collector of Prometheus' node exporter; null writes none.",
    )
    opentelemetry: bool = Field(
        False,
        description="Whether each stage is sent as a span and as metrics by OTLP. The standard variables say where to, such "
        "as OTEL_EXPORTER_OTLP_ENDPOINT.",
    )
    openlineage: bool = Field(
        False,
        description="Whether each stage sends OpenLineage events. The standard variables say where to, such as "
        "OPENLINEAGE_URL.",
    )
    mlflow: bool = Field(
        False,
        description="Whether each stage is a run in MLflow. The standard variables say where, such as MLFLOW_TRACKING_URI.",
    )
