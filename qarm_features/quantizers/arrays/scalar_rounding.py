"""Finite scalar quantization on arrays, the algorithm that ``FiniteScalar`` distributes.

In: rows (B, D), usually residuals of k-means. Out: one code per row. The row is projected to a few dimensions, and
dimension i is rounded to one of n_i scalars. The indices of the scalars are the digits of the code, that of the first
dimension the most significant.

The scalars are computed from histograms, not trained. A histogram per dimension gives the best cells and their squared error
for each n_i. These errors decide how many scalars each dimension gets: dimensions with larger variance get more scalars
(reverse water-filling in integers).

Source: FSQ, arXiv 2309.15505; the scalar quantizer of Lloyd and Max; its place after residual k-means: QARM V2, arXiv
2602.08559.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from qarm_features.quantizers.arrays.grid import ordered_row_sums

BINS, REACH = 2048, 6.0  # a histogram has 2048 bins from -6 to 6 standard deviations
MOST_SCALARS = 64  # maximal number of scalars of a dimension if their numbers are chosen by error
_ITERATIONS = 60
_PRODUCT_ELEMENTS = 1 << 19


class ScalarRounding(NamedTuple):
    """The fitted parameters that turn rows into codes and back.

    Attributes:
        mean: Mean (D,) float32, which is subtracted first.
        projection: Orthonormal axes (d, D) float32.
        boundaries: Boundaries (n_i - 1,) float64 of the cells of each of d dimensions, ascending. A value on a boundary
            belongs to the cell above it.
        scalars: Values (n_i,) float64 to which each of d dimensions is rounded.

    Example:
        >>> edges, scalars = [np.zeros(1)] * 2, [np.array([-1.0, 1.0])] * 2
        >>> rounding = ScalarRounding(np.zeros(2, np.float32), np.eye(2, dtype=np.float32), edges, scalars)
        >>> rounding.encode(np.array([[0.3, -7.0], [-0.1, -0.2]], np.float32)).tolist()
        [2, 0]
        >>> rounding.decode(np.array([2, 0])).tolist()
        [[1.0, -1.0], [-1.0, -1.0]]
    """

    mean: np.ndarray
    projection: np.ndarray
    boundaries: list[np.ndarray]
    scalars: list[np.ndarray]

    @property
    def levels(self) -> list[int]:
        """Number of scalars n_i of each dimension."""
        return [len(values) for values in self.scalars]

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Return the codes (B,) int32, in [0, product of n_i), of rows (B, D) float32."""
        values = project(rows, self.mean, self.projection)
        codes = np.zeros(len(rows), np.int64)
        for column, (edges, count) in enumerate(zip(self.boundaries, self.levels)):
            codes = codes * count + np.searchsorted(edges, values[:, column], side="right")
        return codes.astype(np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the rows (B, D) float32 that codes (B,) stand for."""
        digits = np.unravel_index(np.asarray(codes), self.levels)
        values = np.stack([scalars[digit] for scalars, digit in zip(self.scalars, digits)], axis=-1)
        return (values @ self.projection.astype(np.float64) + self.mean).astype(np.float32)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return named arrays that hold all of the rounding, for safetensors and Parquet."""
        return {
            "mean": self.mean,
            "projection": self.projection,
            "levels": np.array(self.levels, np.int64),
            "boundaries": np.concatenate(self.boundaries),
            "scalars": np.concatenate(self.scalars),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> ScalarRounding:
        """Restore a rounding from the arrays that ``to_arrays`` returned."""
        ends = np.cumsum(arrays["levels"].astype(int))
        boundaries = np.split(arrays["boundaries"], (ends - np.arange(1, len(ends) + 1))[:-1])
        mean, projection = (arrays[name].astype(np.float32) for name in ("mean", "projection"))
        return cls(mean, projection, boundaries, np.split(arrays["scalars"], ends[:-1]))


def empty_rounding() -> ScalarRounding:
    """Return a rounding of rows without dimensions, for a model before its rounding is set."""
    return ScalarRounding(np.empty(0, np.float32), np.empty((0, 0), np.float32), [], [])


def project(rows: np.ndarray, mean: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """Project rows to a few dimensions, with every sum in one fixed order.

    Args:
        rows: Rows (B, D) float32.
        mean: Mean (D,) float32, which is subtracted first.
        projection: Axes (d, D) float32.

    Returns:
        Projected rows (B, d) float64.
    """
    values, axes = np.empty((len(rows), len(projection))), projection.astype(np.float64)
    size = max(1, _PRODUCT_ELEMENTS // rows.shape[1])
    for start in range(0, len(rows), size):
        centered = rows[start : start + size].astype(np.float64) - mean
        for column, axis in enumerate(axes):
            values[start : start + size, column] = ordered_row_sums(centered * axis)
    return values


def principal_axes(covariance: np.ndarray, count: int) -> np.ndarray:
    """Return the axes (count, D) float32 with the largest variances; the largest component of each axis is positive."""
    _, vectors = np.linalg.eigh(covariance)
    return _with_signs(vectors.T[::-1][:count])


def random_axes(dim: int, count: int, seed: int) -> np.ndarray:
    """Return random orthonormal axes (count, D) float32."""
    gaussian = np.random.default_rng(seed % 2**64).standard_normal((dim, count))
    return _with_signs(np.linalg.qr(gaussian)[0].T)


def histogram(values: np.ndarray, deviations: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Count the values of each dimension by bins.

    Args:
        values: Values (B, d) float64.
        deviations: Standard deviation (d,) of each dimension, the unit of the bins.
        weights: Weights (B,) of the rows; None counts every row once.

    Returns:
        Counts, or sums of weights, (d, BINS).
    """
    scaled = (values / deviations + REACH) * (BINS / (2 * REACH))
    bins = np.clip(scaled, 0, BINS - 1).astype(np.int64)
    return np.stack([np.bincount(column, weights, minlength=BINS) for column in bins.T])


def fit_scalars(counts: np.ndarray, num_scalars: int, *, spacing: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Fit the cells of one dimension to its histogram.

    Args:
        counts: Number of rows (BINS,) int64, or sum of their weights, of each bin, one of them above 0.
        num_scalars: Number of scalars n, at least 1.
        spacing: "error" minimizes the squared error (Lloyd, Max), "mass" makes cells with equal numbers of rows.

    Returns:
        Boundaries (n - 1,) and scalars (n,) float64, in standard deviations, and the mean squared error.
    """
    width = 2 * REACH / BINS
    centers = (np.arange(BINS) + 0.5) * width - REACH
    mass = np.concatenate([[0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(counts * centers)])
    shares = np.arange(1, num_scalars) / num_scalars * mass[-1]
    edges = np.searchsorted(mass, shares)  # first bin of each cell but the first
    for _ in range(_ITERATIONS if spacing == "error" else 0):
        scalars = _cell_means(edges, mass, moment, centers)
        moved = np.searchsorted(centers, (scalars[1:] + scalars[:-1]) / 2)
        if (moved == edges).all():
            break
        edges = moved
    scalars = _cell_means(edges, mass, moment, centers)
    cell = np.searchsorted(edges, np.arange(BINS), side="right")
    error = float(counts @ np.square(centers - scalars[cell])) / int(mass[-1])
    return edges * width - REACH, scalars, error


def errors_by_count(counts: np.ndarray, variances: np.ndarray, size: int, *, spacing: str) -> np.ndarray:
    """Return the mean squared errors (d, n) of d dimensions with 1 to n scalars.

    Args:
        counts: Histograms (d, BINS) int64.
        variances: Variance (d,) of each dimension.
        size: Maximal number of codes. The dimension of rank r by variance gets at most 2 size**(1 / r) scalars; the errors
            of more scalars are infinite.
        spacing: Spacing of the scalars, see ``fit_scalars``.
    """
    errors = np.full((len(counts), min(MOST_SCALARS, size)), np.inf)
    for rank, column in enumerate(np.argsort(-variances, kind="stable"), 1):
        most = min(errors.shape[1], math.ceil(2 * size ** (1 / rank)))
        for count in range(1, most + 1):
            errors[column, count - 1] = fit_scalars(counts[column], count, spacing=spacing)[2] * variances[column]
    return errors


def share_out(errors: np.ndarray, size: int) -> list[int]:
    """Choose the number of scalars of each dimension so that the sum of errors is the least.

    Args:
        errors: Mean squared error (d, n) of each dimension with 1 to n scalars.
        size: Maximal number of codes, at least 1.

    Returns:
        d numbers of scalars, each in [1, n], with a product of at most ``size``.

    Example:
        >>> share_out(np.array([[9.0, 3.0, 1.0], [2.0, 1.0, 0.5]]), size=4)
        [3, 1]
    """
    best, chosen = np.full(size + 1, np.inf), []
    best[1] = 0.0
    for dimension_errors in errors:
        total, choice = np.full(size + 1, np.inf), np.ones(size + 1, np.int64)
        for count, error in enumerate(dimension_errors[:size], 1):
            reached = slice(count, count * (size // count) + 1, count)
            sums = best[1 : size // count + 1] + error
            better = sums < total[reached]
            total[reached] = np.where(better, sums, total[reached])
            choice[reached] = np.where(better, count, choice[reached])
        best = total
        chosen.append(choice)
    product, levels = int(best.argmin()), []
    for choice in reversed(chosen):
        levels.append(int(choice[product]))
        product //= levels[-1]
    return levels[::-1]


def most_dimensions(size: int) -> int:
    """Return the maximal number of dimensions with at least two scalars each and at most ``size`` codes in all.

    Example:
        >>> most_dimensions(4096)
        12
    """
    return max(1, int(math.log2(size)))


def _cell_means(edges: np.ndarray, mass: np.ndarray, moment: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Return the mean of the rows of each cell, or the middle of a cell without rows."""
    ends = np.concatenate([[0], edges, [len(centers)]])
    rows, first, last = (
        np.diff(mass[ends]),
        centers[np.minimum(ends[:-1], BINS - 1)],
        centers[np.maximum(ends[1:] - 1, 0)],
    )
    means = np.where(rows > 0, np.diff(moment[ends]) / np.maximum(rows, 1), (first + last) / 2)
    return np.maximum.accumulate(means)  # keeps them in order in spite of rounding


def _with_signs(axes: np.ndarray) -> np.ndarray:
    """Turn each axis so that its largest component by size is positive."""
    largest = np.abs(axes).argmax(axis=1)
    signs = np.where(axes[np.arange(len(axes)), largest] < 0, -1.0, 1.0)
    return np.ascontiguousarray(axes * signs[:, None], dtype=np.float32)
