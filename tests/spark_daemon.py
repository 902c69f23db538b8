"""The daemon that starts Spark's Python workers in the tests; without it, workers spend most of their time in ``gc.collect``.

Spark's own daemon collects garbage after every task, which takes a tenth of a second beside imported libraries, and the
tests run thousands of small tasks. Here a worker counts what is alive after a task as permanent, so that the next collection
has nothing to look at. Libraries that most workers need are imported once, before workers are forked.
"""

from __future__ import annotations

import gc

import numpy  # noqa: F401 imported once for all workers
import pandas  # noqa: F401 imported once for all workers
import pyarrow  # noqa: F401 imported once for all workers
from pyspark import daemon

_worker = daemon.worker


def worker(*arguments) -> int:
    """Runs one task as Spark's own worker does."""
    code = _worker(*arguments)
    gc.freeze()
    return code


if __name__ == "__main__":
    daemon.worker = worker
    daemon.manager()
