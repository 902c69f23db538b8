"""The log is cut by time into train, valid and test. All stages that must not see the future use the same moments.

In: ``interactions``. Out: the moment at which valid starts and the moment at which test starts. The settings give both, or
they are full hours computed from the shares of rows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.settings.ranking import Ranking

_HOUR = 3600
SPLIT_SETTINGS = ("ranking.valid_share", "ranking.test_share", "ranking.valid_from", "ranking.test_from")


def split_moments(interactions: DataFrame, ranking: Ranking) -> tuple[datetime, datetime]:
    """Return the moments at which valid and test start: those of the settings, else the ones that give the shares.

    Args:
        interactions: Column ``event_timestamp``. It is read only if the settings give shares.
        ranking: Section ``ranking`` of the settings.
    """
    if ranking.valid_from is not None:
        assert ranking.test_from is not None  # the settings demand both moments or none
        return ranking.valid_from, ranking.test_from
    return time_cuts(interactions, valid_share=ranking.valid_share, test_share=ranking.test_share)


def time_cuts(interactions: DataFrame, *, valid_share: float, test_share: float) -> tuple[datetime, datetime]:
    """Return the moments at which valid and test start, so that they hold given shares of the rows.

    The log is cut at full hours. The exact percentiles then need memory for the hours of the log, not for its rows.

    Args:
        interactions: Column ``event_timestamp``, at least one row.
        valid_share: Share of the rows just before test, in (0, 1).
        test_share: Share of the latest rows, in (0, 1).

    Raises:
        ValueError: There is no row.
    """
    hour = F.floor(F.unix_seconds("event_timestamp") / _HOUR)
    cuts = F.percentile(hour, [1 - valid_share - test_share, 1 - test_share]).alias("cuts")
    row = interactions.agg(cuts).first()
    if row is None or row["cuts"] is None:
        raise ValueError("Table interactions has 0 rows, must have at least 1. Run: qarm ingest-catalog")
    valid_from, test_from = (math.ceil(cut) * _HOUR for cut in row["cuts"])
    return datetime.fromtimestamp(valid_from, UTC), datetime.fromtimestamp(test_from, UTC)


def require_both_labels(labels: Mapping[str, Collection[int]]) -> None:
    """Raise an error if the training of a ranking model could not be stopped on the valid rows.

    Args:
        labels: Distinct labels of the rows of each split; a split without rows is missing.

    Raises:
        ValueError: A split has no rows, or the valid split has one label only.

    Example:
        >>> require_both_labels({"train": [0, 1], "valid": [0, 1], "test": [1]})
    """
    move = "move the split with ranking.valid_share and ranking.test_share, or valid_from and test_from"
    for split in ("train", "valid", "test"):
        if not labels.get(split):
            raise ValueError(f"The {split} split of training_rows has 0 rows, must have at least 1. Do this: {move}.")
    if len(labels["valid"]) == 1:
        raise ValueError(
            f"The valid split of training_rows has label {next(iter(labels['valid']))} only, must have labels 0 and 1. "
            f"Set interactions.label and interactions.positive_from so that the log has both labels, or {move}. "
            "Semantic IDs need no labels: qarm run --until publish-features."
        )
