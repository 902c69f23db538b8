"""The sections of the settings that say how embeddings become codes.

In: nothing. Out: pydantic models that ``settings.Settings`` puts together. A new setting is one line here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from qarm_features.settings.sections import Section


class Codebooks(Section):
    """Residual k-means."""

    num_levels: int = Field(3, ge=1, le=16, description="L, codes in a semantic ID.")
    codebook_size: int | list[int] = Field(
        256, description="K, centroids in a level, 2 to 65536; or a list, one a level."
    )
    max_iter: int = Field(20, ge=1, description="Most Lloyd iterations in a level.")
    tol: float = Field(1e-4, ge=0, description="A level stops when its centroids move less than this.")
    # None rather than the default's value: codebooks that were fitted before an option existed are still found.
    init_mode: Literal["k-means++", "k-means||", "random"] | None = Field(
        None, description="How a level starts: k-means++ on a sample (the default), k-means|| over all rows, or random."
    )
    warmup_iter: int | None = Field(None, ge=1, description="Lloyd steps on a sample before those over all rows.")
    error_tol: float | None = Field(
        None, gt=0, lt=1, description="A level stops when a step lowers its error by less than this share of it."
    )
    max_load: float | None = Field(
        None, gt=1, description="Split clusters of more than this many times the mean number of rows, in early steps."
    )
    capacity: float | None = Field(
        None,
        gt=1,
        allow_inf_nan=False,
        description="Codes of more than this many times the mean number of items (or weight) give some up in the fit; "
        "none: of any number.",
    )
    last_level: Literal["k-means", "fsq"] | None = Field(
        None, description="fsq: finite scalar quantization of what the levels before leave over; none: k-means."
    )
    fsq_levels: list[int] | None = Field(
        None,
        min_length=1,
        description="Scalars of each dimension of an fsq level; none: at most its K codes shared out.",
    )
    device: Literal["cpu", "cuda", "auto"] = Field(
        "cpu", exclude=True, description="Where the fit's products run; auto: on a GPU where an executor has one."
    )  # excluded: it changes no code, so codebooks are found under any
    popularity_power: float | None = Field(
        None, gt=0, le=2, description="Weigh items by (1 + positives) to this power in the fit; none: all alike."
    )

    @field_validator("codebook_size")
    @classmethod
    def _sizes_in_range(cls, value: int | list[int]):
        for size in value if isinstance(value, list) else [value]:
            if not 2 <= size <= 65536:
                raise ValueError(f"codebook_size is {size}, must be 2 to 65536")
        return value

    @model_validator(mode="after")
    def _levels_agree(self):
        if isinstance(self.codebook_size, list) and len(self.codebook_size) != self.num_levels:
            raise ValueError(
                f"codebook_size has {len(self.codebook_size)} sizes, must have one for each of num_levels = {self.num_levels}"
            )
        if self.last_level == "fsq" and self.num_levels == 1:
            raise ValueError("num_levels is 1, must be at least 2 with last_level fsq: k-means comes first")
        if self.fsq_levels is not None and self.last_level != "fsq":
            raise ValueError("fsq_levels is set, must not be unless last_level is fsq")
        return self

    def options(self) -> dict[str, Any]:
        """Returns the params that these settings name, of ``ResidualKMeans`` or, where the last level is fsq, of
        ``ResidualKMeansFiniteScalar``."""
        apart = {"codebook_size", "last_level", "fsq_levels", "popularity_power"}
        params = self.model_dump(exclude_none=True, exclude=apart)
        sizes = self.codebook_size
        if self.last_level == "fsq":
            sizes = sizes if isinstance(sizes, list) else [sizes] * self.num_levels
            params |= {
                "num_levels": self.num_levels - 1,
                "last_codebook_size": sizes[-1],
                "last_levels": self.fsq_levels,
            }
            sizes = sizes[:-1]
        params |= {"codebook_sizes": sizes} if isinstance(sizes, list) else {"codebook_size": sizes}
        params["device"] = self.device
        return {to_camel(name): value for name, value in params.items()}


class SemanticIDs(Section):
    """How items get their codes from fitted codebooks."""

    bucket_cap: int | None = Field(
        None, ge=1, description="Most items of one semantic ID; the overflow moves at the last level. None: no cap."
    )
    error_budget: float = Field(
        0.5, ge=0, description="Most squared error that a move adds to an item, by the mean error; above it none moves."
    )
    keep_within: float = Field(
        0.1, ge=0, description="After a refit an item keeps its ID if that adds at most this to its error, by the mean."
    )


class NearestItems(Section):
    """VQ codes: the nearest items of every item."""

    k: int = Field(25, ge=1, le=1000, description="Nearest items of an item.")
    exact_up_to: int = Field(200_000, ge=0, description="Items up to which each is compared with every other.")
    num_probes: int = Field(16, ge=1, description="Beyond: lists of a shard looked through, of 512 for 65,536 items.")
