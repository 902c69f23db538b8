"""The cache of codes has a fixed size and holds one release, and never returns codes of another."""

from __future__ import annotations

import random

import numpy as np

from qarm_features.feature_store.reading.code_cache import CodeCache

OLD, NEW = ("cb0",), ("cb1",)


def held(cache, release, *item_ids):
    return cache.get(release, list(item_ids), 2)[1].tolist()


def test_what_was_put_is_there_and_the_rest_is_minus_1():
    cache = CodeCache(3)
    held(cache, OLD)

    cache.put(OLD, [5, 6], np.array([[1, 2], [3, 4]]))

    codes, there = cache.get(OLD, [6, 7, 5], 2)
    assert codes.tolist() == [[3, 4], [-1, -1], [1, 2]]
    assert there.tolist() == [True, False, True]


def test_the_items_asked_for_longest_ago_make_room():
    cache = CodeCache(2)
    held(cache, OLD)
    cache.put(OLD, [1, 2], np.array([[1, 1], [2, 2]]))
    assert held(cache, OLD, 1) == [True]

    cache.put(OLD, [3], np.array([[3, 3]]))

    assert held(cache, OLD, 1, 2, 3) == [True, False, True]


def test_another_release_empties_the_cache_and_a_late_row_of_the_old_one_is_not_kept():
    cache = CodeCache(2)
    held(cache, OLD)
    cache.put(OLD, [1], np.array([[1, 1]]))

    assert held(cache, NEW, 1) == [False]
    cache.put(OLD, [1], np.array([[1, 1]]))
    assert held(cache, NEW, 1) == [False]


def test_a_batch_larger_than_the_cache_leaves_its_last_items():
    cache = CodeCache(2)
    held(cache, OLD)

    cache.put(OLD, [1, 2, 3], np.array([[1, 1], [2, 2], [3, 3]]))

    assert held(cache, OLD, 1, 2, 3) == [False, True, True]


def test_it_holds_what_a_list_in_order_of_use_would_hold():
    cache, order, choose = CodeCache(5), [], random.Random(0)
    held(cache, OLD)
    for _ in range(2_000):
        item = choose.randrange(12)
        codes, (there,) = cache.get(OLD, [item], 2)

        assert there == (item in order)
        assert codes.tolist() == [[item, -item] if there else [-1, -1]]

        cache.put(OLD, [item], np.array([[item, -item]]))
        order = [*(other for other in order if other != item), item][-5:]
