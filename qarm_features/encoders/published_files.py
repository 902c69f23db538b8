"""Find and read the JSON files that authors publish with an embedder, in a folder or on the hub.

In: a local folder or a Hugging Face name. Out: their content; None for a file that certainly does not exist.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from qarm_features.encoders.backbone_files import place_of
from qarm_features.extras import naming_extra


class Refused(ValueError):
    """Report that an embedder cannot be used as its authors publish it."""


class PublishedFiles:
    """Read the files of one embedder.

    Args:
        backbone: Local folder, Hugging Face name, or ``name@revision``.
        setting: Name of the setting that holds it, for error messages.

    Attributes:
        has_model: Whether its ``config.json`` was found; loading the model says what is wrong if it was not.
        has_own_decoder: Whether its authors publish code of their own for a model of chats, for example because every token
            shall see those behind it, and ``config.json`` does not say so.
        names: Names under which the embedder is known: its folder's, its repository's, and the one in ``config.json``.
    """

    def __init__(self, backbone: str, setting: str) -> None:
        self.backbone, self.setting = backbone, setting
        place = place_of(backbone, setting=setting)
        self._place, self._revision = place.where, place.options()
        config = self.read("config.json", unknown_is_missing=True)
        # The oldest embedders keep the model in a subfolder that modules.json names.
        self.has_model = config is not None or self.find("modules.json", unknown_is_missing=True) is not None
        self.has_own_decoder = _has_own_decoder(config or {})
        self.names = _names(self._place) + _names((config or {}).get("_name_or_path") or "")

    def refused(self, why: str, remedy: str) -> Refused:
        """Return an error that names the setting, the embedder and what to do."""
        return Refused(f"{self.setting} is {self.backbone}, which {why}. {remedy}")

    def read(self, name: str, *, unknown_is_missing: bool = False) -> Any:
        """Return the content of a JSON file, or None if the embedder has no such file."""
        path = self.find(name, unknown_is_missing=unknown_is_missing)
        if path is None:
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self.refused(
                f"has a {name} that is not valid JSON", f"Download it again. Python says: {error}"
            ) from error

    def find(self, name: str, *, unknown_is_missing: bool = False) -> Path | None:
        """Return where a file lies, or None if the embedder has no such file.

        Args:
            name: Path of the file in the repository.
            unknown_is_missing: Whether a file counts as missing if the hub cannot be asked and the cache does not know.

        Raises:
            Refused: The path leaves the repository, or nobody can say whether the file exists.
        """
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise self.refused(f"names the file {name} outside its folder", "Download it again.")
        if Path(self._place).is_dir():
            path = Path(self._place, name)
            return path if path.is_file() else None
        with naming_extra("Pretrained backbones", "torch"):
            from huggingface_hub import try_to_load_from_cache
            from transformers.utils import cached_file

        try:
            found = cached_file(
                self._place,
                name,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
                **self._revision,
            )
            known = found is not None or try_to_load_from_cache(self._place, name, **self._revision) is not None
        except (OSError, ValueError):  # no such repository
            return None
        if not known and not unknown_is_missing:
            raise self.refused(
                f"is not a folder, and its {name} is neither on this machine nor can the hub be asked for it",
                f"Download the whole repository: hf download {self._place}",
            )
        return None if found is None else Path(found)


def _names(place: str) -> list[str]:
    """Return the names that a folder or repository tells: its own, and that of the repository whose cache it lies in."""
    parts = Path(place).resolve().parts if Path(place).is_dir() else PurePosixPath(place).parts
    cached = [part.rpartition("--")[2] for part in parts if part.startswith("models--")]
    return [*parts[-1:], *cached]


def _has_own_decoder(config: dict[str, Any]) -> bool:
    both_ways = config.get("is_causal") is False or config.get("use_bidirectional_attention")
    decoder = config.get("model_type") in (
        "qwen2",
        "qwen3",
        "mistral",
        "mixtral",
        "llama",
        "gemma",
        "gemma2",
        "phi",
        "phi3",
    )
    return decoder and "AutoModel" in (config.get("auto_map") or {}) and not both_ways
