"""A made-up grocery chain in the form of the three files: households that buy some products again and again."""

from __future__ import annotations

import numpy as np
import pandas as pd
from ranking_completejourney.source import Source

HOUSEHOLDS, PRODUCTS, TYPES, WEEKS = 30, 24, 6, 53
_FIRST_DAY = pd.Timestamp("2016-12-26T05:00")


def toy_source(*, seed: int = 0) -> Source:
    """Returns 53 weeks: each week a household buys three of its eight usual products and is shown three others."""
    rng = np.random.default_rng(seed)
    usual = {household: rng.choice(PRODUCTS, 8, replace=False) for household in range(HOUSEHOLDS)}
    bought, shown = [], []
    for week in range(1, WEEKS + 1):
        for household, products in usual.items():
            basket = rng.choice(products, 3, replace=False)
            others = rng.choice(np.setdiff1d(np.arange(PRODUCTS), basket), 3, replace=False)
            for place, product in enumerate(basket):
                time = _FIRST_DAY + pd.Timedelta(days=7 * (week - 1) + 1 + place, minutes=int(household))
                bought.append((household, product, week, time))
            # The second product is met in two stores, and the third is bought without an exposure.
            shown += [(household, 1, week, basket[0], 1), (household, 1, week, basket[1], 1)]
            shown += [(household, 2, week, basket[1], 1)]
            shown += [(household, 1, week, other, 0) for other in others]
    purchases = pd.DataFrame(bought, columns=["household_id", "product_id", "week", "transaction_timestamp"])
    impressions = pd.DataFrame(shown, columns=["household_id", "store_id", "week", "product_id", "label"])
    kinds = [f"kind {product % TYPES}" for product in range(PRODUCTS)]
    items = pd.DataFrame({
        "product_id": np.arange(PRODUCTS),
        "title": [f"{kind}, pack {product}" for product, kind in enumerate(kinds)],
        "department": "GROCERY",
        "product_category": kinds,
        "product_type": kinds,
    })  # fmt: skip
    return Source(items, purchases, impressions)
