"""Parameters and metrics of a training to MLflow, where it is installed and MLFLOW_TRACKING_URI is set."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

LogMetrics = Callable[[Mapping[str, float], int], None]


@contextmanager
def experiment_log(name: str, params: Mapping[str, Any], *, active: bool = True) -> Iterator[LogMetrics]:
    """Opens an MLflow run for the time of a ``with`` block, nested in the caller's own run where there is one.

    Args:
        name: of the run.
        params: logged at once.
        active: False logs nothing, as in any process but the first.

    Yields:
        A function of (metrics, step) that logs metrics; it does nothing without MLflow.
    """
    found = "mlflow" in sys.modules or importlib.util.find_spec("mlflow") is not None
    if not active or not found or not os.environ.get("MLFLOW_TRACKING_URI"):
        yield lambda metrics, step: None
        return
    import mlflow

    with mlflow.start_run(run_name=name, nested=mlflow.active_run() is not None):
        mlflow.log_params(dict(params))
        yield lambda metrics, step: mlflow.log_metrics(dict(metrics), step=step)
