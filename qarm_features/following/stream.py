"""The stream: Spark finds the files that arrived, and each batch of them is worked off by one call.

In: a streaming DataFrame and a function of a batch. Out: calls, one after another. Ctrl-C and SIGTERM let the batch that runs
end. Spark repeats a batch that did not end, so the function must write the same for the same batch.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql.streaming import StreamingQuery

_LOOK_SECONDS = 0.2
_COMMIT_SECONDS = 10.0
_log = logging.getLogger(__name__)


class _Stopped(Exception):
    """A batch was not begun, because the stream is to end."""


@contextlib.contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set, in place of ending the process. A thread gets one that nobody sets."""
    stop = threading.Event()

    def ask(number: int, _: object) -> None:
        if not stop.is_set():
            _log.info("%s: ends after the present batch", signal.Signals(number).name)
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def follow_stream(
    files: DataFrame,
    take_up: Callable[[DataFrame, int], None],
    *,
    checkpoint: Path,
    trigger_seconds: float | None,
    stop: threading.Event,
) -> None:
    """Call a function with each batch of a stream, until the stream is to end.

    Args:
        files: Streaming DataFrame.
        take_up: Function of the rows of a batch and its number. It may be called again for a batch that did not end.
        checkpoint: Folder of the driver in which Spark records the batches.
        trigger_seconds: Seconds between two looks for new rows, above 0; None works off what is there and ends.
        stop: Event after which no batch begins.

    Raises:
        Exception: What ``take_up`` raised.
    """
    failures: list[BaseException] = []
    working = threading.Lock()

    def on_batch(rows: DataFrame, number: int) -> None:
        with working:
            if stop.is_set():
                raise _Stopped
            try:
                _attempt(take_up, rows, number, stop)
            except BaseException as error:
                failures.append(error)
                raise

    writer = files.writeStream.queryName("qarm follow").option("checkpointLocation", checkpoint.absolute().as_uri())
    if trigger_seconds is None:
        writer = writer.trigger(availableNow=True)
    else:
        writer = writer.trigger(processingTime=f"{max(1, round(trigger_seconds * 1000))} milliseconds")
    query = writer.foreachBatch(on_batch).start()
    while query.isActive and not stop.wait(_LOOK_SECONDS):
        pass
    with working:  # the batch that runs has ended
        pass
    _end(query)
    if failures:
        raise failures[0]
    error = query.exception()
    if error is not None and not stop.is_set():
        raise error


def _attempt(take_up: Callable[[DataFrame, int], None], rows: DataFrame, number: int, stop: threading.Event) -> None:
    """Work off a batch, and once more if it failed after a Ctrl-C, which also ends the Python workers of Spark."""
    try:
        take_up(rows, number)
    except Exception:
        if not stop.is_set():
            raise
        _log.info("batch %d is worked off again, because its tasks were interrupted", number)
        take_up(rows, number)


def _end(query: StreamingQuery) -> None:
    """Stop a query after it has recorded the batch that ended last."""
    waiting = threading.Event()
    for _ in range(round(_COMMIT_SECONDS / _LOOK_SECONDS)):
        if not query.isActive or not query.status["isTriggerActive"]:
            break
        waiting.wait(_LOOK_SECONDS)
    query.stop()
