"""A power-of-two grid on which k-means is exact, so that its result does not depend on the order of additions.

In: embeddings (B, D) float32. Out: the same values divided by a power of two and rounded to multiples of ``2**-bits``.

Reason: A float64 can hold every integer below 2**53. Sums and products of grid values are such integers, times a power of
two. Hence they are exact, and the same for any partitioning, row order, number of workers and CPU.

Headroom: The largest norm of the data becomes at most 4/3, which is below 2**23 grid steps at ``bits = 22``. A residual
x - c has at most twice that norm, so residuals of the first level stay below 2**24 steps, where float32 is exact. In practice
residuals shrink from level to level. If they ever exceeded 2**24 steps, x - c would be rounded to float32, which is still a
multiple of the step, so sums would stay exact and the result deterministic. Sums of N rows stay below N * 2**24 steps, hence
they are exact up to N = 2**29 rows. For more rows, ``choose_grid`` drops one bit per doubling of N.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

MAX_BITS = 22
_SUM_BITS = 51  # float64 has 53; residuals may need 2 of them to grow


class Grid(NamedTuple):
    """Multiples of ``2**-bits``, in units of ``2**exponent`` of the data.

    Attributes:
        exponent: Binary logarithm of the unit.
        bits: Number of bits below the unit, at least 1.

    Example:
        >>> Grid(exponent=0, bits=2).round(np.array([0.3, -0.1], np.float32)).tolist()
        [0.25, 0.0]
    """

    exponent: int
    bits: int

    def round(self, embeddings: np.ndarray) -> np.ndarray:
        """Return embeddings (..., D) float32 scaled and rounded to the grid, (..., D) float32."""
        steps = np.ldexp(embeddings, self.bits - self.exponent)
        np.rint(steps, out=steps)
        steps *= np.float32(2.0**-self.bits)
        return steps + np.float32(0)  # + 0 turns -0.0 into 0.0, which has other bits

    def restore(self, grid_values: np.ndarray) -> np.ndarray:
        """Return grid values (..., D) float32 in the unit of the data."""
        return np.ldexp(grid_values, self.exponent)

    def restore_energy(self, energy: float) -> float:
        """Return a sum of squares, counted in squared grid steps, in the squared unit of the data."""
        return math.ldexp(energy, 2 * (self.exponent - self.bits))


def choose_grid(max_norm: float, rows: int) -> Grid:
    """Choose the finest grid on which sums over all rows are exact.

    Args:
        max_norm: Largest Euclidean norm of a row, at least 0, finite.
        rows: Number of rows N, at least 1.

    Returns:
        The grid. Its exponent is 0 for norms of about 1, both for 1 - 1e-7 and for 1 + 1e-7.

    Example:
        >>> choose_grid(max_norm=1.0, rows=1000)
        Grid(exponent=0, bits=22)
    """
    exponent = math.frexp(0.75 * max_norm)[1] if max_norm > 0 else 0
    return Grid(exponent, max(1, min(MAX_BITS, _SUM_BITS - (rows - 1).bit_length())))


def energy_in_steps(grid_values: np.ndarray, bits: int, weights: np.ndarray | None = None) -> int:
    """Return the exact sum of squares of grid values, counted in squared grid steps.

    Args:
        grid_values: Rows (B, D) float32 on the grid.
        bits: Bits of the grid.
        weights: Weights (B,) int64 of the rows, with a sum of at most 2**36; None counts every row once.
    """
    squares = np.einsum("ij,ij->i", grid_values, grid_values, dtype=np.float64)
    steps = np.ldexp(squares, 2 * bits).astype(np.int64)
    # The sum is computed in two halves, because the int64 sum of many rows could overflow.
    high, low = steps >> 24, steps & 0xFFFFFF
    if weights is not None:
        high, low = high * weights, low * weights
    return (int(high.sum()) << 24) + int(low.sum())


def ordered_row_sums(values: np.ndarray) -> np.ndarray:
    """Sum values (B, D) float64 over D in one fixed order, so that the last bit is the same on every CPU.

    The order of numpy's own sums depends on the memory layout and on the vector width of the CPU.
    """
    while (width := values.shape[1]) > 1:
        half = width // 2
        folded = values[:, :half] + values[:, half : 2 * half]
        values = np.concatenate([folded, values[:, 2 * half :]], axis=1) if width % 2 else folded
    return values[:, 0]


def hash_rows(grid_values: np.ndarray, seed: int) -> np.ndarray:
    """Hash rows by value, for a sample that depends on neither partitions nor row order.

    Args:
        grid_values: Rows (B, D) float32, without -0.0.
        seed: Seed for the hash function, in [0, 2**64).

    Returns:
        Hashes (B,) int64 in [0, 2**63), uniform over distinct rows.

    Source: multilinear hashing, arXiv 1202.4961; the last mixing step is splitmix64's.
    """
    generator = np.random.default_rng([seed, 0x9E3779B9])
    factors = generator.integers(0, 2**64, size=grid_values.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.ascontiguousarray(grid_values).view(np.uint32).astype(np.uint64) @ factors  # wraps at 2**64
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((hashes ^ (hashes >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
