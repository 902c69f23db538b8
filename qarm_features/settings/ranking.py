"""The sections of the settings about behavior sequences and the ranking model: names, ranges and defaults.

In: nothing. Out: pydantic models that ``Settings`` puts together. A new setting is one line here; its description becomes
the comment in ``qarm.yaml``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from qarm_features.settings.section import Section


class Behavior(Section):
    """How much of a user's past is stored."""

    max_length: int = Field(
        50, ge=1, le=10_000, description="Number T of latest positive items stored per user, from 1 to 10000."
    )
    impression_length: int = Field(
        50,
        ge=0,
        le=10_000,
        description="Number T2 of latest labeled impressions stored per user, from 0 to 10000; 0 also leaves out the item "
        "counters.",
    )


class Ranking(Section):
    """The reference ranking model and its training."""

    valid_share: float = Field(
        0.1,
        gt=0,
        lt=0.5,
        description="Share of rows, the latest before the test rows, for early stopping, above 0 and below 0.5.",
    )
    test_share: float = Field(
        0.1, gt=0, lt=0.5, description="Share of rows, the latest of all, for the final test, above 0 and below 0.5."
    )
    valid_from: datetime | None = Field(
        None,
        description="Start of the rows for early stopping, instead of valid_share: an ISO 8601 time, in UTC unless it "
        "names another zone.",
    )
    test_from: datetime | None = Field(
        None, description="Start of the test rows, instead of test_share; must be set together with valid_from."
    )
    point_in_time: Literal["spark", "feast"] = Field(
        "spark",
        description="Engine that joins features to impressions: spark, or feast for get_historical_features; both give "
        "the same rows.",
    )
    epochs: int = Field(
        10, ge=1, description="Highest number of epochs, at least 1; training stops early on the AUC of held-out rows."
    )
    batch_size: int = Field(1024, ge=1, description="Number of rows in a training batch, at least 1.")
    learning_rate: float = Field(2e-3, gt=0, description="Learning rate of AdamW, above 0.")
    part_learning_rates: dict[str, float] | None = Field(
        None,
        description="Learning rates of single parts instead of learning_rate, above 0, by the name of an item feature or a "
        "reading: {fusion: 0.0005, interest: 0.0005, content_match: 0.0005}.",
    )
    warm_up_steps: int = Field(
        0, ge=0, description="Number of first batches over which the learning rates rise from 0, at least 0."
    )
    max_items: int | None = Field(
        None,
        ge=1,
        description="Number of item IDs with an embedding of their own, those of the most training rows; null for all.",
    )
    sparse_ids: bool | None = Field(
        None,
        description="Whether a batch updates only the embeddings of the item IDs that it names (SparseAdam) instead of the "
        "whole table (AdamW); null does so from a million item IDs on, where one process trains.",
    )
    fusion_start: Literal["random", "aligned"] = Field(
        "random",
        description="First weights of the fusion of variants with use_fusion: random, or aligned for those of the encoder of "
        "the release. Its sizes must then be content_dim, num_queries, fusion_layers and num_heads of the variant.",
    )
    weight_decay: float = Field(
        1e-2, ge=0, description="Weight decay of AdamW, at least 0; embedding tables have none."
    )
    patience: int = Field(
        2, ge=1, description="Number of epochs without a better held-out AUC after which training stops, at least 1."
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of MLP inputs and hidden units that are dropped in training, at least 0 and below 1.",
    )
    variants: list[str] | dict[str, dict[str, Any] | None] = Field(
        ["item IDs", "item IDs + semantic IDs"],
        description="Models to train: names such as +match, +nearest items, +EM3 or all; or {name: fields of "
        "RankingConfig}.",
    )
    num_seeds: int = Field(
        1, ge=1, description="Number of models per variant, at least 1; they have the seeds seed, seed + 1, ..."
    )
    num_processes: int = Field(1, ge=1, description="Number of training processes of TorchDistributor, at least 1.")

    @field_validator("valid_from", "test_from")
    @classmethod
    def _in_utc(cls, moment: datetime | None) -> datetime | None:
        if moment is None:
            return None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    @model_validator(mode="after")
    def _one_split(self) -> Self:
        if (self.valid_from is None) != (self.test_from is None):
            raise ValueError("valid_from and test_from must be set together")
        if self.valid_from is None or self.test_from is None:
            return self
        if self.valid_from >= self.test_from:
            raise ValueError(f"valid_from is {self.valid_from}, must be before test_from, {self.test_from}")
        if {"valid_share", "test_share"} & self.model_fields_set:
            raise ValueError("valid_share and test_share must not be set beside valid_from and test_from")
        return self
