"""Lloyd's k-means on arrays, without Spark."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import kmeans_plusplus

from qarm_features.quantizers.arrays.centroid_draws import draw_centroids
from qarm_features.quantizers.arrays.grid import choose_grid
from qarm_features.quantizers.arrays.lloyd import (
    assign_codes,
    lloyd_step,
    nearest_centroids,
    nearest_codes,
    update_centroids,
)
from qarm_features.quantizers.arrays.resting_centroids import nearest_after_moves
from qarm_features.quantizers.arrays.splits import split_largest
from qarm_features.quantizers.arrays.torch_products import torch_device


def steps(generator, *shape, bits=10):
    """Return random multiples of 2**-bits in [-1, 1], for which int64 arithmetic is exact."""
    return generator.integers(-(2**bits), 2**bits, shape, endpoint=True)


def brute_force(embeddings, centroids):
    """Return the lowest index with the least squared distance, in int64 arithmetic."""
    return np.array([np.square(centroids - row).sum(axis=1).argmin() for row in embeddings])


def test_codes_and_distances_equal_brute_force():
    generator = np.random.default_rng(0)
    embeddings, centroids = steps(generator, 5000, 24), steps(generator, 300, 24)

    codes, distances = nearest_centroids((embeddings / 2**10).astype("f4"), (centroids / 2**10).astype("f4"))

    assert codes.dtype == np.int32
    assert (codes == brute_force(embeddings, centroids)).all()
    assert (distances * 2**20 == np.square(embeddings - centroids[codes]).sum(axis=1)).all()


def test_rows_that_float32_cannot_decide_are_decided_exactly():
    # Far from zero, scores are about 2**22 * 8. In float32 their rounding errors exceed the differences of distances.
    generator = np.random.default_rng(1)
    embeddings = 2**11 * 1000 + steps(generator, 500, 8, bits=4)
    centroids = 2**11 * 1000 + steps(generator, 40, 8, bits=4)

    codes = nearest_codes((embeddings / 2**11).astype("f4"), (centroids / 2**11).astype("f4"))

    assert (codes == brute_force(embeddings, centroids)).all()


def test_equally_near_centroids_give_the_lowest_index():
    embeddings = np.array([[0.0, 0.0], [0.0, 3.0]], np.float32)
    centroids = np.array([[5, 5], [0, 1], [1, 0], [0, -1], [0, 1]], np.float32)

    codes, distances = nearest_centroids(embeddings, centroids)

    assert codes.tolist() == [1, 1]
    assert distances.tolist() == [1.0, 4.0]


def test_values_whose_squares_overflow_float32_are_quantized_too():
    embeddings = np.array([[1e30, 0.0], [0.0, 2e30]], np.float32)

    codes = nearest_codes(embeddings, embeddings[::-1])

    assert codes.tolist() == [1, 0]


def test_a_single_centroid_is_the_nearest_to_all():
    codes, distances = nearest_centroids(np.array([[1.0], [-2.0]], np.float32), np.array([[1.0]], np.float32))

    assert codes.tolist() == [0, 0]
    assert distances.tolist() == [0.0, 9.0]


def test_the_code_of_a_row_does_not_depend_on_the_rows_beside_it():
    generator = np.random.default_rng(2)
    embeddings, centroids = generator.normal(size=(3000, 16)).astype("f4"), generator.normal(size=(64, 16)).astype("f4")

    codes = nearest_codes(embeddings, centroids)

    assert (nearest_codes(embeddings[7:2900:3], centroids) == codes[7:2900:3]).all()


def test_no_rows_give_no_codes():
    codes = nearest_codes(np.empty((0, 2), np.float32), np.ones((3, 2), np.float32))

    assert codes.shape == (0,)


def test_each_level_quantizes_what_the_level_before_left_over():
    codebooks = np.array([[[0, 0], [10, 10]], [[1, 0], [0, 2]]], np.float32)

    codes = assign_codes(np.array([[1, 0], [10, 12], [1, 2]], np.float32), codebooks)

    assert codes.tolist() == [[0, 0], [1, 1], [0, 1]]


def test_a_lloyd_step_adds_up_rows_counts_and_squared_distances():
    embeddings = np.array([[0, 0], [0, 2], [10, 0]], np.float32)
    centroids = np.array([[0, 1], [9, 0], [99, 99]], np.float32)

    sums, counts, sse = lloyd_step(embeddings, centroids)

    assert sums.tolist() == [[0, 2], [10, 0], [0, 0]]
    assert counts.tolist() == [2, 1, 0]
    assert sse == 1 + 1 + 1


def test_a_lloyd_step_over_many_blocks_equals_one_over_all():
    generator = np.random.default_rng(3)
    embeddings, centroids = steps(generator, 6000, 4), steps(generator, 5, 4)
    expected = brute_force(embeddings, centroids)

    sums, counts, _ = lloyd_step(embeddings.astype("f4"), centroids.astype("f4"))

    assert counts.tolist() == np.bincount(expected, minlength=5).tolist()
    assert sums.tolist() == [embeddings[expected == k].sum(axis=0).tolist() for k in range(5)]


def test_a_centroid_moves_to_the_rounded_mean_and_stays_without_rows():
    sums, counts = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([3, 0])

    moved = update_centroids(sums, counts, np.array([[7, 7], [8, 8]], np.float32), bits=2)

    assert moved.tolist() == [[0.25, 0.75], [8, 8]]


def test_empty_centroids_split_the_largest_clusters():
    centroids = np.array([[1, 1], [50, 50], [4, 4], [60, 60], [70, 70]], np.float32)
    counts = np.array([10, 0, 4, 0, 0])

    repaired = split_largest(centroids, counts, 0.5, np.random.default_rng(0))

    donors = [repaired[0], repaired[0], repaired[0]]  # 10 rows give 5, then 5 beat 4 twice
    offsets = [abs(row - donor).tolist() for row, donor in zip(repaired[[1, 3]], donors)]
    assert repaired[[0, 2]].tolist() == [[1, 1], [4, 4]]
    assert offsets == [[0.5, 0.5], [0.5, 0.5]]


def test_initial_centroids_are_distinct_rows_of_the_sample():
    sample = np.array([[0, 0], [0, 0], [5, 5], [9, 0]], np.float32)

    centroids = draw_centroids(sample, np.array([1, 1, 1, 1]), 3, np.random.default_rng(0))

    assert sorted(centroids.tolist()) == [[0, 0], [5, 5], [9, 0]]


def test_fewer_distinct_rows_give_fewer_initial_centroids():
    sample = np.array([[1, 1], [1, 1], [2, 2]], np.float32)

    centroids = draw_centroids(sample, np.array([1, 1, 1]), 3, np.random.default_rng(0))

    assert sorted(centroids.tolist()) == [[1, 1], [2, 2]]


def test_rows_that_hardly_differ_are_told_apart_at_last():
    sample = np.array([[1, 0], [1 + 2**-20, 0], [1, 2**-20], [-1, 0]], np.float32)

    centroids = draw_centroids(sample, np.array([1, 1, 1, 1]), 4, np.random.default_rng(0))

    assert sorted(centroids.tolist()) == sorted(sample.tolist())


def test_initial_centroids_are_as_good_as_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(40, 16))[generator.integers(0, 40, 3000)] + 0.2 * generator.normal(size=(3000, 16))
    rows = choose_grid(max_norm=8.0, rows=3000).round(rows.astype(np.float32))

    ours = draw_centroids(rows, np.ones(3000, np.int64), 40, np.random.default_rng(0))

    theirs, _ = kmeans_plusplus(rows, 40, random_state=0)
    errors = [lloyd_step(rows, centroids)[2] for centroids in (ours, theirs)]
    assert errors[0] < 1.1 * errors[1]


def test_rows_are_drawn_in_proportion_to_their_weight():
    sample = np.array([[0.0], [1.0]], np.float32)
    generator = np.random.default_rng(0)

    firsts = [float(draw_centroids(sample, np.array([1, 9]), 1, generator)[0, 0]) for _ in range(500)]

    assert 430 < sum(firsts) < 470


@pytest.mark.parametrize("num_moved", [0, 1, 7, 40])
def test_codes_after_moves_are_those_of_all_products(num_moved):
    generator = np.random.default_rng(2)
    rows = np.rint(3 * generator.normal(size=(2000, 2))).astype(np.float32)  # many ties
    centroids = np.rint(3 * generator.normal(size=(40, 2))).astype(np.float32)
    before, moved = nearest_codes(rows, centroids), np.arange(40) < num_moved
    centroids[moved] += generator.integers(-1, 2, size=(num_moved, 2))

    codes = nearest_after_moves(rows, before, centroids, moved)

    assert codes.tolist() == nearest_codes(rows, centroids).tolist()


@pytest.mark.parametrize("num_centroids", [1, 2, 300])
def test_products_of_torch_give_the_same_codes(num_centroids):
    generator = np.random.default_rng(1)
    rows = choose_grid(max_norm=8.0, rows=500).round(generator.normal(size=(500, 16)).astype(np.float32))
    centroids = np.concatenate([rows[:150], rows[:150]])[:num_centroids]  # many ties

    codes = nearest_codes(rows, centroids, "cpu")

    assert codes.tolist() == nearest_codes(rows, centroids).tolist()
    assert nearest_codes(rows[:0], centroids, "cpu").shape == (0,)


def test_a_gpu_that_is_not_there_is_missed_or_done_without():
    rows = np.eye(2, dtype=np.float32)

    if torch.cuda.is_available():
        assert nearest_codes(rows, rows, torch_device("cuda")).tolist() == [0, 1]
        return
    assert nearest_codes(rows, rows, torch_device("auto")).tolist() == [0, 1]
    with pytest.raises(RuntimeError, match=r"device is cuda, but torch finds no GPU on this executor\. Set it to auto"):
        nearest_codes(rows, rows, torch_device("cuda"))


def test_sums_depend_on_the_order_of_rows_but_not_on_the_grid():
    generator = np.random.default_rng(4)
    raw = (generator.normal(size=(4000, 3)) * 2.0 ** generator.integers(-40, 1, (4000, 1))).astype("f4")
    on_grid, centroid = choose_grid(max_norm=5.0, rows=4000).round(raw), np.zeros((1, 3), np.float32)

    raw_sums, grid_sums = (
        [lloyd_step(rows, centroid)[0].tobytes() for rows in (values, values[::-1])] for values in (raw, on_grid)
    )

    assert raw_sums[0] != raw_sums[1]
    assert grid_sums[0] == grid_sums[1]
