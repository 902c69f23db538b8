"""The section ``monitor`` of the settings: the limits of ``qarm monitor``.

In: nothing. Out: a pydantic model that ``Settings`` puts together. A new setting is one line here; its description becomes
the comment in ``qarm.yaml``.
"""

from __future__ import annotations

from pydantic import Field

from qarm_features.settings.section import Section
from qarm_features.settings.sources import ServedScores


class Monitor(Section):
    """Limits of qarm monitor, which ends with exit code 1 past one of them."""

    min_items: int = Field(
        100,
        ge=1,
        description="Number of items, at least 1, that must have come since the fit before their codes are judged.",
    )
    max_error_ratio: float = Field(
        1.25,
        ge=1,
        description="Highest error of the new items' codes, at least 1, as a multiple of that of the items of the fit.",
    )
    max_psi: float = Field(
        0.2,
        gt=0,
        description="Highest population stability index, above 0, of the new items beyond what chance gives; 0.2 is usual.",
    )
    max_new_ids: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Highest share of new items, from 0 to 1, with a semantic ID that no item of the fit has, beyond the "
        "share that is expected of items like those of the fit.",
    )
    max_unseen: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Highest share of the log's latest rows, from 0 to 1, whose item the promoted release lacks.",
    )
    log_days: int = Field(
        7, ge=1, description="Number of the log's last days that count as its latest rows, at least 1."
    )
    scores: ServedScores | None = Field(
        None, description="Scores that a ranking model gave in production; null compares none."
    )
    max_score_psi: float = Field(
        0.2,
        gt=0,
        description="Highest population stability index, above 0, of the scores of the last log_days days beside the earlier "
        "ones, beyond what chance gives.",
    )
