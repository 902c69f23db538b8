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
WITH_SHOWN = "all three and the product's rows (LR)"
FROZEN = ", counted up to week 45"
_SMOOTHING = 20.0  # rows at the mean rate


def baselines(source: Source, counts: PastCounts) -> dict[str, np.ndarray]:
    """Return the scores of the test rows of each baseline.

    Purchases are counted up to the week of the row, as every model sees them, and for comparison up to the start of the test.
    How often a product was shown tells much by the way in which negatives were drawn: in proportion to earlier buyers, so
    that a product with few buyers is hardly ever a negative. Models know this number, and the regression with it is the one
    to compare them with.

    Args:
        source: The data.
        counts: Counts of all impressions, up to the week of each.
    """
    rows = source.impressions
    split = split_of(rows.week)
    test, train = split == "test", split == "train"
    rate, shown = item_rate(rows, train)
    frozen = past_counts(source, rows[test], until=TEST_FROM)
    inputs = np.stack([rate, np.log1p(counts.bought), np.log1p(counts.of_type)], axis=1)
    with_shown = np.column_stack([inputs, np.log1p(shown)])
    label = rows.label.to_numpy()[train]
    model, with_shown_model = (LogisticRegression(max_iter=500).fit(x[train], label) for x in (inputs, with_shown))
    of_frozen = np.stack([rate[test], np.log1p(frozen.bought), np.log1p(frozen.of_type)], axis=1)
    return {
        RATE: rate[test],
        BOUGHT: counts.bought[test].astype(float),
        TYPE: counts.of_type[test].astype(float),
        ALL_THREE: model.decision_function(inputs[test]),
        WITH_SHOWN: with_shown_model.decision_function(with_shown[test]),
        BOUGHT + FROZEN: frozen.bought.astype(float),
        TYPE + FROZEN: frozen.of_type.astype(float),
        ALL_THREE + FROZEN: model.decision_function(of_frozen),
    }


def item_rate(rows: pd.DataFrame, is_train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return of each row's product the smoothed log-odds (N,) of its positive rate, and its number (N,) of train rows.

    Those of a train row leave out the row itself, because it would give the label away.

    Args:
        rows: ``product_id`` and ``label``, N rows.
        is_train: (N,) bool, True for the rows that are counted.
    """
    label, train = rows.label.to_numpy(), rows[is_train]
    of_product = train.groupby("product_id").label.agg(["sum", "size"])
    liked, shown = (rows.product_id.map(of_product[name]).fillna(0).to_numpy() for name in ("sum", "size"))
    liked, shown = liked - label * is_train, shown - is_train
    rate = (liked + _SMOOTHING * train.label.mean()) / (shown + _SMOOTHING)
    return np.log(rate / (1 - rate)), shown
