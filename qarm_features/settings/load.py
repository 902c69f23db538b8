"""All settings in one model, read from ``qarm.yaml``, ``QARM_*`` variables and flags.

In: the path of a ``qarm.yaml``. Out: one validated, frozen ``Settings``. A flag wins over a variable, and a variable wins
over the file. Relative paths in the file start at the file's own folder, so that a project runs from any working directory.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypedDict, get_args

import yaml
from pydantic import BaseModel, Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from qarm_features.settings.codes import Codebooks, NearestItems, SemanticIDs
from qarm_features.settings.explorer import ExplorerData
from qarm_features.settings.following import Following
from qarm_features.settings.monitor import Monitor
from qarm_features.settings.publishing import Publishing
from qarm_features.settings.ranking import Behavior, Ranking
from qarm_features.settings.repeated_keys import repeated_key
from qarm_features.settings.secrets import (
    credentials_of,
    is_secret_name,
    redacted,
    remember_secrets,
    secrets_of_environment,
)
from qarm_features.settings.sections import Alignment, Encoder, ItemPairs, SparkOptions
from qarm_features.settings.sources import InteractionSource, ItemSource, RejectedShares
from qarm_features.settings.telemetry import Telemetry
from qarm_features.storage.objects import AnyPath, ObjectStoreError, any_path

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


# Settings whose values are never shown, nor those of the sections around them.
_SECRET = (("spark", "conf"), ("encoder", "media_roots"))


class SettingsError(ValueError):
    """A setting is missing, unknown or out of range. The message names it as the user typed it."""


class IdTypes(TypedDict):
    """Types of the IDs in the tables: ``integer`` or ``string`` each."""

    item_id_type: str
    user_id_type: str


class Settings(BaseSettings):
    """All settings of a project. ``qarm init`` writes a ``qarm.yaml`` that explains each of them.

    Example::

        settings = load_settings("qarm.yaml")
        settings.codebooks.num_levels
    """

    model_config = SettingsConfigDict(env_prefix="QARM_", env_nested_delimiter="__", extra="forbid", frozen=True)

    warehouse: str = Field("data", description="Folder or URI of the Delta tables.")
    artifacts: str = Field(
        "artifacts",
        description="Folder of the encoders, codebooks, releases and ranking models, or its URI in an object store: s3://, "
        "gs:// or abfss://.",
    )
    state: str = Field(
        "state",
        description="Folder of this machine for locks, logs and the checkpoints of trainings, where artifacts is a URI; else "
        "they are in artifacts.",
    )
    feature_repo: str = Field("feature_repo", description="Folder of feature_store.yaml.")
    seed: int = Field(0, ge=0, description="Seed of all random numbers, at least 0.")
    max_unknown_item_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Highest share of rows of the click log whose item the catalog lacks, from 0 to 1; a larger share stops "
        "the job.",
    )
    max_rejected_share: RejectedShares = RejectedShares()
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
    follow: Following = Following()
    ranking: Ranking = Ranking()
    explorer: ExplorerData = ExplorerData()
    spark: SparkOptions = SparkOptions()
    monitor: Monitor = Monitor()
    telemetry: Telemetry = Telemetry()

    _folder: Path = PrivateAttr(default=Path("."))

    @model_validator(mode="before")
    @classmethod
    def _use_defaults_for_empty_sections(cls, content: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in content.items() if value is not None}

    @field_validator("artifacts")
    @classmethod
    def _in_a_known_store(cls, artifacts: str) -> str:
        try:
            any_path(artifacts)
        except ObjectStoreError as error:
            raise ValueError(str(error)) from None
        return artifacts

    @model_validator(mode="after")
    def _no_credentials_in_plain_view(self) -> Self:
        """Refuses credentials in paths, which are written into tables, registries, logs and records."""
        for name, value in _texts(
            self.model_dump(mode="json", exclude={"spark": {"conf"}, "encoder": {"media_roots"}})
        ):
            if "://" in value and credentials_of(value):
                raise ValueError(
                    f"{name} holds credentials, must be a URI without them. Give them by the credential provider of the "
                    "object store, or by spark.conf"
                )
        return self

    def secrets(self) -> list[str]:
        """Returns the values of these settings that must not be shown."""
        conf = [(name, value.get_secret_value()) for name, value in self.spark.conf.items()]
        found = [value for name, value in conf if is_secret_name(name)]
        uris = [value for _, value in conf] + [root.get_secret_value() for root in self.encoder.media_roots]
        return found + [part for uri in uris for part in credentials_of(uri)]

    def path(self, value: str) -> str:
        """Returns the path that a setting names: a relative one starts at the folder of ``qarm.yaml``.

        Args:
            value: Relative path, absolute path or URI. The latter two are returned unchanged.
        """
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
    def artifacts_path(self) -> AnyPath:
        """Folder of the versioned artifacts, on this machine or in an object store."""
        return any_path(self.path(self.artifacts))

    @property
    def state_path(self) -> Path:
        """Folder of this machine for locks, logs and the checkpoints of trainings."""
        artifacts = self.artifacts_path
        return artifacts if isinstance(artifacts, Path) else Path(self.path(self.state))

    @property
    def feature_repo_path(self) -> Path:
        """Folder of ``feature_store.yaml``."""
        return Path(self.path(self.feature_repo))


def load_settings(config: str | Path = "qarm.yaml", **flags: Any) -> Settings:
    """Reads ``qarm.yaml``, applies ``QARM_*`` variables and then ``flags``, and validates the result.

    Args:
        config: Path of the file.
        flags: Top-level settings that win over the file and the variables, for example ``seed=1`` or
            ``codebooks={"num_levels": 4}``.

    Returns:
        The settings, which cannot be changed.

    Raises:
        SettingsError: The file is missing or no YAML, or a setting is unknown, missing or out of range. The message shows no
            value that may be a secret.

    Example::

        settings = load_settings("qarm.yaml", codebooks={"num_levels": 4})
    """
    path = Path(config)
    if not path.is_file():
        raise SettingsError(f"--config is {config}, must be an existing file. Run: qarm init DIR")
    _require_settings(path)

    class _FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=path)

    remember_secrets(secrets_of_environment())
    try:
        settings = _FromFile(**flags)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(details, path) for details in error.errors())) from None
    except yaml.YAMLError as error:  # its own message may quote the line
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        raise SettingsError(
            f"{path} is not valid YAML{place}. Look at the indentation there and before, and put a value in quotes if it "
            "holds a colon, begins with one of @ * & ! % ` or is a password."
        ) from None
    except SourceError as error:
        raise SettingsError(
            f"A variable QARM_* cannot be read: {redacted(str(error))}. Its value must be JSON."
        ) from None
    # The folder of the file as it was named: a container of YARN or Kubernetes has links to files elsewhere.
    settings._folder = path.parent.resolve()
    remember_secrets(settings.secrets())
    return settings


def _require_settings(path: Path) -> None:
    """Refuses a file that is no text in UTF-8, holds something else than named settings, or names a setting twice."""
    try:
        text = path.read_text(encoding="utf-8")
        content, twice = yaml.safe_load(text), repeated_key(text)
    except yaml.YAMLError:
        return  # the settings are read next, which says where the fault is
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"{path} cannot be read as text in UTF-8: {error}. Correct the file.") from None
    if content is not None and not isinstance(content, dict):
        raise SettingsError(f"{path} holds no settings, must hold lines such as seed: 0. Run: qarm init DIR")
    if twice is not None:
        raise SettingsError(
            f"{twice.name} stands twice in {path}, at lines {twice.first} and {twice.second}. Only the last would count: "
            "keep one of them."
        )


def _explain(error: ErrorDetails, path: Path) -> str:
    """Returns one line that names the setting, says what is wrong, and says where to change it."""
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        section: type[BaseModel] = Settings
        for part in error["loc"][:-1]:
            annotation = section.model_fields[str(part)].annotation
            section = next(kind for kind in get_args(annotation) or (annotation,) if kind is not type(None))
        similar = difflib.get_close_matches(str(error["loc"][-1]), section.model_fields, n=1)
        hint = f"Did you mean {similar[0]}?" if similar else f"Known settings: {', '.join(section.model_fields)}."
        return f"{name} in {path} is not a setting. {hint}"
    if error["type"] == "missing":
        return f"{name} in {path} is missing, must be set."
    message = redacted(error["msg"].removeprefix("Value error, "))
    if not name:  # the message names the setting
        return f"{message}. Change it in {path}."
    variable = "QARM_" + name.upper().replace(".", "__")
    elsewhere = "" if " " in variable else f" or by {variable}"  # a name of the user's own may hold blanks
    return f"{name} is {_shown(error)}: {message}. Change it in {path}{elsewhere}."


def _shown(error: ErrorDetails) -> str:
    """Returns the value that is wrong: only its kind where it may be a secret, only the names of a section."""
    place, value = error["loc"], error.get("input")
    if any(place[: len(secret)] == secret[: len(place)] for secret in _SECRET):
        return f"not shown (a {type(value).__name__})"
    if isinstance(value, dict):
        return f"{{{', '.join(map(str, value))}}}"
    return f"a {type(value).__name__}" if isinstance(value, (list, BaseModel)) else redacted(repr(value))


def _texts(content: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yields each text in dumped settings with the name of its setting."""
    if isinstance(content, str):
        yield name, content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from _texts(value, f"{name}.{key}".removeprefix("."))
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value, name)
