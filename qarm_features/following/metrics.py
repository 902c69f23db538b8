"""The metrics of a follower, which Prometheus fetches from it.

In: the end of each batch. Out: gauges and counters at ``http://<address>:<port>/metrics``, while the follower runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from qarm_features.extras import naming_extra
from qarm_features.telemetry.stage_run import StageRun


@contextlib.contextmanager
def served_metrics(address: str, port: int | None) -> Iterator[Callable[[StageRun], None]]:
    """Serve the metrics of batches, and yield the function that is told of each.

    Args:
        address: Address of this machine, for example 127.0.0.1.
        port: Port, 0 for one that is free; None serves nothing.

    Raises:
        ImportError: prometheus-client is not installed.
        ValueError: The port is taken.
    """
    if port is None:
        yield lambda run: None
        return
    with naming_extra("Metrics of qarm follow", "monitoring"):
        from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

    registry = CollectorRegistry()
    lag = Gauge(
        "qarm_follow_lag_seconds",
        "Longest time from the change of a file to its rows online, of the last batch.",
        registry=registry,
    )
    seconds = Gauge("qarm_follow_batch_seconds", "Duration of the last batch.", registry=registry)
    ended = Gauge("qarm_follow_last_batch_timestamp_seconds", "End of the last batch.", registry=registry)
    rows = Counter("qarm_follow_rows", "Rows of files that were taken up.", registry=registry)
    rejected = Counter("qarm_follow_rows_rejected", "Rows of files that were rejected.", registry=registry)

    def tell(run: StageRun) -> None:
        if run.lag_seconds is not None:
            lag.set(run.lag_seconds)
        seconds.set(run.seconds or 0.0)
        ended.set_to_current_time()
        rows.inc(run.rows_in or 0)
        rejected.inc(run.rows_rejected or 0)

    try:
        server, thread = start_http_server(port, address, registry)
    except OSError as error:
        raise ValueError(
            f"follow.metrics_port is {port}, and it cannot be opened on {address}: {error.strerror}. Set another port."
        ) from error
    try:
        yield tell
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
