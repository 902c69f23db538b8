"""The pages of a sample of users: what they liked, and what a ranking model makes of items that they were shown.

In: ``user_behavior``, ``training_rows`` of a release, and its newest ranking model. Out: one ``UserRow`` per user. A
candidate is an impression with the features that it had at its time, so that no behavior after it explains it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.explorer.computing.scores import no_scores, scorer_of
from qarm_features.explorer.schema import UserRow
from qarm_features.feature_store.views.feature_views import Release
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import TRAINING_ROWS, USER_BEHAVIOR
from qarm_features.storage.warehouse import Warehouse

_BEHAVIORS, _CANDIDATES, _MATCHED = 50, 20, 5


class UserPages(NamedTuple):
    """The users with a page.

    Attributes:
        rows: The users, at most ``explorer.users``.
        model: Name of the ranking model that scored; "" where there is none.
    """

    rows: list[UserRow]
    model: str


def user_pages(warehouse: Warehouse, release: Release, *, settings: Settings) -> UserPages:
    """Make the pages of a sample of users by hash.

    Args:
        warehouse: The tables.
        release: The release.
        settings: Settings of the project.
    """
    behavior = warehouse.read_or_empty(USER_BEHAVIOR)
    users = sampled_users(behavior, most=settings.explorer.users, seed=settings.seed).persist()
    try:
        liked = _latest_behavior(behavior, users)
        impressions = warehouse.read_or_empty(TRAINING_ROWS)
        impressions = impressions.where(F.col("codebook_version") == release.codebook_version)
        shown = _latest_impressions(impressions, users)
        scorer = scorer_of(settings.artifacts_path, release) or no_scores()
        candidates: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row, score in scorer.scored(shown):
            candidates[str(row["user_id"])].append(_candidate(row, score, release.num_levels))
    finally:
        users.unpersist()
    rows = [
        UserRow(user_id, moments, sorted(candidates[user_id], key=_highest_first))
        for user_id, moments in sorted(liked.items())
    ]
    return UserPages(rows, scorer.name)


def sampled_users(behavior: DataFrame, *, most: int, seed: int) -> DataFrame:
    """Return the ``user_id`` of at most ``most`` users with behavior, those with the smallest hash of their ID.

    Args:
        behavior: Rows of ``user_behavior``.
        most: Highest number of users, at least 0.
        seed: Seed of the hash.
    """
    users = behavior.select("user_id").distinct()
    return users.orderBy(F.xxhash64(F.lit(seed), "user_id"), "user_id").limit(most)


def shared_levels(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the number of first codes that each of T items shares with one, (T,), from 0 to L.

    Args:
        codes: (L,) codes of the item.
        others: (T, L) codes of the items; -1 where an item has none.

    Example:
        >>> shared_levels(np.array([3, 8]), np.array([[3, 8], [3, 1], [0, 8]])).tolist()
        [2, 1, 0]
    """
    return np.cumprod(others == codes, axis=1).sum(axis=1)


def _latest_behavior(behavior: DataFrame, users: DataFrame) -> dict[str, list[tuple[str, str]]]:
    """Return times and item IDs of the latest positives of each sampled user, the latest first."""
    latest = F.max_by(F.struct("behavior_item_ids", "behavior_timestamps"), "event_timestamp").alias("latest")
    rows = behavior.join(users, on="user_id", how="left_semi").groupBy("user_id").agg(latest)
    return {
        str(row["user_id"]): [
            (datetime.fromtimestamp(seconds, UTC).isoformat(), str(item_id))
            for item_id, seconds in reversed(list(zip(*row["latest"]))[-_BEHAVIORS:])
        ]
        for row in rows.toLocalIterator()
    }


def _latest_impressions(impressions: DataFrame, users: DataFrame) -> DataFrame:
    """Return the latest training rows of each sampled user, whose sequences are bounded by the settings."""
    latest = Window.partitionBy("user_id").orderBy(F.desc("event_timestamp"), F.xxhash64("item_id"), "item_id")
    rows = impressions.join(users, on="user_id", how="left_semi").withColumn("rank", F.row_number().over(latest))
    return rows.where(F.col("rank") <= _CANDIDATES).drop("rank")


def _candidate(row: Any, score: float | None, num_levels: int) -> dict[str, Any]:
    """Return a candidate with IDs in place of items."""
    behavior = [str(item_id) for item_id in row["behavior_item_ids"] or []]
    matched: Sequence[str] = ()
    matches = [0] * num_levels
    if row["item_codes"] and behavior:
        shared = shared_levels(np.array(row["item_codes"]), np.array(row["behavior_codes"]).reshape(-1, num_levels))
        matches = [int((shared > level).sum()) for level in range(num_levels)]
        # Of equal matches the later behavior comes first, and an item that was liked twice stands once.
        best = sorted(np.flatnonzero(shared), key=lambda place: (-shared[place], -place))
        matched = list(dict.fromkeys(behavior[place] for place in best))[:_MATCHED]
    return {
        "item": str(row["item_id"]),
        "score": score,
        "label": row["label"],
        "matches": matches,
        "matched": list(matched),
    }


def _highest_first(candidate: dict[str, Any]) -> tuple[float, str]:
    score = candidate["score"]
    return (0.0 if score is None else -score, candidate["item"])
