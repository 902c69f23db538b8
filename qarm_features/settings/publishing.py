"""The section ``publishing`` of the settings: what goes online beside semantic IDs, and how it is verified.

In: nothing. Out: pydantic models that ``Settings`` puts together. A new setting is one line here; its description becomes
the comment in ``qarm.yaml``.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from qarm_features.settings.section import Section
from qarm_features.settings.sources import Source


class UserEmbeddings(Source):
    """User vectors of the user's own model, and the names of their columns."""

    user_id: str = Field("user_id", description="Column of the user ID, which has the same type as in interactions.")
    embedding: str = Field(
        "embedding", description="Column of the vectors, which are arrays of numbers of the same length."
    )
    event_timestamp: str = Field("event_timestamp", description="Column of the time from which a vector is valid.")

    @model_validator(mode="after")
    def _holds_arrays(self) -> Self:
        if self.resolved_format == "csv":
            raise ValueError("format is csv, must be parquet, delta or jsonl, because a vector is an array")
        return self


class Publishing(Section):
    """Publishing a release."""

    verify_items: int = Field(
        2_000,
        ge=1,
        description="Number of items that are read back and compared before readers get a release, at least 1.",
    )
    lease_seconds: float = Field(
        30.0,
        ge=1,
        description="Longest time in seconds that a publisher waits for one that was killed, at least 1.",
    )
    keys_per_second: int = Field(
        100_000,
        ge=1,
        description="Highest number of Redis keys read per second while a release is counted or retired, at least 1.",
    )
    release_retention_days: int = Field(
        3_650,
        ge=7,
        description="Days for which tables that releases name keep their earlier Delta versions, at least 7. A release is "
        "read from the version that it names.",
    )
    publisher: str | None = Field(
        None, description="Name of the publisher in the records of releases; null uses the login name."
    )
    embeddings: bool = Field(
        False, description="Whether to publish item embeddings as the view item_embedding__enc<version>."
    )
    nearest_items: bool = Field(
        False, description="Whether to publish VQ codes as the view item_nearest_items__bank<version>."
    )
    user_embeddings: UserEmbeddings | None = Field(
        None,
        description="User vectors to publish: {path: ..., user_id: ..., embedding: ..., event_timestamp: ...}; null "
        "publishes none.",
    )
