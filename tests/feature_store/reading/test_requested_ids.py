"""IDs of a request are read as ingest reads IDs. A missing one is served as not found, and never as another item."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch

from qarm_features.feature_store.reading.reader import SemanticIDReader
from tests.feature_store.stock_store import stock_store

NUMBERS = {10: [1, 0], 7: [0, 7], 2**53 + 1: [5, 5]}
NAMES = {"10": [1, 0], "7": [0, 7], "10.0": [2, 2], "film é": [3, 3], "50": [6, 6], "5": [7, 7], "0": [7, 8]}
BEHAVIORS = {7: ([10, 7], [100, 200])}
SHOWN = {"impressions": {7: ([7], [1], [100], 1, 2)}, "counters": {10: (4, 6)}}
MISSING = [None, math.nan, np.float32("nan"), pd.NA, pd.NaT, Decimal("nan"), "", "  ", "None", "nan", "NULL"]


@pytest.fixture(params=["sqlite", "redis"])
def online_store(request, tmp_path):
    """The section ``online_store`` of ``feature_store.yaml``."""
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        return {"type": "redis", "connection_string": server.connection_string, "skip_dedup": True}
    return {"type": "sqlite", "path": str(tmp_path / "online.db")}


@pytest.fixture
def numbers(tmp_path, online_store):
    """A reader of items with integer IDs, and of user 7."""
    stock_store(tmp_path, online_store, NUMBERS, BEHAVIORS, **SHOWN)
    return SemanticIDReader(tmp_path / "feature_repo", cache_items=5)


@pytest.fixture
def names(tmp_path, online_store):
    """A reader of items with string IDs."""
    stock_store(tmp_path, online_store, NAMES)
    return SemanticIDReader(tmp_path / "feature_repo")


def test_an_integer_id_is_found_in_every_form(numbers):
    forms = [10, np.int8(10), np.int64(10), 10.0, np.float32(10), Decimal("10.00"), "10", " 10\t", "+10", "10.0", "010"]

    assert numbers.item_codes(forms).codes.tolist() == [[1, 0]] * len(forms)
    for array in (
        np.array([10, 7]),
        np.array([10.0, 7.0]),
        torch.tensor([10, 7]),
        torch.tensor([10.0, 7.0]),
        ("10", 7),
    ):
        assert numbers.item_codes(array).codes.tolist() == [[1, 0], [0, 7]]


def test_a_string_id_is_found_in_every_form(names):
    forms = ["10", " 10 ", "\u00a010\r\n", np.str_("10"), 10, np.int64(10), 10.0, Decimal(10)]

    assert names.item_codes(forms).codes.tolist() == [[1, 0]] * len(forms)
    assert names.item_codes(["10.0", " film é "]).codes.tolist() == [[2, 2], [3, 3]]  # text stays as it is
    assert names.item_codes(np.array(["10", "7"])).codes.tolist() == [[1, 0], [0, 7]]


def test_one_missing_candidate_fails_no_request(numbers):
    asked = [10, *MISSING, 7, 2**63, -(2**63) - 1, 10]

    for _ in range(2):  # the second one from the cache
        batch = numbers.item_codes(asked)

        assert batch.found.tolist() == [True, *[False] * len(MISSING), True, False, False, True]
        assert batch.codes.tolist() == [[1, 0], *[[-1, -1]] * len(MISSING), [0, 7], [-1, -1], [-1, -1], [1, 0]]
    assert numbers.item_codes([None]).codes.tolist() == [[-1, -1]]


def test_a_missing_name_is_not_found(names):
    batch = names.item_codes(["7", *MISSING])

    assert batch.found.tolist() == [True, *[False] * len(MISSING)]


def test_a_missing_user_or_candidate_has_no_history_and_no_counters(numbers):
    unknown = numbers.user_and_candidates(None, [10, None], max_impressions=3)
    known = numbers.user_and_candidates("7", [None, 10.0], max_impressions=3)

    assert unknown.behavior.mask.shape == (1, 0)
    assert unknown.impressions.mask.shape == (1, 0)
    assert unknown.candidates.found.tolist() == [True, False]
    assert unknown.counters.tolist() == [[0, 0, 4, 6], [0, 0, 0, 0]]
    assert known.behavior.item_ids.tolist() == [[10, 7]]
    assert known.counters.tolist() == [[1, 2, 0, 0], [1, 2, 4, 6]]
    assert numbers.behavior_codes([None, 7.0, ""]).mask.tolist() == [[False, False], [True, True], [False, False]]


@pytest.mark.parametrize(
    "wrong",
    [
        10.5,
        True,
        np.bool_(True),
        b"10",
        [10],
        "abc",
        "1e3",
        "0x10",
        "1_0",
        chr(0x667),
        math.inf,
        2.0**53,
        "9007199254740993.0",
    ],
)
def test_what_cannot_be_an_integer_id_is_named(numbers, wrong):
    with pytest.raises(TypeError, match="item_ids holds .*, must be integers as in the catalog"):
        numbers.item_codes([10, wrong])


@pytest.mark.parametrize("wrong", [10.5, True, b"10", [10], 2.0**53])
def test_what_cannot_be_a_string_id_is_named(names, wrong):
    with pytest.raises(TypeError, match="item_ids holds .*, must be strings as in the catalog"):
        names.item_codes(["10", wrong])


def test_a_float_that_has_lost_digits_is_never_another_item(numbers):
    lost = float(2**53 + 1)  # is 2**53
    assert numbers.item_codes([2**53 + 1]).codes.tolist() == [[5, 5]]
    for ids in ([lost], np.array([lost]), np.array([2.0**24], np.float32), torch.tensor([2.0**24])):
        with pytest.raises(TypeError, match="must be integers as in the catalog"):
            numbers.item_codes(ids)


def test_one_text_is_not_a_list_of_letters(names):
    with pytest.raises(TypeError, match="item_ids is '50', must be a list of IDs. Put the ID into a list."):
        names.item_codes("50")
    with pytest.raises(TypeError, match=r"item_ids has shape \(1, 2\), must have one dimension"):
        names.item_codes(np.array([["50", "5"]]))
