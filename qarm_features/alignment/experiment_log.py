"""Log the parameters and metrics of a training run to MLflow, if it is installed and MLFLOW_TRACKING_URI is set.

In: parameters and metrics. Out: an MLflow run.
"""

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
    """Open an MLflow run for the duration of a ``with`` block, nested in the run of the caller if there is one.

    Args:
        name: Name of the run.
        params: Parameters of the run, logged when it starts.
        active: False to log nothing, for all processes except the first.

    Yields:
        A function of (metrics, step) that logs metrics; without MLflow it does nothing.
    """
    found = "mlflow" in sys.modules or importlib.util.find_spec("mlflow") is not None
    if not active or not found or not os.environ.get("MLFLOW_TRACKING_URI"):
        yield lambda metrics, step: None
        return
    import mlflow

    def log_metrics(metrics: Mapping[str, float], step: int) -> None:
        mlflow.log_metrics(dict(metrics), step=step)

    with mlflow.start_run(run_name=name, nested=mlflow.active_run() is not None):
        mlflow.log_params(dict(params))
        yield log_metrics
