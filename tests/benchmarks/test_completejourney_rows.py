"""Histories that are not a household's past are refused, and impressions get the history of their week."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from ranking_completejourney.past_counts import PastCounts
from ranking_completejourney.rows import Histories, LeakError, RowsWithCodes, impression_rows, require_no_leak
from ranking_completejourney.source import moment

from qarm_features.ranking import ItemVocabulary

VOCABULARY = ItemVocabulary([70, 80, 90])  # indexes 1, 2, 3


def log(*rows: tuple) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=["user_id", "item_id", "week", "label"])
    return frame.assign(event_timestamp=moment(frame.week))


LOG = log((1, 70, 3, 1), (1, 80, 4, 1), (1, 90, 4, 0), (1, 90, 50, 1), (2, 70, 50, 0))


def histories() -> Histories:
    """The histories of the rows of LOG, of at most two purchases."""
    return Histories(
        keys=LOG,
        items=torch.tensor([[0, 0], [1, 0], [1, 0], [1, 2], [0, 0]], dtype=torch.int32),
        length=np.array([0, 1, 1, 2, 0]),
        youngest=np.array([np.inf, 7.0, 7.0, 322.0, np.inf], np.float32),
    )


def test_histories_of_earlier_weeks_are_accepted_in_any_unit_of_time():
    require_no_leak(histories(), LOG)
    require_no_leak(histories(), LOG.assign(event_timestamp=LOG.event_timestamp.astype("datetime64[us, UTC]")))


def test_a_history_with_a_purchase_of_the_own_visit_is_refused():
    own = histories()._replace(youngest=np.array([np.inf, 0.0, 7.0, 322.0, np.inf], np.float32))

    with pytest.raises(
        LeakError, match=r"A history holds a purchase that is 0\.00 days older than its row, must be at"
    ):
        require_no_leak(own, LOG)


@pytest.mark.parametrize("length", [0, 2])
def test_a_history_that_lacks_or_adds_a_purchase_is_refused(length):
    changed = histories()._replace(length=np.array([0, 1, length, 2, 0]))

    with pytest.raises(LeakError, match=f"1 histories have another length .* the first {length} instead of 1"):
        require_no_leak(changed, LOG)


def test_an_impression_in_each_of_two_stores_has_the_history_of_its_household_and_week():
    columns = ["household_id", "store_id", "week", "product_id", "label"]
    shown = pd.DataFrame([(2, 5, 50, 70, 0), (1, 5, 50, 90, 1), (1, 6, 50, 90, 1), (1, 5, 4, 90, 0)], columns=columns)
    counts = PastCounts(bought=np.array([0, 3, 3, 0]), of_type=np.array([1, 4, 4, 2]))

    rows = impression_rows(shown, counts, histories(), VOCABULARY)

    assert rows["train"].behavior_index.tolist() == [[1, 0]]
    assert len(rows["valid"].label) == 0
    test = rows["test"]
    assert test.item_index.tolist() == [1, 3, 3]
    assert test.behavior_index.tolist() == [[0, 0], [1, 2], [1, 2]]
    assert test.behavior_mask.tolist() == [[False, False], [True, True], [True, True]]
    assert test.label.tolist() == [0, 1, 1]
    assert test.user_group.tolist() == [2, 1, 1]
    assert test.counters.tolist() == [[0, 1, 0, 0], [3, 4, 0, 0], [3, 4, 0, 0]]


@pytest.mark.parametrize(("product", "label"), [(80, 0), (90, 0)])
def test_an_impression_without_a_training_row_of_its_label_is_refused(product, label):
    shown = pd.DataFrame(
        [(1, 5, 50, product, label)], columns=["household_id", "store_id", "week", "product_id", "label"]
    )

    with pytest.raises(ValueError, match="no training row, or one with another label"):
        impression_rows(shown, PastCounts(np.zeros(1, int), np.zeros(1, int)), histories(), VOCABULARY)


@pytest.mark.parametrize("with_behaviors", [True, False])
def test_codes_are_looked_up_by_item_and_missing_where_there_is_no_item(with_behaviors):
    columns = ["household_id", "store_id", "week", "product_id", "label"]
    shown = pd.DataFrame([(1, 5, 50, 90, 1), (1, 5, 4, 90, 0)], columns=columns)
    rows = impression_rows(shown, PastCounts(np.zeros(2, int), np.zeros(2, int)), histories(), VOCABULARY)
    codes = torch.tensor([[-1, -1], [0, 1], [2, 3], [4, 5]])

    (batch,) = RowsWithCodes(rows["test"], codes, with_behaviors=with_behaviors, batch_size=8)

    assert batch.item_codes.tolist() == [[4, 5]]
    assert batch.behavior_index.dtype == torch.int64
    assert batch.behavior_codes.tolist() == ([[[0, 1], [2, 3]]] if with_behaviors else [[[], []]])
