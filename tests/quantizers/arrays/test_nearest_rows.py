"""The k nearest rows on arrays, without Spark, compared with faiss and numpy."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from qarm_features.quantizers.arrays.nearest_rows import NO_POSITION, Nearest, Rows, merge_shard
from qarm_features.quantizers.arrays.row_lists import build_lists, count_lists, probe_lists, read_lists


def unit_rows(generator, *shape):
    rows = generator.normal(size=shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def shard(embeddings, offset=0, copies=None):
    embeddings = np.asarray(embeddings, np.float32)
    copies = np.zeros(len(embeddings), np.int32) if copies is None else np.array(copies, np.int32)
    return Rows(embeddings, copies, offset, float(np.linalg.norm(embeddings.astype(float), axis=1).max()))


def nearest(queries, rows, k, own=None):
    queries = np.asarray(queries, np.float32)
    own = np.full(len(queries), -1) if own is None else np.array(own)
    return merge_shard(queries, own, rows, Nearest.none(len(queries), k))


@pytest.mark.parametrize(("rows", "dim", "k"), [(20_000, 48, 25), (300, 5, 10), (9000, 3, 1)])
def test_neighbors_and_similarities_equal_those_of_faiss(rows, dim, k):
    generator = np.random.default_rng(0)
    embeddings, queries = unit_rows(generator, rows, dim), unit_rows(generator, 600, dim)
    index = faiss.IndexFlatIP(dim)
    index.add(embeddings)
    similarities, positions = index.search(queries, k)

    found = nearest(queries, shard(embeddings), k)

    agreeing = found.positions == positions
    assert agreeing.mean() > 0.999  # faiss rounds to float32, which changes the order of near ties
    np.testing.assert_allclose(found.similarities, similarities, atol=1e-6)


def test_near_ties_that_float32_cannot_tell_apart_are_told_apart():
    # Similarities are exactly 1 + j * 2**-22. The rounding error of a float32 sum of 64 such terms is larger.
    query = np.full((1, 64), 1 / 8, np.float32)
    rows = np.full((5000, 64), 1 / 8, np.float32)
    steps = np.random.default_rng(1).permutation(5000)
    rows[:, 0] += (steps * 2.0**-22).astype(np.float32)

    found = nearest(query, shard(rows), 7)

    assert found.positions[0].tolist() == np.argsort(-steps)[:7].tolist()


def test_equal_similarities_go_to_the_lower_position():
    rows = [[0, 1], [1, 0], [0, 1], [1, 0], [0, 1]]

    found = nearest([[0, 1]], shard(rows), 4)

    assert found.positions.tolist() == [[0, 2, 4, 1]]
    assert found.similarities.tolist() == [[1, 1, 1, 0]]


def test_a_query_that_is_zero_finds_the_first_rows():
    found = nearest([[0, 0]], shard([[0, 1], [1, 0], [0, 1]]), 2, own=[0])

    assert found.positions.tolist() == [[1, 2]]
    assert found.similarities.tolist() == [[0, 0]]


def test_a_row_that_is_the_query_is_left_out():
    found = nearest([[0, 1], [1, 0]], shard([[0, 1], [1, 0], [1, 1]]), 2, own=[0, -1])

    assert found.positions.tolist() == [[2, 1], [1, 2]]


def test_fewer_rows_than_k_leave_places_empty():
    found = nearest([[0, 1]], shard([[0, 1], [0, 2]], offset=10), 3)

    assert found.positions.tolist() == [[11, 10, NO_POSITION]]
    assert found.similarities.tolist() == [[2, 1, -np.inf]]


def test_shards_and_blocks_of_queries_change_no_bit():
    generator = np.random.default_rng(2)
    embeddings = unit_rows(generator, 3000, 16)
    embeddings[100:130] = embeddings[2000]
    queries = embeddings[50:700]
    whole = nearest(queries, shard(embeddings), 12)

    best = Nearest.none(300, 12)
    for start in (2000, 0, 1000):
        part = shard(embeddings[start : start + 1000], offset=start)
        best = merge_shard(queries[40:340], np.full(300, -1), part, best)

    assert best.positions.tolist() == whole.positions[40:340].tolist()
    assert best.similarities.tobytes() == whole.similarities[40:340].tobytes()


def test_rows_that_repeat_more_often_than_k_are_not_needed():
    rows, copies = [[0, 1]] * 5 + [[1, 0]], [0, 1, 2, 3, 4, 0]

    found = nearest([[0, 1]], shard(rows, copies=copies), 2, own=[1])

    assert found.positions.tolist() == [[0, 2]]


def test_values_whose_products_overflow_float32_are_compared_too():
    found = nearest([[1e30, 1e30]], shard([[1e30, -1e30], [1e30, 1e30], [2e30, 2e30]]), 2)

    assert found.positions.tolist() == [[2, 1]]


def test_candidates_from_lists_depend_on_no_other_query(tmp_path):
    generator = np.random.default_rng(3)
    embeddings = unit_rows(generator, 4000, 24)
    build_lists(embeddings, f"{tmp_path}/lists", seed=5)
    lists = read_lists(f"{tmp_path}/lists", "first")

    together = probe_lists(lists, embeddings[:200], 10, 4)
    alone = probe_lists(lists, embeddings[77:78], 10, 4)

    of_77 = together[1][together[0] == 77]
    assert of_77.tolist() == alone[1].tolist()
    assert of_77[0] == 77


def test_the_same_rows_and_seed_make_the_same_lists(tmp_path):
    embeddings = unit_rows(np.random.default_rng(4), 2000, 8)

    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build_lists(embeddings, f"{tmp_path}/{name}", seed=seed)

    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(("rows", "expected"), [(1, 1), (77, 1), (2000, 51), (65_536, 512)])
def test_lists_have_39_rows_at_least(rows, expected):
    assert count_lists(rows) == expected
