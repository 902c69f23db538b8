"""The fingerprint of a project: a random name that tells its published views from those of every other project.

In: the place of the tables and the folder of the artifacts. Out: 16 hexadecimal digits, made once. They are kept in the
warehouse, as a Delta table of one row, and beside the artifacts. A project that is moved keeps its fingerprint. A settings
file that is copied and names other tables gets another one.
"""

from __future__ import annotations

import json
import logging
import uuid

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from qarm_features.storage.json_files import write_json
from qarm_features.storage.objects import AnyPath

_TABLE, _RECORD = "project_fingerprint", "project.json"
_log = logging.getLogger(__name__)


def find_fingerprint(root: str, artifacts: AnyPath, *, name: str) -> str | None:
    """Return the fingerprint of a project; None if it has published nothing yet.

    Args:
        root: Folder or URI of the tables.
        artifacts: Folder of the artifacts.
        name: The tables' place as the settings name it, so that a moved project finds its record.
    """
    return _stored(root) or _records(artifacts).get(name)


def project_fingerprint(root: str, artifacts: AnyPath, *, name: str) -> str:
    """Return the fingerprint of a project, and make it if there is none.

    What the warehouse holds is right. Where the tables were deleted and made again, the record beside the artifacts is.

    Args:
        root: Folder or URI of the tables.
        artifacts: Folder of the artifacts.
        name: The tables' place as the settings name it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> made = project_fingerprint(str(folder / "data"), folder / "artifacts", name="data")
        >>> made == project_fingerprint(str(folder / "data"), folder / "artifacts", name="data")
        True
    """
    fingerprint = _stored(root) or _store(root, _records(artifacts).get(name) or uuid.uuid4().hex[:16])
    _record(artifacts, name, fingerprint)
    return fingerprint


def adopt_fingerprint(root: str, artifacts: AnyPath, fingerprint: str, *, name: str) -> None:
    """Give a project the fingerprint of an earlier one, which it continues.

    Args:
        root: Folder or URI of the tables.
        artifacts: Folder of the artifacts.
        fingerprint: Fingerprint of the earlier project.
        name: The tables' place as the settings name it.
    """
    write_deltalake(_path(root), _rows(fingerprint), mode="overwrite")
    _record(artifacts, name, fingerprint)


def _stored(root: str) -> str | None:
    """Return what the warehouse holds; None also if this machine cannot read it, so that the record has the word."""
    try:
        if not DeltaTable.is_deltatable(_path(root)):
            return None
        rows: list[str] = DeltaTable(_path(root)).to_pyarrow_table()["fingerprint"].to_pylist()
    except (DeltaError, OSError) as error:
        _log.warning("The project's fingerprint could not be read from %s (%s).", _path(root), type(error).__name__)
        return None
    return rows[0] if rows else None


def _store(root: str, fingerprint: str) -> str:
    """Write a fingerprint where none is, and return the one that is there then."""
    try:
        write_deltalake(_path(root), _rows(fingerprint), mode="error")
    except (DeltaError, OSError) as error:
        stored = _stored(root)  # another process may have been faster
        if stored is None:
            _log.warning(
                "The project's fingerprint could not be written to %s (%s). It is kept beside the artifacts alone.",
                _path(root),
                type(error).__name__,
            )
        return stored or fingerprint
    return fingerprint


def _rows(fingerprint: str) -> pa.Table:
    return pa.table({"fingerprint": [fingerprint]})


def _path(root: str) -> str:
    return f"{root.rstrip('/')}/{_TABLE}"


def _records(artifacts: AnyPath) -> dict[str, str]:
    path = artifacts / _RECORD
    found: dict[str, str] = json.loads(path.read_text())["fingerprints"] if path.is_file() else {}
    return found


def _record(artifacts: AnyPath, name: str, fingerprint: str) -> None:
    records = _records(artifacts)
    if records.get(name) != fingerprint:
        write_json(artifacts / _RECORD, {"fingerprints": {**records, name: fingerprint}})
