"""Weights of rows as integers, so that weighted sums are exact.

In: one weight per row, at least 0, for example the popularity of an item. Out: int64 multiples of a power of two with a
sum of at most 2**36 over all rows, of which there may be 2**35. With 10 million rows the mean weight has 13 bits. A
weight above 0 never becomes 0.
"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa

_TOTAL_BITS = 35  # half of 2**36, because small weights are rounded up
_UNIT_BITS = 173  # every float32 is a multiple of 2**-173 / 2


def weight_facts(column: pa.Array) -> tuple[np.ndarray, int, int]:
    """Read a column of weights.

    Args:
        column: B numbers.

    Returns:
        Weights (B,) float32, the number of those that are null, negative, NaN or infinite, and the exact sum of the others
        in steps of ``2**-173``.

    Example:
        >>> weights, bad, steps = weight_facts(pa.array([0.5, None, 2.0]))
        >>> bad, steps / 2**173
        (1, 2.5)
    """
    with np.errstate(over="ignore"):
        values = column.cast(pa.float64()).fill_null(float("nan")).to_numpy(zero_copy_only=False).astype(np.float32)
    good = np.isfinite(values) & (values >= 0)
    mantissas, exponents = np.frexp(values[good])
    mantissas = np.ldexp(mantissas.astype(np.float64), 24).astype(np.int64)
    steps = 0
    for exponent in np.unique(exponents):
        steps += int(mantissas[exponents == exponent].sum()) << (int(exponent) - 24 + _UNIT_BITS)
    return values, int(len(values) - good.sum()), steps


def choose_weight_bits(steps: int, *, total_bits: int = _TOTAL_BITS) -> int:
    """Choose the grid of the weights.

    Args:
        steps: Sum of all weights in steps of ``2**-173``, above 0.
        total_bits: Binary logarithm of the sum of all weights on the grid, default 35.

    Returns:
        Bits such that N weights, rounded up to multiples of ``2**-bits``, have a sum of at most 2**total_bits + N of these.
    """
    total_exponent = steps.bit_length() - _UNIT_BITS  # total < 2**total_exponent
    return total_bits - total_exponent


def on_weight_grid(weights: np.ndarray, bits: int) -> np.ndarray:
    """Return weights (B,) float32 as multiples (B,) int64 of ``2**-bits``, rounded up."""
    return np.ceil(np.ldexp(weights.astype(np.float64), bits)).astype(np.int64)


def restore_weight(total: int, bits: int | None) -> float:
    """Return a sum of multiples of ``2**-bits`` in the unit of the weights."""
    return float(total) if bits is None else math.ldexp(total, -bits)
