"""How much two histograms differ, and whether chance explains it.

In: two arrays of counts over the same cells, those of a reference and those of what came later. Out: the population stability
index (PSI) beside the value that chance alone gives, and two-sample tests. A PSI without its number of rows misleads: with
few rows per cell it passes the usual limit of 0.2 although nothing has changed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import chi2_contingency, kstwobign

_LEAST_EXPECTED = 5.0  # count that a chi-square test needs in every cell


class CellDrift(NamedTuple):
    """How the shares of cells differ.

    Attributes:
        psi: Population stability index, from 0. Each cell counts half a row more, so that an empty one has a logarithm.
        psi_by_chance: Its mean if both samples came from one distribution: (C - 1) (1 / n + 1 / m) for C cells.
        p_value: The two-sample chi-square test gives it, for which cells of small counts are joined. It is 1 where fewer
            than two cells are left.
        cells: Number C of cells that hold a row.
    """

    psi: float
    psi_by_chance: float
    p_value: float
    cells: int


def cell_drift(reference: np.ndarray, later: np.ndarray) -> CellDrift:
    """Compare how two samples spread over cells.

    Args:
        reference: Counts (C,) of the reference.
        later: Counts (C,) of what came later, over the same cells.

    Returns:
        All zeros and a p-value of 1 if a sample is empty.

    Example:
        >>> cell_drift(np.array([50, 50]), np.array([50, 50]))
        CellDrift(psi=0.0, psi_by_chance=0.02, p_value=1.0, cells=2)
        >>> round(cell_drift(np.array([900, 100]), np.array([500, 500])).psi, 2)
        0.88
    """
    held = (reference + later) > 0
    reference, later = reference[held].astype(float), later[held].astype(float)
    n, m, cells = reference.sum(), later.sum(), int(held.sum())
    if not n or not m:
        return CellDrift(0.0, 0.0, 1.0, cells)
    before, after = (reference + 0.5) / (n + 0.5 * cells), (later + 0.5) / (m + 0.5 * cells)
    psi = float(np.sum((after - before) * np.log(after / before)))
    return CellDrift(psi, float((cells - 1) * (1 / n + 1 / m)), _chi_square(reference, later), cells)


def largest_distance(reference: np.ndarray, later: np.ndarray) -> tuple[float, float]:
    """Compare two histograms over ordered bins by the two-sample test of Kolmogorov and Smirnov.

    Differences inside of a bin are not seen, so the p-value is at least that of the values themselves.

    Args:
        reference: Counts (C,) of the reference, by ascending value.
        later: Counts (C,) of what came later, over the same bins.

    Returns:
        The largest distance of the two distribution functions, from 0 to 1, and the p-value. (0, 1) if a sample is empty.

    Example:
        >>> largest_distance(np.array([10, 0]), np.array([5, 5]))[0]
        0.5
    """
    n, m = reference.sum(), later.sum()
    if not n or not m:
        return 0.0, 1.0
    distance = float(np.abs(np.cumsum(reference) / n - np.cumsum(later) / m).max())
    return distance, float(kstwobign.sf(distance * np.sqrt(n * m / (n + m))))


def balanced_cells(centroids: np.ndarray, counts: np.ndarray, wanted: int) -> np.ndarray:
    """Join centroids that lie near each other to cells of about as many items each.

    The centroids are halved along their first principal axis, each half again, and so on, so that few rows fill the cells.

    Args:
        centroids: (K, D).
        counts: (K,) items of the reference in each centroid.
        wanted: Highest number of cells, at least 1. A power of 2 below it is made.

    Returns:
        (K,) number of the cell of each centroid.

    Example:
        >>> balanced_cells(np.array([[0.0], [1.0], [8.0], [9.0]]), np.array([5, 5, 5, 5]), 2).tolist()
        [0, 0, 1, 1]
    """
    cell = np.zeros(len(centroids), int)
    for _ in range(int(np.log2(max(wanted, 1)))):
        for number in range(cell.max() + 1):
            inside = np.flatnonzero(cell == number)
            cell[inside[_upper_half(centroids[inside], counts[inside])]] += cell.max() + 1
        cell = np.unique(cell, return_inverse=True)[1]
    return cell


def _upper_half(points: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the positions of the points beyond the weighted median along the first principal axis."""
    if len(points) < 2:
        return np.zeros(0, int)
    weights = counts + 1e-9
    centered = points - np.average(points, axis=0, weights=weights)
    axis = np.linalg.svd(centered * np.sqrt(weights)[:, None], full_matrices=False)[2][0]
    axis = axis if axis[np.abs(axis).argmax()] > 0 else -axis
    order = np.argsort(centered @ axis, kind="stable")
    before = np.cumsum(weights[order]) - weights[order]
    upper = order[before >= weights.sum() / 2]
    return upper if len(upper) < len(points) else upper[1:]


def _chi_square(reference: np.ndarray, later: np.ndarray) -> float:
    """Return the p-value of the test, after cells of small expected counts were joined."""
    share = min(reference.sum(), later.sum()) / (reference.sum() + later.sum())
    small = (reference + later) * share < _LEAST_EXPECTED
    table = np.stack([np.append(part[~small], part[small].sum()) for part in (reference, later)])
    table = table[:, table.sum(axis=0) * share >= _LEAST_EXPECTED]
    if table.shape[1] < 2 or (table.sum(axis=1) == 0).any():
        return 1.0
    return float(chi2_contingency(table, correction=False).pvalue)
