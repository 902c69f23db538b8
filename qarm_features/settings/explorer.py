"""The section ``explorer`` of the settings: how much of a release its explorer holds.

In: nothing. Out: a pydantic model that ``Settings`` puts together. A new setting is one line here; its description becomes
the comment in ``qarm.yaml``.
"""

from __future__ import annotations

from pydantic import Field

from qarm_features.settings.section import Section


class ExplorerData(Section):
    """How much of a release its explorer holds."""

    max_items: int = Field(
        1_000_000,
        ge=1,
        description="Approximate highest number of items, sampled by hash, that the explorer shows, at least 1; sizes of "
        "prefixes always count the whole catalog.",
    )
    map_items: int = Field(
        20_000,
        ge=0,
        le=100_000,
        description="Highest number of items, sampled by hash, on the map, from 0 to 100000; 20,000 take about two minutes.",
    )
    users: int = Field(
        1_000, ge=0, le=10_000, description="Highest number of users, sampled by hash, with a page, from 0 to 10000."
    )
    picture_side: int = Field(
        128,
        ge=0,
        le=512,
        description="Longest side in pixels of the small pictures of items, from 0 to 512; 0 leaves pictures out.",
    )
    kept_versions: int = Field(
        3, ge=1, description="Number of explorers that are kept, at least 1; building a new one deletes older ones."
    )
