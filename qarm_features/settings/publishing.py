"""The section ``publishing`` of the settings: what goes online beside semantic IDs, and how carefully.

In: nothing. Out: pydantic models that ``settings.Settings`` puts together. A new setting is one line here.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from qarm_features.settings.sections import Section, Source


class UserEmbeddings(Source):
    """Vectors of users, of your own model, and the names of their columns."""

    user_id: str = Field("user_id", description="Column of the user ID, of the same type as in interactions.")
    embedding: str = Field("embedding", description="Column of the vectors: arrays of numbers of one length.")
    event_timestamp: str = Field("event_timestamp", description="Column of the time from which a vector holds.")

    @model_validator(mode="after")
    def _holds_arrays(self):
        if self.resolved_format == "csv":
            raise ValueError("format is csv, must be parquet, delta, jsonl or a table: a vector is an array")
        return self


class Publishing(Section):
    """Publishing a release."""

    verify_items: int = Field(2_000, ge=1, description="Items read back and compared before a release is flipped to.")
    lease_seconds: float = Field(
        30.0, ge=1, description="A publisher that was killed keeps the next one waiting at most this long."
    )
    keys_per_second: int = Field(
        100_000, ge=1, description="Keys of Redis looked at in a second, when a release is counted or retired."
    )
    publisher: str | None = Field(None, description="Your name in the releases' records; none: the login name.")
    embeddings: bool = Field(False, description="Also publish item embeddings, as item_embedding__enc<version>.")
    nearest_items: bool = Field(False, description="Also publish VQ codes, as item_nearest_items__bank<version>.")
    user_embeddings: UserEmbeddings | None = Field(
        None,
        description="Vectors of users to publish: {path: ..., user_id: ..., embedding: ..., event_timestamp: ...}.",
    )
