"""PSI and the two-sample tests tell drift from chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from qarm_features.evaluation.drift import balanced_cells, cell_drift, largest_distance


def test_the_psi_of_one_distribution_is_what_chance_gives_however_few_rows_there_are():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(32, 5.0))
    found = [cell_drift(rng.multinomial(5000, shares), rng.multinomial(rows, shares)) for rows in [400] * 200]

    psi, by_chance = np.mean([one.psi for one in found]), np.mean([one.psi_by_chance for one in found])
    assert by_chance == pytest.approx(31 * (1 / 5000 + 1 / 400))
    assert psi == pytest.approx(by_chance, rel=0.1)
    assert np.mean([one.p_value < 0.05 for one in found]) == pytest.approx(0.05, abs=0.04)


def test_another_distribution_has_a_larger_psi_and_no_p_value_to_speak_of():
    found = cell_drift(np.array([400, 300, 300]), np.array([100, 100, 800]))

    before, after = np.array([400.5, 300.5, 300.5]) / 1001.5, np.array([100.5, 100.5, 800.5]) / 1001.5
    assert found.psi == pytest.approx(np.sum((after - before) * np.log(after / before)))
    assert found.psi > 1
    assert found.p_value < 1e-90


def test_the_chi_square_test_is_that_of_scipy_where_every_cell_is_full():
    reference, later = np.array([120, 80, 50]), np.array([60, 55, 41])

    expected = chi2_contingency([reference, later], correction=False).pvalue
    assert cell_drift(reference, later).p_value == pytest.approx(expected)


def test_cells_that_nobody_fills_and_empty_samples_are_no_drift():
    assert cell_drift(np.array([0, 10, 10]), np.array([0, 10, 10])).cells == 2
    assert cell_drift(np.array([5, 5]), np.array([0, 0]))[:3] == (0.0, 0.0, 1.0)
    assert cell_drift(np.array([3]), np.array([9])).p_value == 1.0
    assert largest_distance(np.array([5, 5]), np.array([0, 0])) == (0.0, 1.0)


def test_the_largest_distance_of_fine_bins_is_that_of_the_values():
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=2000), rng.normal(0.15, size=500)
    edges = np.linspace(-6, 6, 20_001)

    distance, p_value = largest_distance(np.histogram(before, edges)[0], np.histogram(after, edges)[0])

    expected = ks_2samp(before, after, method="asymp")
    assert distance == pytest.approx(expected.statistic, abs=2e-3)
    assert p_value == pytest.approx(expected.pvalue, rel=0.1)


def test_cells_hold_about_as_many_items_each_and_neighbors_stay_together():
    rng = np.random.default_rng(0)
    centroids, counts = rng.normal(size=(256, 8)), rng.integers(1, 100, 256)

    cells = balanced_cells(centroids, counts, 20)

    sizes = np.bincount(cells, weights=counts)
    assert len(sizes) == 16
    assert sizes.max() < 1.5 * counts.sum() / 16
    spread = np.mean([centroids[cells == cell].var(axis=0).sum() for cell in range(16)])
    assert spread < 0.8 * centroids.var(axis=0).sum()


def test_fewer_centroids_than_cells_are_a_cell_each():
    assert sorted(balanced_cells(np.array([[0.0], [5.0], [9.0]]), np.array([1, 1, 1]), 64)) == [0, 1, 2]
    assert balanced_cells(np.array([[0.0], [5.0]]), np.array([0, 0]), 1).tolist() == [0, 0]
