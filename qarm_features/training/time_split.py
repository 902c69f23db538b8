"""The log is cut by time into train, valid and test, at the same moments for every stage that must not see the future.

In: ``interactions``. Out: two moments, those of the settings or at full hours: valid starts at the first, test at the second.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.settings.ranking import Ranking

_HOUR = 3600
SPLIT_SETTINGS = ("ranking.valid_share", "ranking.test_share", "ranking.valid_from", "ranking.test_from")


def split_moments(interactions: DataFrame, ranking: Ranking) -> tuple[datetime, datetime]:
    """Returns when valid and test start: as the settings say, else where their shares begin."""
    if ranking.valid_from is not None:
        return ranking.valid_from, ranking.test_from
    return time_cuts(interactions, valid_share=ranking.valid_share, test_share=ranking.test_share)


def time_cuts(interactions: DataFrame, *, valid_share: float, test_share: float) -> tuple[datetime, datetime]:
    """Returns when valid and test start.

    Cut at full hours, so that the exact percentiles need memory by hours of the log, not by its rows.

    Args:
        interactions: ``event_timestamp``, at least one row.
        valid_share: Share of the latest rows but test, in (0, 1).
        test_share: Share of the latest rows, in (0, 1).

    Raises:
        ValueError: There is no row.
    """
    hour = F.floor(F.unix_seconds("event_timestamp") / _HOUR)
    cuts = F.percentile(hour, [1 - valid_share - test_share, 1 - test_share]).alias("cuts")
    found = interactions.agg(cuts).first()["cuts"]
    if found is None:
        raise ValueError("Table interactions has 0 rows, must have some. Run: qarm ingest-catalog")
    valid_from, test_from = (math.ceil(cut) * _HOUR for cut in found)
    return datetime.fromtimestamp(valid_from, UTC), datetime.fromtimestamp(test_from, UTC)
