"""The grid: rounding, exact sums of squares, hashes."""

from __future__ import annotations

import numpy as np
import pytest

from qarm_features.quantizers.arrays.grid import Grid, choose_grid, energy_in_steps, hash_rows, ordered_row_sums


def test_values_are_scaled_to_norms_of_about_one_and_rounded_to_steps():
    embeddings = np.array([[8.0, 3.1, -0.4]], np.float32)

    rounded = Grid(exponent=3, bits=2).round(embeddings)

    assert rounded.tolist() == [[1.0, 0.5, 0.0]]
    assert not np.signbit(rounded).any()


@pytest.mark.parametrize(
    ("max_norm", "rows", "expected"),
    [
        (1.0000001, 1000, Grid(0, 22)),
        (0.9999999, 1000, Grid(0, 22)),
        (100.0, 1000, Grid(7, 22)),
        (0.0, 1, Grid(0, 22)),
        (1.0, 2**29, Grid(0, 22)),
        (1.0, 2**31, Grid(0, 20)),
    ],
)
def test_the_grid_fits_the_largest_norm_and_gives_up_a_bit_per_doubling_beyond_2_to_29_rows(max_norm, rows, expected):
    assert choose_grid(max_norm, rows) == expected


def test_restoring_undoes_the_scaling():
    grid = Grid(exponent=3, bits=2)

    assert grid.restore(np.array([0.5], np.float32)).tolist() == [4.0]
    assert grid.restore_energy(5) == 5 * 2.0**2


def test_the_energy_counts_squared_steps_exactly():
    values = np.full((3, 2), 1 - 2.0**-22, np.float32)

    energy = energy_in_steps(values, bits=22)

    assert energy == 6 * (2**22 - 1) ** 2


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8])
def test_row_sums_add_every_column_once(width):
    values = np.array([np.arange(width), 10.0 ** np.arange(width)])

    assert ordered_row_sums(values).tolist() == [width * (width - 1) / 2, float("1" * width)]


def test_hashes_follow_the_values_and_the_seed():
    rows = np.array([[1, 2], [2, 1], [1, 2]], np.float32)

    first, swapped, same = hash_rows(rows, seed=0).tolist()

    assert first == same != swapped
    assert min(first, swapped) >= 0
    assert hash_rows(rows, seed=1)[0] != first


def test_hashes_are_spread_evenly():
    rows = np.arange(4000, dtype=np.float32).reshape(2000, 2)

    below_a_quarter = np.count_nonzero(hash_rows(rows, seed=3) < 2**61)

    assert 440 < below_a_quarter < 560
