"""Folders and files in an object store, with the part of ``pathlib.Path`` that records and versions need.

In: a URI such as ``s3://bucket/prefix``. Out: an ``ObjectPath``. An object appears whole or not at all, and ``create`` writes
one only where none is, which the store itself decides. Endpoint and credentials come from the environment, or from the roles
that the provider gives to a machine; they stand in no path, no error and no log.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from qarm_features.storage.object_stores import ObjectStoreError, obstore_or_extra, store_of, told

SCHEMES = ("s3", "s3a", "gs", "abfs", "abfss", "az")
_URI = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]+)(?:/([^?#]*))?")
_CHUNK, _MOST_PARTS = 16 << 20, 9_000  # bytes of a part of a file; S3 takes 10,000 parts


class StoredObject(NamedTuple):
    """What a listing says of an object.

    Attributes:
        name: Its name below the folder that was listed, with slashes.
        bytes: Its size.
        modified: The time of its last change.
        tag: What the store calls its content, which changes with it; None if it calls it nothing.
    """

    name: str
    bytes: int
    modified: datetime
    tag: str | None = None


class ObjectPath:
    """A folder or a file in an object store. Folders exist only as beginnings of names.

    Args:
        uri: URI with one of the schemes ``SCHEMES``.

    Raises:
        ObjectStoreError: The URI has another scheme or no bucket.

    Example:
        >>> folder = ObjectPath("s3://bucket/shop/")
        >>> str(folder / "releases" / "cb0.json"), folder.name, str(folder.parent)
        ('s3://bucket/shop/releases/cb0.json', 'shop', 's3://bucket')
    """

    def __init__(self, uri: str) -> None:
        found = _URI.fullmatch(uri)
        if found is None or found[1] not in SCHEMES:
            raise ObjectStoreError(
                f"{uri} is no folder of an object store, must begin with one of "
                f"{', '.join(f'{scheme}://' for scheme in SCHEMES)} and a bucket, without ? and #. Mount "
                "other file systems."
            )
        self._bucket = f"{found[1]}://{found[2]}"
        self._key = "/".join(part for part in (found[3] or "").split("/") if part not in ("", "."))

    def __str__(self) -> str:
        return f"{self._bucket}/{self._key}".rstrip("/")

    def __repr__(self) -> str:
        return f"ObjectPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: ObjectPath) -> bool:
        return str(self) < str(other)

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(f"{self}/{name}")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self._key).name

    @property
    def parent(self) -> ObjectPath:
        """The folder that holds this one."""
        return ObjectPath(f"{self._bucket}/{self._key.rpartition('/')[0]}")

    def is_file(self) -> bool:
        """Return True if there is an object of this name."""
        try:
            with told(self, "looked for"):
                self._store.head(self._key)
        except FileNotFoundError:
            return False
        return True

    def modified(self) -> datetime:
        """Return the time of the last change of an object in UTC, to the second.

        Raises:
            FileNotFoundError: There is none.
        """
        with told(self, "looked for"):
            at: datetime = self._store.head(self._key)["last_modified"]
        return at.astimezone(UTC).replace(microsecond=0)

    def read_bytes(self) -> bytes:
        """Return the content of an object.

        Raises:
            FileNotFoundError: There is none.
        """
        with told(self, "read"):
            return bytes(self._store.get(self._key).bytes())

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the content of an object as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Write an object, in the place of one that is there."""
        with told(self, "written"):
            self._store.put(self._key, content)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        """Write an object as text, in the place of one that is there."""
        self.write_bytes(text.encode(encoding))

    def create(self, content: bytes) -> bool:
        """Write an object if there is none, and return whether it is this one that is there now.

        Args:
            content: Content that no other process writes. An answer that was lost on its way is thus told from the object
                of somebody else.
        """
        with obstore_or_extra():
            from obstore.exceptions import AlreadyExistsError
        with told(self, "written"):
            try:
                self._store.put(self._key, content, mode="create")
            except AlreadyExistsError:
                return self.read_bytes() == content
        return True

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete an object.

        Args:
            missing_ok: True to accept that there is none.

        Raises:
            FileNotFoundError: There is none.
        """
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(f"{self} does not exist.")
        with told(self, "deleted"), contextlib.suppress(FileNotFoundError):
            self._store.delete(self._key)

    def objects(self) -> Iterator[StoredObject]:
        """Yield all objects below a folder, in any order."""
        yield from self._listed(self._store)

    def glance(self) -> list[StoredObject]:
        """Return all objects below a folder, or the one object itself with the name ""; a store that is silent fails soon.

        Raises:
            ObjectStoreError: The objects cannot be listed.
        """
        store = store_of(self._bucket, glance=True)
        below = list(self._listed(store))
        # A name that ends with a slash stands for a folder. obstore's lists leave out the object of the prefix itself.
        if below or not self._key:
            return [one for one in below if one.name and not one.name.endswith("/")]
        with told(self, "listed"):
            try:
                return [_stored(store.head(self._key), "")]
            except FileNotFoundError:
                return []

    def folders(self) -> list[str]:
        """Return the names of the folders directly in a folder, ascending."""
        with told(self, "listed"):
            found = self._store.list_with_delimiter(prefix=self._key or None)["common_prefixes"]
        return sorted(PurePosixPath(path).name for path in found)

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """Yield the objects whose names match a pattern, part by part.

        Args:
            pattern: Pattern such as ``cb*.json`` or ``*/v*/manifest.json``.
        """
        wanted = pattern.split("/")
        for name in self._below() if len(wanted) == 1 else (one.name for one in self.objects()):
            parts = name.split("/")
            if len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted)):
                yield self / name

    def upload(self, file: Path) -> None:
        """Write an object from a local file, in parts if it is large."""
        with told(self, "written"):
            self._store.put(self._key, file, chunk_size=max(_CHUNK, file.stat().st_size // _MOST_PARTS))

    def download(self, file: Path) -> None:
        """Copy an object into a local file.

        Raises:
            FileNotFoundError: There is no object.
        """
        with open(file, "wb") as opened, told(self, "read"):
            for chunk in self._store.get(self._key).stream(min_chunk_size=_CHUNK):
                opened.write(chunk)

    def _below(self) -> Iterator[str]:
        """Yield the names of the objects directly in a folder."""
        with told(self, "listed"):
            for one in self._store.list_with_delimiter(prefix=self._key or None)["objects"]:
                yield PurePosixPath(one["path"]).name

    def _listed(self, store: Any) -> Iterator[StoredObject]:
        """Yield all objects below the folder, as a client of the bucket lists them."""
        above = f"{self._key}/" if self._key else ""
        with told(self, "listed"):
            for chunk in store.list(prefix=self._key or None):
                for one in chunk:
                    if one["path"].startswith(above):
                        yield _stored(one, one["path"][len(above) :])

    @property
    def _store(self) -> Any:
        return store_of(self._bucket)


AnyPath = Path | ObjectPath


def _stored(meta: Any, name: str) -> StoredObject:
    return StoredObject(name, meta["size"], meta["last_modified"], meta["e_tag"])


def any_path(place: str | AnyPath) -> AnyPath:
    """Return a local path, or the path in an object store that a URI names.

    Example:
        >>> any_path("artifacts"), any_path("s3://bucket/shop")
        (PosixPath('artifacts'), ObjectPath('s3://bucket/shop'))
    """
    if isinstance(place, str):
        return ObjectPath(place) if "://" in place else Path(place)
    return place
