"""The sections of the settings about codebooks, semantic IDs and VQ codes: names, ranges and defaults.

In: nothing. Out: pydantic models that ``Settings`` puts together. A new setting is one line here; its description becomes
the comment in ``qarm.yaml``.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from qarm_features.settings.section import Section


class Codebooks(Section):
    """Residual k-means, which turns item embeddings into RQ codes."""

    num_levels: int = Field(
        3, ge=1, le=16, description="Number L of levels, which are codes in a semantic ID, from 1 to 16."
    )
    codebook_size: int | list[int] = Field(
        256, description="Number K of centroids in a level, from 2 to 65536, or a list with one number per level."
    )
    max_iter: int = Field(20, ge=1, description="Highest number of Lloyd iterations per level, at least 1.")
    tol: float = Field(
        1e-4, ge=0, description="Movement of the centroids, at least 0, below which the fit of a level stops."
    )
    # The defaults below are None, so that codebooks that were fitted before these options existed are still found.
    init_mode: Literal["k-means++", "k-means||", "random"] | None = Field(
        None,
        description="Initialization of a level: k-means++ on a sample, k-means|| over all rows, or random; null is "
        "k-means++.",
    )
    warmup_iter: int | None = Field(
        None,
        ge=1,
        description="Number of Lloyd iterations on a sample before those over all rows, at least 1; null runs none.",
    )
    error_tol: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Relative decrease of the error per iteration, above 0 and below 1, below which the fit of a level "
        "stops; null does not look at it.",
    )
    max_load: float | None = Field(
        None,
        gt=1,
        description="Multiple of the mean number of rows, above 1, from which a cluster is split in early iterations; null "
        "splits none.",
    )
    capacity: float | None = Field(
        None,
        gt=1,
        allow_inf_nan=False,
        description="Multiple of the mean number (or weight) of items, above 1, that the fit lets a code hold; null sets "
        "no limit.",
    )
    last_level: Literal["k-means", "fsq"] | None = Field(
        None,
        description="Method of the last level: k-means, or fsq for finite scalar quantization of the residual; null is "
        "k-means.",
    )
    fsq_levels: list[int] | None = Field(
        None,
        min_length=1,
        description="Number of values of each dimension of an fsq level; null derives the numbers from its codebook_size.",
    )
    # The device is excluded from the dump because it changes no code: codebooks are found whatever it is.
    device: Literal["cpu", "cuda", "auto"] = Field(
        "cpu",
        exclude=True,
        description="Device of the fit's matrix products: cpu, cuda, or auto, which uses a GPU on executors that have one.",
    )
    popularity_power: float | None = Field(
        None,
        gt=0,
        le=2,
        description="Power, above 0 and at most 2, of (1 + number of positives), by which the fit weights an item; null "
        "weights all items equally.",
    )

    @field_validator("codebook_size")
    @classmethod
    def _sizes_in_range(cls, value: int | list[int]) -> int | list[int]:
        for size in value if isinstance(value, list) else [value]:
            if not 2 <= size <= 65536:
                raise ValueError(f"codebook_size is {size}, must be 2 to 65536")
        return value

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        if isinstance(self.codebook_size, list) and len(self.codebook_size) != self.num_levels:
            raise ValueError(
                f"codebook_size has {len(self.codebook_size)} numbers, must have {self.num_levels}, one per level"
            )
        if self.last_level == "fsq" and self.num_levels == 1:
            raise ValueError("num_levels is 1, must be at least 2 if last_level is fsq")
        if self.fsq_levels is not None and self.last_level != "fsq":
            raise ValueError("fsq_levels must not be set unless last_level is fsq")
        return self

    def options(self) -> dict[str, Any]:
        """Returns the estimator's params, by name, that these settings determine.

        They are params of ``ResidualKMeans``, or of ``ResidualKMeansFiniteScalar`` if ``last_level`` is fsq.
        """
        not_params = {"codebook_size", "last_level", "fsq_levels", "popularity_power"}
        params = self.model_dump(exclude_none=True, exclude=not_params)
        sizes = self.codebook_size
        if self.last_level == "fsq":
            sizes = sizes if isinstance(sizes, list) else [sizes] * self.num_levels
            params |= {
                "num_levels": self.num_levels - 1,
                "last_codebook_size": sizes[-1],
                "last_levels": self.fsq_levels,
            }
            sizes = sizes[:-1]
        if isinstance(sizes, list):
            params["codebook_sizes"] = sizes
        else:
            params["codebook_size"] = sizes
        params["device"] = self.device
        return {to_camel(name): value for name, value in params.items()}


class SemanticIDs(Section):
    """How items get their codes from fitted codebooks."""

    bucket_cap: int | None = Field(
        None,
        ge=1,
        description="Highest number of items with the same semantic ID, at least 1; further items get another code at the "
        "last level; null sets no limit.",
    )
    error_budget: float = Field(
        0.5,
        ge=0,
        description="Highest squared error that bucket_cap may add to an item, as a multiple of the mean squared error, at "
        "least 0.",
    )
    keep_within: float = Field(
        0.1,
        ge=0,
        description="Highest squared error that keeping its semantic ID after a refit may add to an item, as a multiple of "
        "the mean squared error, at least 0.",
    )


class NearestItems(Section):
    """VQ codes: the nearest items of every item."""

    k: int = Field(25, ge=1, le=1000, description="Number of nearest items per item, from 1 to 1000.")
    exact_up_to: int = Field(
        200_000, ge=0, description="Highest number of items up to which the search compares all pairs, at least 0."
    )
    num_probes: int = Field(
        16,
        ge=1,
        description="Number of inverted lists per shard that the approximate search reads, at least 1; a shard of 65,536 "
        "items has 512 lists.",
    )
