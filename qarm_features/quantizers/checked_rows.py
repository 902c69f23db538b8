"""One Arrow batch of rows becomes a matrix, or an error that says what is wrong with it.

In: lists of float or double. Out: (B, D) float32, finite.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from qarm_features.quantizers.embedding_batches import to_matrix


def checked_rows(batch: pa.Array, dim: int, name: str, of: str) -> np.ndarray:
    """Returns a batch as a matrix.

    Args:
        batch: B lists of D float or double.
        dim: D, at least 1.
        name: the column's name, for errors.
        of: what has this dimension, for errors.

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
        raise ValueError(f"{name} has dimension {found}, must be {dim} as {of}. Use its encoder version.")
    bad_rows = int(np.count_nonzero(~np.isfinite(matrix).all(axis=1)))
    if bad_rows:
        raise ValueError(f"{name} is NaN or infinite in {bad_rows} rows of a batch, must be finite. Drop these rows.")
    return matrix
