"""The items that came since codebooks were fitted, compared with those that the codebooks were fitted on.

In: the codes and embeddings of all items, and which of them are new. Out: numbers of rows, errors, cells, semantic IDs. One
pass over the embeddings counts what no machine needs to hold at once: the counts do not grow with the catalog. ::

    item_id  added_after_fit  rq_codes   embedding
    1        False            [17, 4]    [0.02, ...]   ->  error of the fit's items 0.21, of new ones 0.34 (ratio 1.62)
    2        True             [17, 9]    [0.03, ...]       PSI 0.41 where chance gives 0.02
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.stats import binomtest

from qarm_features.codebooks.errors import BatchErrors, batch_errors, in_steps
from qarm_features.evaluation.drift import balanced_cells, cell_drift, largest_distance
from qarm_features.quantizers.arrays.codebooks import level_sizes

_BINS_PER_OCTAVE, _OCTAVES = 32, 26  # bins of errors are 2.2% wide, from 2**-24 to 4
_ITEM, _ENERGY, _ERROR, _BIN, _CODE = range(5)
_CODES_OF_LEVEL = 1 << 32
_ITEMS_OF_CELL, _MOST_CELLS = 20, 64


def fit_drift(rows: DataFrame, codebooks: np.ndarray, *, error_at_fit: float | None = None) -> dict[str, Any]:
    """Compare new items with those of the fit.

    Args:
        rows: ``rq_codes`` (L), ``embedding`` (D) of about unit norm and the boolean ``added_after_fit`` of every item.
        codebooks: Codebooks (L, K, D) float32.
        error_at_fit: Relative error after the last level that the fit measured.

    Returns:
        A dict of

        - ``items`` and ``new_items``, the numbers of items of the fit and of new ones,
        - ``error`` with the relative error after the last level ``at_fit``, that ``of_fit`` of the same items today, that
          ``of_new`` items, their ``ratio``, and ``distance`` and ``p_value`` of the test of Kolmogorov and Smirnov,
        - ``cells`` with ``psi``, ``psi_by_chance``, ``p_value`` and ``cells`` of ``CellDrift``, over neighboring centroids of
          the first level,
        - ``code_usage``, one dict per level with the codes in use ``by_fit``, and ``by_new`` items, and ``new_codes``, which
          new items alone use,
        - ``semantic_ids`` with the share of ``new`` items whose ID no item of the fit has, the share that is ``expected``
          (Good and Turing: the fit's IDs with one item, by its items), and the ``p_value`` that they differ by chance,
        - ``gain``, the share of the mean error of all items that vanishes if new items become as near as those of the fit.

        What needs new items is None if there are none.
    """
    counts = _counts(rows, codebooks)
    items, new_items = (int(counts[is_new][_ITEM, 0]) for is_new in (False, True))
    found: dict[str, Any] = {"items": items, "new_items": new_items}
    found["error"] = _errors(counts, len(codebooks) - 1, error_at_fit) if items else None
    if not items or not new_items:
        return {**found, "cells": None, "code_usage": [], "semantic_ids": None, "gain": None}
    sizes = level_sizes(codebooks)
    first = [counts[is_new].row(_CODE, 0, sizes[0]) for is_new in (False, True)]
    cells = balanced_cells(codebooks[0][: sizes[0]], first[0], min(_MOST_CELLS, new_items // _ITEMS_OF_CELL))
    return {
        **found,
        "cells": cell_drift(*(np.bincount(cells, weights=part) for part in first))._asdict(),
        "code_usage": [_usage(counts, level, size) for level, size in enumerate(sizes)],
        "semantic_ids": _new_ids(rows),
        "gain": _gain(counts, len(codebooks) - 1),
    }


class _Sums(dict[tuple[int, int], int]):
    """Sums of one kind of item by what they count and by a key. What was not seen is 0."""

    def __missing__(self, key: tuple[int, int]) -> int:
        return 0

    def row(self, what: int, start: int, size: int) -> np.ndarray:
        """Return the sums of ``size`` keys from ``start``."""
        return np.array([self[what, start + number] for number in range(size)], np.int64)


def _counts(rows: DataFrame, codebooks: np.ndarray) -> dict[bool, _Sums]:
    """Count and sum in one pass. The result has at most 2 L K rows and some hundreds."""
    counted = rows.select("embedding", "rq_codes", "added_after_fit").mapInArrow(
        partial(_count_batches, codebooks=codebooks), "is_new boolean, what int, key bigint, total bigint"
    )
    summed = counted.groupBy("is_new", "what", "key").agg(F.sum("total").alias("total")).collect()
    found = {False: _Sums(), True: _Sums()}
    for row in summed:
        found[row["is_new"]][row["what"], row["key"]] = row["total"]
    return found


def _count_batches(batches: Iterator[pa.RecordBatch], codebooks: np.ndarray) -> Iterator[pa.RecordBatch]:
    names = ("is_new", "what", "key", "total")
    for batch in batches:
        if batch.num_rows == 0:
            continue
        errors = batch_errors(batch, codebooks)
        new = batch["added_after_fit"].to_numpy(zero_copy_only=False).astype(bool)
        for is_new in (False, True):
            chosen = new == is_new
            if not chosen.any():
                continue
            sums = [*_sums_of(BatchErrors(*(part[chosen] for part in errors)))]
            columns = [pa.array([is_new] * len(sums)), *(pa.array(column) for column in zip(*sums, strict=True))]
            yield pa.RecordBatch.from_arrays([columns[0], columns[1].cast(pa.int32()), *columns[2:]], names=names)


def _sums_of(items: BatchErrors) -> Iterator[tuple[int, int, int]]:
    """Yield what is counted, its key and its total."""
    yield _ITEM, 0, len(items.errors)
    yield _ENERGY, 0, int(in_steps(items.energy).sum())
    for level, codes in enumerate(items.codes.T):
        yield _ERROR, level, int(in_steps(items.errors[:, level]).sum())
        for code, number in zip(*np.unique(codes, return_counts=True), strict=True):
            yield _CODE, level * _CODES_OF_LEVEL + int(code), int(number)
    octaves = np.log2(np.maximum(items.errors[:, -1], 2.0**-24)) + 24
    bins = np.clip(octaves * _BINS_PER_OCTAVE, 0, _BINS_PER_OCTAVE * _OCTAVES - 1).astype(int)
    for one, number in zip(*np.unique(bins, return_counts=True), strict=True):
        yield _BIN, int(one), int(number)


def _relative(sums: _Sums, level: int) -> float:
    return sums[_ERROR, level] / sums[_ENERGY, 0] if sums[_ENERGY, 0] else 0.0


def _errors(counts: dict[bool, _Sums], last: int, at_fit: float | None) -> dict[str, float | None]:
    of_fit = _relative(counts[False], last)
    of_new = _relative(counts[True], last) if counts[True][_ITEM, 0] else None
    bins = [counts[is_new].row(_BIN, 0, _BINS_PER_OCTAVE * _OCTAVES) for is_new in (False, True)]
    distance, p_value = largest_distance(*bins)
    ratio = of_new / of_fit if of_fit and of_new is not None else None
    return {
        "at_fit": at_fit, "of_fit": of_fit, "of_new": of_new, "ratio": ratio, "distance": distance, "p_value": p_value,
    }  # fmt: skip


def _usage(counts: dict[bool, _Sums], level: int, size: int) -> dict[str, int]:
    by_fit, by_new = (counts[is_new].row(_CODE, level * _CODES_OF_LEVEL, size) > 0 for is_new in (False, True))
    return {
        "level": level,
        "codebook_size": size,
        "by_fit": int(by_fit.sum()),
        "by_new": int(by_new.sum()),
        "new_codes": int((by_new & ~by_fit).sum()),
    }


def _new_ids(rows: DataFrame) -> dict[str, float]:
    """Return how many new items have an ID of their own kind, beside what items like those of the fit would have."""
    new, old = F.count_if("added_after_fit"), F.count_if(~F.col("added_after_fit"))
    by_id = rows.groupBy("rq_codes").agg(new.alias("new"), old.alias("old"))
    unknown = F.coalesce(F.sum(F.when(F.col("old") == 0, F.col("new"))), F.lit(0))
    found = by_id.agg(F.sum("new").alias("new"), F.sum("old").alias("old"), unknown.alias("unknown"),
                      F.count_if(F.col("old") == 1).alias("alone")).collect()[0]  # fmt: skip
    expected = found["alone"] / found["old"]
    test = binomtest(found["unknown"], found["new"], min(max(expected, 1e-12), 1 - 1e-12), alternative="greater")
    return {"new": found["unknown"] / found["new"], "expected": expected, "p_value": float(test.pvalue)}


def _gain(counts: dict[bool, _Sums], last: int) -> float:
    error = sum(counts[is_new][_ERROR, last] for is_new in (False, True))
    if not error:
        return 0.0
    energy = sum(counts[is_new][_ENERGY, 0] for is_new in (False, True))
    return max(0.0, 1 - _relative(counts[False], last) * energy / error)
