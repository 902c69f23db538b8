"""All settings in one model: ``qarm.yaml``, then ``QARM_*`` variables, then flags; the later one wins.

In: the path of a ``qarm.yaml``. Out: one validated, frozen ``Settings``. Relative paths in the file count from the
file's own folder, so a project can be moved and can be run from anywhere.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypedDict, get_args

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, YamlConfigSettingsSource

from qarm_features.settings.codes import Codebooks, NearestItems, SemanticIDs
from qarm_features.settings.publishing import Publishing
from qarm_features.settings.ranking import Behavior, Ranking
from qarm_features.settings.sections import (
    Alignment,
    Encoder,
    InteractionSource,
    ItemPairs,
    ItemSource,
    SparkOptions,
)


class SettingsError(ValueError):
    """A setting is missing, unknown or out of range; the message names it as the user typed it."""


class IdTypes(TypedDict):
    """Types of the IDs in the tables: ``integer`` or ``string`` each."""

    item_id_type: str
    user_id_type: str


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
    item_pairs: ItemPairs = ItemPairs()
    encoder: Encoder = Encoder()
    alignment: Alignment = Alignment()
    codebooks: Codebooks = Codebooks()
    nearest_items: NearestItems = NearestItems()
    semantic_ids: SemanticIDs = SemanticIDs()
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
    def id_types(self) -> IdTypes:
        """Types of the IDs in the tables, as keyword arguments of ``Warehouse``."""
        return {"item_id_type": self.items.item_id_type, "user_id_type": self.interactions.user_id_type}

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
            kind = model.model_fields[part].annotation
            model = next(one for one in get_args(kind) or (kind,) if one is not type(None))
        near = difflib.get_close_matches(str(error["loc"][-1]), model.model_fields, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(model.model_fields)}."
        return f"{name} in {path} is not a setting. {hint}"
    if error["type"] == "missing":
        return f"{name} in {path} is missing, must be set."
    variable = "QARM_" + name.upper().replace(".", "__")
    return f"{name} is {error.get('input')!r}: {error['msg']}. Change it in {path} or by {variable}."
