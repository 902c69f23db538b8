"""Conversion of a column of embeddings in Arrow batches to and from arrays.

In: B lists of float or double. Out: rows (B, D) float32 and what is wrong with them, or the codes of the rows.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qarm_features.quantizers.arrays.grid import ordered_row_sums
from qarm_features.quantizers.arrays.lloyd import assign_codes
from qarm_features.quantizers.passes.task_device import task_device

_NORM_ROWS = 1024  # number of rows that are widened to float64 at a time


class ColumnFacts(Protocol):
    """What one pass over a column of embeddings found."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def null_rows(self) -> int:
        """Number of rows that are null."""
        ...

    @property
    def bad_rows(self) -> int:
        """Number of rows with NaN or infinite values."""
        ...

    @property
    def min_dim(self) -> int | None:
        """Least dimension of a row, None if all rows are null."""
        ...

    @property
    def max_dim(self) -> int | None:
        """Largest dimension of a row, None if all rows are null."""
        ...


class BatchFacts(NamedTuple):
    """What a batch of embeddings holds.

    Attributes:
        null_rows: Number of rows that are null.
        min_dim: Least dimension of a row, None if all rows are null.
        max_dim: Largest dimension of a row, None if all rows are null.
    """

    null_rows: int
    min_dim: int | None
    max_dim: int | None


def to_matrix(embeddings: pa.Array) -> tuple[np.ndarray | None, BatchFacts]:
    """Read a column of embeddings, without a copy if it is array<float>.

    Args:
        embeddings: B lists of float or double.

    Returns:
        Rows (B, D) float32, or None if a row is null or dimensions differ, and the facts of the batch. A null inside a list
        becomes NaN.
    """
    lengths = pc.list_value_length(embeddings).drop_null().to_numpy()
    if not len(lengths):
        return None, BatchFacts(embeddings.null_count, None, None)
    shortest, longest = int(lengths.min()), int(lengths.max())
    facts = BatchFacts(embeddings.null_count, shortest, longest)
    if facts.null_rows or shortest != longest or longest == 0:
        return None, facts
    values = embeddings.flatten().to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):  # a double beyond float32 becomes inf, which is reported
        return values.astype(np.float32, copy=False).reshape(-1, longest), facts


def valid_matrix(embeddings: pa.Array) -> np.ndarray:
    """Return a column of embeddings that has passed validation as rows (B, D) float32.

    Raises:
        RuntimeError: Rows are null or have different dimensions, so they are not those that were validated.
    """
    matrix, facts = to_matrix(embeddings)
    if matrix is None:
        raise RuntimeError(
            f"The rows changed while they were read: {facts.null_rows} of {len(embeddings)} rows of a batch are null, "
            "or their dimensions differ. Write the DataFrame to a table and fit on that."
        )
    return matrix


def row_norms(embeddings: np.ndarray) -> np.ndarray:
    """Return the Euclidean norms (B,) float64 of rows (B, D) float32; inf or NaN if a row has such a value."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(ordered_row_sums(np.square(embeddings, dtype=np.float64)))


def near_norms(embeddings: np.ndarray) -> np.ndarray:
    """Return about the same as ``row_norms``, but faster; the last bits depend on the CPU."""
    norms = np.empty(len(embeddings))
    with np.errstate(invalid="ignore"):
        for start in range(0, len(embeddings), _NORM_ROWS):
            wide = embeddings[start : start + _NORM_ROWS].astype(np.float64)
            norms[start : start + _NORM_ROWS] = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return norms


def check_facts(facts: ColumnFacts, name: str) -> None:
    """Refuse a column of embeddings that cannot be used.

    Args:
        facts: Facts of all rows, counted in one pass; at least one row exists.
        name: Name of the column, for errors.

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
    batch: pa.Array, dim: int, name: str, place: str, *, advice: str = "Use its encoder version."
) -> np.ndarray:
    """Return a batch of embeddings as an array.

    Args:
        batch: B lists of float or double.
        dim: Dimension D that every row must have, at least 1.
        name: Name of the column, for errors.
        place: Where this dimension comes from, for errors, such as "in the codebooks".
        advice: Sentence that tells the user how to correct rows of another dimension.

    Returns:
        Rows (B, D) float32.

    Raises:
        ValueError: A row is null, has another dimension, or has values that are not finite.

    Example:
        >>> checked_rows(pa.array([[0.6, 0.8]]), 2, "embedding", "in the codebooks").shape
        (1, 2)
    """
    if len(batch) == 0:
        return np.empty((0, dim), np.float32)
    matrix, facts = to_matrix(batch)
    if facts.null_rows:
        raise ValueError(f"{name} is null in {facts.null_rows} rows of a batch, must be set. Drop these rows.")
    if matrix is None or matrix.shape[1] != dim:
        found = facts.max_dim if facts.min_dim == dim else facts.min_dim
        raise ValueError(f"{name} has dimension {found}, must be {dim} as {place}. {advice}")
    bad_rows = int(np.count_nonzero(~np.isfinite(matrix).all(axis=1)))
    if bad_rows:
        raise ValueError(f"{name} is NaN or infinite in {bad_rows} rows of a batch, must be finite. Drop these rows.")
    return matrix


def assign_batch(embeddings: pa.Array, codebooks: np.ndarray, name: str, device: str = "cpu") -> pa.Array:
    """Quantize one batch of a column of embeddings.

    Args:
        embeddings: B lists of D float or double.
        codebooks: Codebooks (L, K, D) float32.
        name: Name of the column, for errors.
        device: Name of the device of the products, see ``task_device``.

    Returns:
        B lists of L int32 codes in [0, K).

    Raises:
        ValueError: A row is null, has another dimension than the codebooks, or has values that are not finite.
    """
    num_levels, _, dim = codebooks.shape
    if len(embeddings) == 0:
        return pa.array([], pa.list_(pa.int32()))
    matrix = checked_rows(embeddings, dim, name, "in the codebooks", advice="Use their encoder version.")
    codes = assign_codes(matrix, codebooks, task_device(device))
    return pa.ListArray.from_arrays(np.arange(len(codes) + 1, dtype=np.int32) * num_levels, codes.ravel())
