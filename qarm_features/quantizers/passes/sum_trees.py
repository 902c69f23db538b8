"""How executors add the results of a pass before the driver fetches what is left.

In: the number of results and their bytes. Out: the number of floors of a tree of sums. Spark refuses results of more than
``spark.driver.maxResultSize`` together, 1 GiB by default, which sums of large codebooks over many partitions would exceed.
"""

from __future__ import annotations

import math

COMBINE_BYTES = 256 << 20  # executors add partial results above this size, so that the driver receives less
_MOST_FLOORS = 8
LEAST_LEFT = 4  # no tree of pyspark leaves fewer for sure


def results_left(results: int, floors: int) -> int:
    """Return the number of results that a tree of sums leaves to the driver.

    Args:
        results: Number of results of a pass, at least 1.
        floors: Argument ``depth`` of pyspark's ``treeReduce``, at least 1; 1 adds nothing on the executors.

    Example:
        >>> [results_left(8192, floors) for floors in (1, 2, 3)]
        [8192, 90, 18]

    Source: pyspark's ``RDD.treeAggregate``.
    """
    left, scale = float(results), max(math.ceil(results ** (1.0 / floors)), 2)
    while left > scale + left / scale:
        left /= scale
    return int(left)


def floors_for(results: int, one_bytes: int, most_bytes: int) -> int:
    """Return the smallest number of floors that leaves at most so many bytes, or four results.

    Args:
        results: Number of results of a pass, at least 1.
        one_bytes: Bytes of one of them.
        most_bytes: Bytes that the driver should receive at most.

    Example:
        >>> floors_for(8192, 17 << 20, 256 << 20)
        4
    """
    most = max(LEAST_LEFT, most_bytes // max(1, one_bytes))
    return next((n for n in range(1, _MOST_FLOORS) if results_left(results, n) <= most), _MOST_FLOORS)
