"""The sections of the settings that say what a ranking model trains on, and how.

In: nothing. Out: pydantic models that ``settings.Settings`` puts together. A new setting is one line here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from qarm_features.settings.sections import Section


class Behavior(Section):
    """What is kept of a user's past."""

    max_length: int = Field(50, ge=1, le=10_000, description="T, the latest positive items kept of a user.")
    impression_length: int = Field(
        50, ge=0, le=10_000, description="T2, the latest labeled impressions kept of a user; 0: none, and no counters."
    )


class Ranking(Section):
    """The reference ranking model and its training."""

    valid_share: float = Field(0.1, gt=0, lt=0.5, description="Share of the latest rows but test, for early stopping.")
    test_share: float = Field(0.1, gt=0, lt=0.5, description="Share of the latest rows of all, read once at the end.")
    valid_from: datetime | None = Field(
        None, description="Instead of the shares: when valid starts, ISO 8601, UTC unless it says otherwise."
    )
    test_from: datetime | None = Field(None, description="When test starts; set together with valid_from.")
    point_in_time: Literal["spark", "feast"] = Field(
        "spark",
        description="What joins features to impressions: Spark, or Feast's get_historical_features. Equal rows.",
    )
    epochs: int = Field(10, ge=1, description="Most epochs; training stops early on valid AUC.")
    batch_size: int = Field(1024, ge=1, description="Rows in a training batch.")
    learning_rate: float = Field(2e-3, gt=0, description="Learning rate of AdamW.")
    weight_decay: float = Field(1e-2, ge=0, description="Weight decay of AdamW; embedding tables have none.")
    patience: int = Field(2, ge=1, description="Epochs without a better valid AUC before training stops.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of MLP inputs and hidden units dropped in training.")
    variants: list[str] | dict[str, dict[str, Any] | None] = Field(
        ["item IDs", "item IDs + semantic IDs"],
        description="Models trained: names as +match, +nearest items, +EM3, all; or {name: switches of RankingConfig}.",
    )
    num_seeds: int = Field(1, ge=1, description="Models trained per variant, with seeds seed, seed + 1, ...")
    num_processes: int = Field(1, ge=1, description="Processes of TorchDistributor.")

    @field_validator("valid_from", "test_from")
    @classmethod
    def _in_utc(cls, moment: datetime | None):
        if moment is None:
            return None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    @model_validator(mode="after")
    def _one_split(self):
        if (self.valid_from is None) != (self.test_from is None):
            raise ValueError("valid_from and test_from: both of them must be set, or none")
        if self.valid_from is None:
            return self
        if self.valid_from >= self.test_from:
            raise ValueError(f"valid_from is {self.valid_from}, must be before test_from, {self.test_from}")
        if {"valid_share", "test_share"} & self.model_fields_set:
            raise ValueError("valid_share and test_share must not be set beside valid_from and test_from")
        return self
