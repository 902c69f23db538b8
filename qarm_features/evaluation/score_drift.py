"""How the scores that a ranking model gave lately differ from those that it gave before.

In: rows of scores with their times. Out: the population stability index (PSI) beside what chance gives, two-sample tests, and
the numbers of rows that they rest on. One pass counts the scores in fine bins, so that no memory grows with the rows. Cells
are quantiles of the earlier scores. ::

    before  0.02 0.03 0.05 0.11 ...   ->  20 cells of 5% of the rows each
    lately  0.09 0.12 0.15 0.21 ...       shares of the same cells: 1%, 2%, ..., 17%   PSI 0.61
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.catalog.checks import number_text
from qarm_features.catalog.event_times import timestamp_column
from qarm_features.catalog.reading.read_source import read_source
from qarm_features.evaluation.drift import cell_drift, largest_distance
from qarm_features.evaluation.latest_rows import latest
from qarm_features.settings.sources import ServedScores
from qarm_features.storage.sql_names import column_of

_CELLS = 20
_DROPPED_BITS = 12  # of the 23 of a float's fraction, so that bins are .05% wide
_LARGEST = 3e38
_COUNTS = pa.schema([("is_late", pa.bool_()), ("place", pa.int32()), ("rows", pa.int64())])


def score_drift(spark: SparkSession, source: ServedScores, path: str | None, *, days: int) -> dict[str, Any] | None:
    """Compare the scores of the last days with the earlier ones.

    Args:
        spark: Spark session.
        source: Section ``monitor.scores`` of the settings.
        path: Resolved path of the source; None for a table of Spark's catalog.
        days: Number of days before the last score, at least 1.

    Returns:
        ``rows`` of scores ``before`` and ``lately``, ``unusable`` rows without a score or a time, ``since`` the first moment
        of the latest rows in ISO format, the ``median`` scores, ``psi``, ``psi_by_chance``, ``cells`` and ``p_value`` of
        ``CellDrift``, and ``distance`` and ``distance_p_value`` of the test of Kolmogorov and Smirnov. None if no row has a
        score and a time.

    Raises:
        IngestError: The source does not fit the settings.
    """
    rows = _read(read_source(spark, source, path), source)
    usable = ~F.col("is_bad")
    last, unusable = rows.agg(F.max(F.when(usable, F.col("at"))).cast("long"), F.count_if("is_bad")).collect()[0]
    if last is None:
        return None
    since, is_late = latest("at", last, days=days)
    compared = _compared(rows.where(usable).select("score", is_late.alias("is_late")))
    return {"since": since, "unusable": unusable, **compared}


def _read(raw: DataFrame, source: ServedScores) -> DataFrame:
    """Return ``score``, its time ``at``, and ``is_bad`` where a row has no finite score or no time."""
    at, checks = timestamp_column(raw, source)
    value = column_of(source.score)
    is_text = isinstance(raw.schema[source.score].dataType, T.StringType)
    score = (number_text(value) if is_text else value).try_cast("double")
    bad = [score.isNull() | F.isnan(score) | (F.abs(score) == float("inf")), *(failed for failed, _ in checks)]
    is_bad = F.coalesce(*[F.when(failed, True) for failed in bad], F.lit(False))
    return raw.select(score.alias("score"), at.alias("at"), is_bad.alias("is_bad"))


def _compared(rows: DataFrame) -> dict[str, Any]:
    counted = rows.mapInArrow(_count_batches, "is_late boolean, place int, rows bigint")
    summed = counted.groupBy("is_late", "place").agg(F.sum("rows").alias("rows")).collect()
    places = np.unique([row["place"] for row in summed])
    bins = np.zeros((2, len(places)), np.int64)
    for row in summed:
        bins[int(row["is_late"]), np.searchsorted(places, row["place"])] = row["rows"]
    cell = _cells_of(bins[0])
    drift = cell_drift(*(np.bincount(cell, weights=part) for part in bins))
    distance, p_value = largest_distance(*bins)
    before, lately = (int(part.sum()) for part in bins)
    medians = [_median(places, part) for part in bins]
    return {
        "rows": {"before": before, "lately": lately},
        "median": {"before": medians[0], "lately": medians[1]},
        **drift._asdict(),
        "distance": distance,
        "distance_p_value": p_value,
    }


def _count_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Count scores in bins that are the same for all batches: those that agree in sign, exponent and 11 bits after it."""
    for batch in batches:
        scores, late = (batch[name].to_numpy(zero_copy_only=False) for name in ("score", "is_late"))
        bits = np.clip(scores, -_LARGEST, _LARGEST).astype(np.float32).view(np.int32)
        places = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits) >> _DROPPED_BITS  # ascending as the scores are
        for is_late in (False, True):
            held, rows = np.unique(places[late.astype(bool) == is_late], return_counts=True)
            columns = (np.full(len(held), is_late), held, rows)
            yield pa.RecordBatch.from_arrays([*map(pa.array, columns, _COUNTS.types)], schema=_COUNTS)


def _median(places: np.ndarray, rows: np.ndarray) -> float | None:
    """Return the lower end of the bin that holds the median, to four digits."""
    if not rows.sum():
        return None
    place = places[np.searchsorted(np.cumsum(rows), rows.sum() / 2)] << _DROPPED_BITS
    bits = np.int32(place if place >= 0 else place ^ 0x7FFFFFFF)
    return float(f"{bits.view(np.float32):.4g}")


def _cells_of(before: np.ndarray) -> np.ndarray:
    """Join neighboring bins to cells of about as many earlier rows each, and return the cell of each bin."""
    done = np.cumsum(before) - before / 2
    return np.minimum((_CELLS * done / max(before.sum(), 1)).astype(int), _CELLS - 1)
