"""What a household bought before the week of a row is counted.

In: purchases and rows. Out: numbers of earlier weeks. Repeat purchase is strong in groceries, so that every model gets these
counts as inputs, and what a table measures is content.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from ranking_completejourney.source import Source


class PastCounts(NamedTuple):
    """Counts of N rows, strictly before the week of each row.

    Attributes:
        bought: (N,) int64 weeks in which the household bought the product.
        of_type: (N,) int64 weeks in which it bought a product of the same type.
    """

    bought: np.ndarray
    of_type: np.ndarray


def past_counts(source: Source, rows: pd.DataFrame, *, until: int | None = None) -> PastCounts:
    """Count the past purchases of the household and the product of each row.

    Args:
        source: The data.
        rows: ``household_id``, ``product_id`` and ``week``.
        until: Week from which on purchases are not counted for any row; None counts all up to the week of the row.
    """
    type_of = source.items.set_index("product_id").product_type
    purchases = source.purchases if until is None else source.purchases[source.purchases.week < until]
    typed = purchases[["household_id", "week"]].assign(product_type=purchases.product_id.map(type_of))
    typed_rows = rows[["household_id", "week"]].assign(product_type=rows.product_id.map(type_of))
    return PastCounts(
        earlier_weeks(purchases, rows, ["household_id", "product_id"]),
        earlier_weeks(typed, typed_rows, ["household_id", "product_type"]),
    )


def earlier_weeks(events: pd.DataFrame, rows: pd.DataFrame, keys: list[str]) -> np.ndarray:
    """Return (N,) int64, for each row the number of weeks before its own with an event of its keys.

    Args:
        events: ``keys`` and ``week``.
        rows: ``keys`` and ``week``, N rows.
        keys: Names of the columns that must be equal.
    """
    so_far = events[[*keys, "week"]].drop_duplicates().sort_values("week")
    so_far["earlier"] = so_far.groupby(keys).cumcount() + 1
    wanted = rows[[*keys, "week"]].assign(place=np.arange(len(rows))).sort_values("week", kind="stable")
    found = pd.merge_asof(wanted, so_far, on="week", by=keys, allow_exact_matches=False)
    counts = np.zeros(len(rows), np.int64)
    counts[found.place.to_numpy()] = found.earlier.fillna(0).to_numpy()
    return counts
