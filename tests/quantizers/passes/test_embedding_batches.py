"""Columns of embeddings become arrays, and their faults are counted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from qarm_features.quantizers.passes.embedding_batches import to_matrix, valid_matrix


@pytest.mark.parametrize(
    ("rows", "facts"),
    [([[1.0, 2.0], None], (1, 2, 2)), ([[1.0], [1.0, 2.0]], (0, 1, 2)), ([None], (1, None, None)), ([[]], (0, 0, 0))],
)
def test_a_batch_with_faults_is_no_array(rows, facts):
    matrix, found = to_matrix(pa.array(rows, pa.list_(pa.float32())))

    assert matrix is None
    assert tuple(found) == facts


def test_a_null_inside_a_row_is_nan():
    matrix, _ = to_matrix(pa.array([[1.0, None]], pa.list_(pa.float64())))

    np.testing.assert_array_equal(matrix, np.array([[1.0, np.nan]], np.float32))


def test_rows_that_changed_after_validation_are_refused():
    with pytest.raises(RuntimeError, match=r"The rows changed while they were read: 1 of 2 rows of a batch are null"):
        valid_matrix(pa.array([[1.0], None], pa.list_(pa.float32())))
