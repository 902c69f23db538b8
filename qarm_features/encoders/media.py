"""Read media by URI, from allowed roots only.

In: a local path, a ``file://`` URI or a URI of a pyarrow filesystem (``s3://``, ``gs://``, ``hdfs://``). Out: at most
``max_bytes`` bytes. The catalog may come from an untrusted source, so a URI must not lead outside the roots: a local path is
opened as ``local_media.py`` says, ``..`` is refused, and credentials and options come from the root, never from the row.
A URI of any form gives a reason and never another error.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from urllib.parse import SplitResult, unquote, urlsplit

from pyarrow import ArrowException
from pyarrow import fs as arrow_fs

from qarm_features.encoders.local_media import local_status, read_bounded, read_local
from qarm_features.fusion.tokens import BrokenContent

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def read_media(uri: str, *, roots: Sequence[str], max_bytes: int, medium: str = "media") -> bytes:
    """Read one medium.

    Args:
        uri: Path or URI of the medium. A relative path is searched under each local root in turn.
        roots: Folders and URI prefixes under which media may be read; an empty sequence allows nothing.
        max_bytes: Greatest size of the file, in bytes; a larger file is refused before it is read.
        medium: ``image`` or ``audio``, the first word of the reason.

    Returns:
        The content of the file.

    Raises:
        BrokenContent: The URI is outside the roots, or the file is missing, is not a regular file, is too large or cannot
            be read.
        ValueError: The root of the URI cannot be opened, so a setting is wrong and not the row.
    """
    _check_characters(uri, medium)
    try:
        if _is_local(uri):
            return read_local(_local_path(uri, medium), _folders(roots), max_bytes, medium)
        return _read_remote(uri, roots, max_bytes, medium)
    except FileNotFoundError:
        raise BrokenContent(f"{medium} does not exist") from None
    except (OSError, ArrowException, UnicodeError):  # their text may hold the URI, which may hold credentials
        raise BrokenContent(f"{medium} cannot be read") from None


def media_bytes(raw: bytes | str, *, roots: Sequence[str], max_bytes: int, medium: str) -> bytes:
    """Return the bytes of a raw value, which holds them or names them by URI.

    Args:
        raw: The bytes, or the URI of a file.
        roots: Folders and URI prefixes under which media may be read.
        max_bytes: Greatest size of the content, in bytes.
        medium: ``image`` or ``audio``, the first word of the reason.

    Returns:
        The content.

    Raises:
        BrokenContent: ``read_media`` refuses the URI, or the value is empty, larger than ``max_bytes`` or of another type.
    """
    if isinstance(raw, str):
        raw = read_media(raw, roots=roots, max_bytes=max_bytes, medium=medium)
    if not isinstance(raw, bytes | bytearray | memoryview):
        raise BrokenContent(f"{medium} is neither bytes nor a URI")
    if len(raw) == 0:
        raise BrokenContent(f"{medium} is empty")
    if len(raw) > max_bytes:
        raise BrokenContent(f"{medium} is larger than {max_bytes} bytes")
    return bytes(raw)


def media_state(uri: str | None, *, roots: Sequence[str]) -> str | None:
    """Return size and time of change of the local file that a URI names, so that a changed file is noticed.

    Args:
        uri: Path or URI of the medium, or None.
        roots: Folders and URI prefixes under which media may be read.

    Returns:
        Size in bytes and time of the last change in nanoseconds, as text; None where the URI is None, is remote, is
        outside the roots, or names no file.
    """
    if uri is None or not _is_local(uri):
        return None
    try:
        _check_characters(uri, "media")
        status = local_status(_local_path(uri, "media"), _folders(roots), "media")
    except (BrokenContent, OSError, UnicodeError):  # reading the file raises the error with its reason
        return None
    return f"{status.st_size} {status.st_mtime_ns}"


def _check_characters(uri: str, medium: str) -> None:
    """Refuse what no name of a file can hold, and in a URI control characters, which ``urlsplit`` would leave out."""
    if "\0" in uri or not uri.strip():
        raise BrokenContent(f"{medium} URI is empty or holds a null character")
    if _SCHEME.match(uri):
        if _CONTROL.search(uri):
            raise BrokenContent(f"{medium} URI holds a control character")
        if "\0" in unquote(uri):
            raise BrokenContent(f"{medium} URI is empty or holds a null character")


def _is_local(uri: str) -> bool:
    return not _SCHEME.match(uri) or uri.lower().startswith("file://")


def _local_path(uri: str, medium: str) -> str:
    if not _SCHEME.match(uri):
        return uri
    place = _split(uri, medium)
    if place.netloc not in ("", "localhost"):
        raise BrokenContent(f"{medium} URI names another computer")
    return unquote(place.path)


def _folders(roots: Sequence[str]) -> list[str]:
    """Return the local roots as real paths. A root is a setting, so one that is no path ends the job."""
    return [
        os.path.realpath(unquote(urlsplit(root).path) if _SCHEME.match(root) else root)
        for root in roots
        if root and _is_local(root)
    ]


def _read_remote(uri: str, roots: Sequence[str], max_bytes: int, medium: str) -> bytes:
    place = _split(uri, medium)
    if place.query or place.fragment or "@" in place.netloc:
        raise BrokenContent(f"{medium} URI holds credentials or options, which belong in media_roots")
    parts = unquote(place.path).split("/")[1:]
    if not {".", "..", ""}.isdisjoint(parts):
        raise BrokenContent(f"{medium} URI is outside media_roots")
    for root in roots:
        if not root or _is_local(root):
            continue
        base = urlsplit(root)
        above = [part for part in unquote(base.path).split("/") if part]
        host = base.netloc.rpartition("@")[2]
        if (base.scheme.lower(), host) == (place.scheme, place.netloc) and parts[: len(above)] == above:
            filesystem, folder = _open_root(root)
            file = "/".join([folder.rstrip("/"), *parts[len(above) :]])
            return _read_arrow(filesystem, file, max_bytes, medium)
    raise BrokenContent(f"{medium} URI is outside media_roots")


def _split(uri: str, medium: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError:
        raise BrokenContent(f"{medium} URI is not a URI") from None


@functools.lru_cache(maxsize=32)
def _open_root(root: str) -> tuple[arrow_fs.FileSystem, str]:
    try:
        return arrow_fs.FileSystem.from_uri(root)
    except (OSError, ArrowException, ValueError) as error:
        place = urlsplit(root)
        shown = f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path}"
        raise ValueError(
            f"encoder.media_roots holds {shown}, must be a place that pyarrow can open. "
            f"Check its spelling, driver and credentials ({type(error).__name__})."
        ) from None


def _read_arrow(filesystem: arrow_fs.FileSystem, file: str, max_bytes: int, medium: str) -> bytes:
    info = filesystem.get_file_info(file)
    if info.type == arrow_fs.FileType.NotFound:
        raise FileNotFoundError(file)
    if info.type != arrow_fs.FileType.File:
        raise BrokenContent(f"{medium} URI is not a file")
    with filesystem.open_input_stream(file, compression=None) as stream:
        return read_bounded(stream, info.size or 0, max_bytes, medium)
