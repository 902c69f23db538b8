"""A column of embeddings in Arrow batches, to and from arrays.

In: B lists of float or double. Out: (B, D) float32 and what is wrong with it; or codes of the rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qarm_features.quantizers.arrays.grid import ordered_row_sums
from qarm_features.quantizers.arrays.lloyd import assign_codes
from qarm_features.quantizers.passes.task_device import task_device

_NORM_ROWS = 1024  # widened at a time


def to_matrix(embeddings: pa.Array) -> tuple[np.ndarray | None, dict[str, int]]:
    """Reads a column of embeddings, without a copy if it is array<float>.

    Args:
        embeddings: B lists of float or double.

    Returns:
        (B, D) float32, or None if a row is null or lengths differ; and what is in the way: null_rows, min_dim, max_dim.
        A null inside a list becomes NaN.
    """
    lengths = pc.list_value_length(embeddings).drop_null().to_numpy()
    if not len(lengths):
        return None, {"null_rows": embeddings.null_count, "min_dim": None, "max_dim": None}
    facts = {"null_rows": embeddings.null_count, "min_dim": int(lengths.min()), "max_dim": int(lengths.max())}
    if facts["null_rows"] or facts["min_dim"] != facts["max_dim"] or facts["max_dim"] == 0:
        return None, facts
    values = embeddings.flatten().to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):  # a double beyond float32 becomes inf and is reported as such
        return values.astype(np.float32, copy=False).reshape(-1, facts["max_dim"]), facts


def row_norms(embeddings: np.ndarray) -> np.ndarray:
    """Returns the Euclidean norms (B,) float64 of (B, D) float32, inf or NaN where a value is."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(ordered_row_sums(np.square(embeddings, dtype=np.float64)))


def near_norms(embeddings: np.ndarray) -> np.ndarray:
    """Returns `row_norms`, quicker, but for the last bits, which differ between CPUs."""
    norms = np.empty(len(embeddings))
    with np.errstate(invalid="ignore"):
        for start in range(0, len(embeddings), _NORM_ROWS):
            wide = embeddings[start : start + _NORM_ROWS].astype(np.float64)
            norms[start : start + _NORM_ROWS] = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return norms


def check_facts(facts: NamedTuple, name: str) -> None:
    """Refuses a column of which one pass found that it cannot be used.

    Args:
        facts: rows, null_rows, bad_rows (NaN or infinite), min_dim and max_dim, over all rows, at least one.
        name: the column's name, for errors.

    Raises:
        ValueError: A row is null, dimensions differ or are 0, or values are not finite.
    """
    if facts.null_rows:
        raise ValueError(f"{name} is null in {facts.null_rows} of {facts.rows} rows, must be set. Drop these rows.")
    if facts.min_dim != facts.max_dim or facts.max_dim == 0:
        found = f"{facts.min_dim} to {facts.max_dim}" if facts.max_dim else "0"
        raise ValueError(f"{name} has dimension {found}, must be one dimension above 0. Embed with one encoder.")
    if facts.bad_rows:
        bad = f"{name} is NaN or infinite in {facts.bad_rows} of {facts.rows} rows"
        raise ValueError(f"{bad}, must be finite. Drop or repair these rows.")


def checked_rows(
    batch: pa.Array, dim: int, name: str, of: str, *, advice: str = "Use its encoder version."
) -> np.ndarray:
    """Returns a batch as a matrix.

    Args:
        batch: B lists of D float or double.
        dim: D, at least 1.
        name: the column's name, for errors.
        of: what has this dimension, for errors.
        advice: what to do about another one.

    Returns:
        (B, D) float32.

    Raises:
        ValueError: A row is null, has another dimension, or values that are not finite.
    """
    if len(batch) == 0:
        return np.empty((0, dim), np.float32)
    matrix, facts = to_matrix(batch)
    if facts["null_rows"]:
        raise ValueError(f"{name} is null in {facts['null_rows']} rows of a batch, must be set. Drop these rows.")
    if (facts["min_dim"], facts["max_dim"]) != (dim, dim):
        found = facts["max_dim"] if facts["min_dim"] == dim else facts["min_dim"]
        raise ValueError(f"{name} has dimension {found}, must be {dim} as {of}. {advice}")
    bad_rows = int(np.count_nonzero(~np.isfinite(matrix).all(axis=1)))
    if bad_rows:
        raise ValueError(f"{name} is NaN or infinite in {bad_rows} rows of a batch, must be finite. Drop these rows.")
    return matrix


def assign_batch(embeddings: pa.Array, codebooks: np.ndarray, name: str, device: str = "cpu") -> pa.Array:
    """Quantizes one batch of a column of embeddings.

    Args:
        embeddings: B lists of D float or double.
        codebooks: (L, K, D) float32.
        name: the column's name, for errors.
        device: Name of the device of the products, see ``task_device``.

    Returns:
        B lists of L int32 codes in [0, K).

    Raises:
        ValueError: A row is null, has another dimension than the codebooks, or values that are not finite.
    """
    num_levels, _, dim = codebooks.shape
    if len(embeddings) == 0:
        return pa.array([], pa.list_(pa.int32()))
    matrix = checked_rows(embeddings, dim, name, "in the codebooks", advice="Use their encoder version.")
    codes = assign_codes(matrix, codebooks, task_device(device))
    return pa.ListArray.from_arrays(np.arange(len(codes) + 1, dtype=np.int32) * num_levels, codes.ravel())
