"""Weights of rows as integers, so that weighted sums are exact.

In: one weight per row, at least 0, for example an item's popularity. Out: int64 multiples of a power of two that sum up to
2**36 at most over all of up to 2**35 rows: with 10 million rows the mean weight has 13 bits, and a weight above 0 never
becomes 0.
"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa

_TOTAL_BITS = 35  # half of 2**36, because small weights are rounded up
_UNIT_BITS = 173  # every float32 is a multiple of 2**-173 / 2


def weight_facts(column: pa.Array) -> tuple[np.ndarray, int, int]:
    """Reads a column of weights.

    Args:
        column: B numbers.

    Returns:
        Weights (B,) float32, how many are null, negative, NaN or infinite, and the exact sum of the others in steps of
        ``2**-173``.
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
    """Returns bits such that N weights rounded up to multiples of ``2**-bits`` sum up to 2**total_bits + N of these at most.

    Args:
        steps: the sum of all weights in steps of ``2**-173``, above 0.
        total_bits: by default 35.
    """
    total_exponent = steps.bit_length() - _UNIT_BITS  # total < 2**total_exponent
    return total_bits - total_exponent


def on_weight_grid(weights: np.ndarray, bits: int) -> np.ndarray:
    """Returns weights (B,) float32 as multiples (B,) int64 of ``2**-bits``, rounded up."""
    return np.ceil(np.ldexp(weights.astype(np.float64), bits)).astype(np.int64)


def restore_weight(total: int, bits: int | None) -> float:
    """Returns a sum of multiples of ``2**-bits`` in the unit of the weights."""
    return float(total) if bits is None else math.ldexp(total, -bits)
