"""What Spark's own pages and history say about its jobs: the stage, and the level and iteration inside it.

In: a Spark context and words. Out: the description of the Spark jobs that this thread starts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark import SparkContext

_PROPERTY = "spark.job.description"


def describe_jobs(context: SparkContext, description: str) -> None:
    """Describe the Spark jobs that this thread starts from now on.

    Args:
        context: Spark context.
        description: Description. An empty one leaves it to Spark.
    """
    context.setLocalProperty(_PROPERTY, description or None)  # type: ignore[arg-type]  # None removes it


@contextlib.contextmanager
def described(context: SparkContext, part: str) -> Iterator[None]:
    """Add a part to the description of the Spark jobs that this thread starts in a ``with`` block.

    Args:
        context: Spark context.
        part: Words such as ``level 2, iteration 5``, which follow the description of the stage.

    Yields:
        Nothing.
    """
    before = context.getLocalProperty(_PROPERTY)
    describe_jobs(context, f"{before}: {part}" if before else part)
    try:
        yield
    finally:
        describe_jobs(context, before or "")
