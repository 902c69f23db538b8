"""Finite scalar quantization on arrays, without Spark."""

from __future__ import annotations

import numpy as np
import pytest

from qarm_features.quantizers.arrays.scalar_rounding import (
    BINS,
    ScalarRounding,
    errors_by_count,
    fit_scalars,
    histogram,
    most_dimensions,
    principal_axes,
    project,
    random_axes,
    share_out,
)


@pytest.fixture
def rounding():
    """A rounding to 3 x 2 codes along the axes x and z (D = 3)."""
    axes = np.array([[1, 0, 0], [0, 0, 1]], np.float32)
    scalars = [np.array([-1.0, 0.0, 1.0]), np.array([-2.0, 2.0])]
    return ScalarRounding(np.array([0, 5, 0], np.float32), axes, [np.array([-0.5, 0.5]), np.array([0.0])], scalars)


def test_digits_make_one_code_the_first_the_most_significant(rounding):
    rows = np.array([[-9, 5, -9], [-9, 5, 9], [0, 0, -1], [0.4, 0, 1], [0.5, 0, 0]], np.float32)

    codes = rounding.encode(rows)

    assert codes.tolist() == [0, 1, 2, 3, 5]
    assert codes.dtype == np.int32


def test_a_code_stands_for_its_scalars_and_the_mean(rounding):
    assert rounding.decode(np.array([0, 3])).tolist() == [[-1, 5, -2], [0, 5, 2]]


def test_every_code_is_the_code_of_what_it_stands_for(rounding):
    assert rounding.encode(rounding.decode(np.arange(6))).tolist() == list(range(6))


def test_arrays_hold_all_of_it(rounding):
    again = ScalarRounding.from_arrays(rounding.to_arrays())

    assert again.levels == rounding.levels == [3, 2]
    assert [edges.tolist() for edges in again.boundaries] == [[-0.5, 0.5], [0.0]]
    assert [values.tolist() for values in again.scalars] == [[-1, 0, 1], [-2, 2]]


@pytest.mark.parametrize(("count", "expected"), [(1, 1.0), (2, 0.3634), (4, 0.1175), (8, 0.03454)])
def test_scalars_of_a_normal_distribution_have_the_errors_of_max(count, expected):
    # Max, Quantizing for minimum distortion, 1960, table I.
    quantiles = np.linspace(-4, 4, 400_001)
    counts = np.histogram(quantiles, BINS, (-6, 6), weights=np.exp(-np.square(quantiles) / 2))[0]
    counts = np.rint(counts * 1e4).astype(np.int64)

    boundaries, scalars, error = fit_scalars(counts, count, spacing="error")

    assert (len(boundaries), len(scalars)) == (count - 1, count)
    assert error == pytest.approx(expected, rel=0.01)


def test_cells_by_mass_hold_equally_many_rows():
    values = np.random.default_rng(0).exponential(size=(50_000, 1)) - 1
    counts = histogram(values, np.ones(1))[0]

    boundaries, _, _ = fit_scalars(counts, 5, spacing="mass")

    shares = np.bincount(np.searchsorted(boundaries, values[:, 0], side="right")) / 50_000
    np.testing.assert_allclose(shares, 0.2, atol=0.01)


def test_a_cell_without_rows_stands_for_its_middle_and_scalars_ascend():
    counts = np.zeros(BINS, np.int64)
    counts[[100, 101]] = 7

    _, scalars, error = fit_scalars(counts, 6, spacing="error")

    assert (np.diff(scalars) >= 0).all()
    assert error == 0.0


def test_codes_are_shared_out_with_the_least_error():
    errors = np.array([[16.0, 4.0, 1.8, 1.0], [3.0, 0.25, 0.11, 0.06]])
    possible = {(a, b): errors[0, a - 1] + errors[1, b - 1] for a in range(1, 5) for b in range(1, 5) if a * b <= 6}

    assert tuple(share_out(errors, 6)) == min(possible, key=possible.get) == (3, 2)


def test_a_larger_variance_gets_more_scalars():
    values = np.random.default_rng(1).normal(size=(20_000, 3))
    counts = histogram(values, np.ones(3))

    levels = share_out(errors_by_count(counts, np.array([1.0, 16.0, 0.001]), 64, spacing="error"), 64)

    assert levels == [4, 16, 1]


@pytest.mark.parametrize(("size", "expected"), [(2, 1), (4095, 11), (4096, 12)])
def test_a_dimension_needs_two_scalars(size, expected):
    assert most_dimensions(size) == expected


def test_principal_axes_are_those_of_numpy_with_a_fixed_sign():
    rows = np.random.default_rng(2).normal(size=(500, 4)) * [1, 5, 3, 0.1]
    covariance = np.cov(rows.T)

    axes = principal_axes(covariance, 2)

    _, _, expected = np.linalg.svd(rows - rows.mean(axis=0))
    np.testing.assert_allclose(np.abs(axes), np.abs(expected[:2]), atol=1e-6)
    assert axes[0, 1] > 0 < axes[1, 2]


def test_random_axes_are_orthonormal_and_follow_the_seed():
    axes = random_axes(10, 3, seed=4)

    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-6)
    assert axes.tobytes() == random_axes(10, 3, seed=4).tobytes() != random_axes(10, 3, seed=5).tobytes()


def test_a_projection_does_not_depend_on_the_rows_beside_a_row():
    generator = np.random.default_rng(5)
    rows, axes = generator.normal(size=(3000, 300)).astype(np.float32), random_axes(300, 4, seed=0)

    values = project(rows, rows[0], axes)

    np.testing.assert_allclose(values, (rows - rows[0]) @ axes.T, atol=1e-4)
    assert project(rows[1700:1703], rows[0], axes).tobytes() == values[1700:1703].tobytes()
