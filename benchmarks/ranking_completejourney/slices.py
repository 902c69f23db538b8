"""The rows of a split are sorted into slices: new products, products with few rows, products never bought, and so on.

In: rows and what is known of train. Out: a mask per slice.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from qarm_features.ranking.data.popularity import FEW, popularity_limits
from ranking_completejourney.source import split_of

SLICES = ("all", "new products", "at most 5 rows", "never bought", "new households", "head", "torso", "tail")


def slices_of_test(impressions: pd.DataFrame, bought: np.ndarray) -> dict[str, np.ndarray]:
    """Return the test rows (N,) bool of each slice.

    Args:
        impressions: Rows of all splits.
        bought: Number of earlier weeks in which the household bought the product, of each of them.
    """
    split = split_of(impressions.week)
    tested, trained = (impressions[split == name] for name in ("test", "train"))
    return slices_of(tested, trained, bought=bought[split == "test"])


def slices_of(rows: pd.DataFrame, train: pd.DataFrame, *, bought: np.ndarray) -> dict[str, np.ndarray]:
    """Return the rows (N,) bool of each slice.

    Head, torso and tail hold the products of the first 25%, the next 50% and the last 25% of the train rows, the most shown
    first. The three hold no new products.

    Args:
        rows: ``household_id`` and ``product_id``, N rows.
        train: The same of all train rows.
        bought: (N,) number of earlier weeks in which the household bought the product.
    """
    shown_in_train = train.product_id.value_counts()
    shown = rows.product_id.map(shown_in_train).fillna(0).to_numpy(np.int64)
    head_from, torso_from = popularity_limits(*np.unique(shown_in_train.to_numpy(), return_counts=True))
    masks = (
        np.ones(len(rows), bool),
        shown == 0,
        shown <= FEW,
        bought == 0,
        ~rows.household_id.isin(train.household_id).to_numpy(),
        shown >= head_from,
        (shown >= torso_from) & (shown < head_from),
        (shown > 0) & (shown < torso_from),
    )
    return dict(zip(SLICES, masks))
