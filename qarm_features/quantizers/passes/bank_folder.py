"""The folder of a bank: its ``bank.json``, and its files on this machine.

In: the facts of the shards that the workers wrote. Out: ``bank.json`` with the SHA-256 of all files. Every machine fetches a
bank in an object store once.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

from qarm_features.storage.copies import fetched, local_folder
from qarm_features.storage.json_files import sha256, write_json
from qarm_features.storage.objects import any_path
from qarm_features.storage.version_files import MANIFEST as VERSION

MANIFEST = "bank.json"


class ShardFacts(NamedTuple):
    """What the worker that wrote a shard reports.

    Attributes:
        shard: Number of the shard, from 0.
        rows: Number of rows.
        repeated_ids: Number of rows whose item ID stands in an earlier row.
        max_norm: Largest Euclidean norm of an embedding.
        sha256: SHA-256 of the Arrow file.
        lists_sha256: SHA-256 of the file of inverted lists, None without lists.
    """

    shard: int
    rows: int
    repeated_ids: int
    max_norm: float
    sha256: str
    lists_sha256: str | None


class Bank(NamedTuple):
    """A bank on disk.

    Attributes:
        folder: Path of its folder, which every executor must reach, or its URI in an object store.
        manifest: Content of ``bank.json``: ``rows``, ``dim``, ``item_id_type`` (Spark's name), ``exact`` (True if there are
            no lists), and ``shards`` with ``name``, ``rows``, ``max_norm``, ``sha256`` and ``lists_sha256`` of each.
    """

    folder: str
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Bank:
        """Open a bank.

        Args:
            folder: Folder of the bank, or its URI.

        Raises:
            ValueError: The folder holds no bank.
        """
        file = any_path(str(folder)) / MANIFEST
        if not file.is_file():
            raise ValueError(
                f"{folder} has no {MANIFEST}, so it is not the folder of a bank. Fit NearestItems with bankPath."
            )
        return cls(str(folder), json.loads(file.read_text()))

    @classmethod
    def create(cls, folder: str, facts: list[ShardFacts], **manifest: Any) -> Bank:
        """Write ``bank.json`` beside shards that are already written.

        Args:
            folder: Folder of the bank, or its URI.
            facts: Facts of each shard, in order.
            manifest: Further entries of ``bank.json``.

        Raises:
            ValueError: The file of a shard is missing.
        """
        place = any_path(folder)
        lost = [fact.shard for fact in facts if not (place / f"{shard_name(fact.shard)}.arrow").is_file()]
        if lost:
            raise ValueError(
                f"{len(lost)} of {len(facts)} shards are not in bankPath {folder}, because executors wrote them to the disks "
                "of other machines. Mount one folder on all machines."
            )
        shards = [
            {"name": shard_name(fact.shard), **{name: getattr(fact, name) for name in _IN_MANIFEST}} for fact in facts
        ]
        content = {**manifest, "rows": sum(fact.rows for fact in facts), "shards": shards}
        write_json(place / MANIFEST, content)
        return cls(folder, content)

    def local(self) -> Path:
        """Return the folder of the bank on this machine. A bank in an object store is fetched on first use."""
        return _local(self.folder, tuple(self._files().items()))

    def _files(self) -> dict[str, str]:
        """Return the SHA-256 of the files of all shards."""
        return {
            f"{shard['name']}.{suffix}": shard[digest]
            for shard in self.manifest["shards"]
            for suffix, digest in (("arrow", "sha256"), ("faiss", "lists_sha256"))
            if shard[digest] is not None
        }

    def verify(self) -> Bank:
        """Check every shard against ``bank.json`` and return the bank itself.

        Raises:
            ValueError: A file is missing or differs.
        """
        for name, expected in self._files().items():
            file = self.local() / name
            if not file.is_file() or sha256(file) != expected:
                raise ValueError(f"{file} is missing or differs from {MANIFEST}. Restore it or fit a new bank.")
        return self


_IN_MANIFEST = ("rows", "max_norm", "sha256", "lists_sha256")


def shard_name(number: int) -> str:
    """Return the name of the files of a shard, without suffix.

    Example:
        >>> shard_name(3)
        'shard-00003'
    """
    return f"shard-{number:05d}"


@functools.lru_cache(maxsize=2)
def _local(folder: str, files: tuple[tuple[str, str], ...]) -> Path:
    """Return the folder of a bank on this machine: a copy of its version, or of the bank alone while it has no version."""
    place = any_path(folder)
    if isinstance(place, Path):
        return place
    if (place.parent / VERSION).is_file():
        return local_folder(str(place.parent)) / place.name
    return fetched(place, {"files": dict(files)})
