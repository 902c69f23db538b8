"""Rows of the table without a model: counts, and a logistic regression of them.

In: the data. Out: scores of the test rows by name. They need no job of the product, so that an error in the data is found
before hours of training.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from ranking_completejourney.past_counts import PastCounts, past_counts
from ranking_completejourney.source import TEST_FROM, Source, split_of

RATE, BOUGHT, TYPE, ALL_THREE = "the item's rate", "bought before", "household x product type", "all three (LR)"
FROZEN = ", counted up to week 45"
_SMOOTHING = 20.0  # rows at the mean rate


def baselines(source: Source, counts: PastCounts) -> dict[str, np.ndarray]:
    """Return the scores of the test rows of each baseline.

    The issue that described these data counted purchases up to the start of the test. A model, as a baseline of it, sees
    those up to the week of the row, which is more. Both are shown.

    Args:
        source: The data.
        counts: Counts of all impressions, up to the week of each.
    """
    rows = source.impressions
    split = split_of(rows.week)
    rate, test, train = item_rate(rows, split == "train"), split == "test", split == "train"
    frozen = past_counts(source, rows[test], until=TEST_FROM)
    inputs = np.stack([rate, np.log1p(counts.bought), np.log1p(counts.of_type)], axis=1)
    model = LogisticRegression(max_iter=500).fit(inputs[train], rows.label.to_numpy()[train])
    of_frozen = np.stack([rate[test], np.log1p(frozen.bought), np.log1p(frozen.of_type)], axis=1)
    return {
        RATE: rate[test],
        BOUGHT: counts.bought[test].astype(float),
        TYPE: counts.of_type[test].astype(float),
        ALL_THREE: model.decision_function(inputs[test]),
        BOUGHT + FROZEN: frozen.bought.astype(float),
        TYPE + FROZEN: frozen.of_type.astype(float),
        ALL_THREE + FROZEN: model.decision_function(of_frozen),
    }


def item_rate(rows: pd.DataFrame, is_train: np.ndarray) -> np.ndarray:
    """Return the smoothed log-odds (N,) of the positive rate of each row's product among the train rows.

    The rate of a train row leaves out the row itself, because it would give the label away.

    Args:
        rows: ``product_id`` and ``label``, N rows.
        is_train: (N,) bool, True for the rows that are counted.
    """
    label, train = rows.label.to_numpy(), rows[is_train]
    of_product = train.groupby("product_id").label.agg(["sum", "size"])
    liked, shown = (rows.product_id.map(of_product[name]).fillna(0).to_numpy() for name in ("sum", "size"))
    liked, shown = liked - label * is_train, shown - is_train
    rate = (liked + _SMOOTHING * train.label.mean()) / (shown + _SMOOTHING)
    return np.log(rate / (1 - rate))
