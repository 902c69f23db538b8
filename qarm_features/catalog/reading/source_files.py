"""The files at the path of a source: what Spark will read there, and what it would leave out without a word.

In: the path that the settings name. Out: a path that Spark takes as meant, or an error that names the files that Spark
would not read. A path that exists is that path, also where its name looks like a pattern. ::

    movies[1].csv      this file, if it exists; else a pattern that matches movies1.csv
    log/               every file below log; an error if one is hidden, such as log/_b.csv
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from pyspark.sql import SparkSession

from qarm_features.catalog.reading.source_rows import IngestError
from qarm_features.storage.sql_names import one_path

# Left by writers of tables beside their files, and not data.
_MARKERS = re.compile(r"^(_SUCCESS|_committed_.*|_started_.*|_metadata|_common_metadata|.*\.crc|\.DS_Store|\.gitkeep)$")
_UNPACKED_BY_NOBODY = (".zip", ".7z", ".rar", ".tar", ".tgz", ".xz", ".br", ".Z")
_MAX_NAMED = 3


def resolve(spark: SparkSession, path: str, *, setting: str) -> str:
    """Return the path as Spark must be given it.

    Args:
        spark: Spark session.
        path: File, folder, URI or pattern.
        setting: Name of the setting, for messages.

    Raises:
        IngestError: Nothing is at the path, or a file there would not be read.
    """
    system, place = _opened(spark, path)
    exists = system.exists(place)
    roots = [system.getFileStatus(place)] if exists else list(system.globStatus(place) or [])
    if not roots:
        raise IngestError(f"{setting} is {path}, and there is no such file or folder. Correct {setting} in qarm.yaml.")
    hidden, packed = [], []
    for root in roots:
        for name, is_hidden in _files(system, root):
            hidden += [name] if is_hidden else []
            packed += [name] if name.endswith(_UNPACKED_BY_NOBODY) else []
    if hidden:
        raise IngestError(
            f"{setting} is {path}, and Spark does not read files and folders there whose names begin with _ or a dot: "
            f"{_named(hidden)}. Rename them, or move them away if they are no data."
        )
    if packed:
        raise IngestError(
            f"{setting} is {path}, and Spark cannot unpack {_named(packed)}. Unpack the files, or pack them by gzip, bzip2 "
            "or Zstandard."
        )
    return one_path(path) if exists else path


def data_files(spark: SparkSession, path: str) -> list[str]:
    """Return the URIs of the files that Spark reads at a path, in the order of their names.

    Args:
        spark: Spark session.
        path: Path from ``resolve``.
    """
    return sorted(spark.read.option("recursiveFileLookup", "true").text(path).inputFiles())


def as_path(uri: str) -> str:
    r"""Return the URI of a file that Spark listed as a path that Spark takes.

    Example:
        >>> as_path("file:/log/a%5B1%5D.csv")
        'file:/log/a\\[1\\].csv'
    """
    return one_path(unquote(uri))


def refuse_delta(spark: SparkSession, path: str, *, section: str) -> None:
    """Refuse a Delta table as Parquet: its folder also holds files of rows that were deleted.

    Raises:
        IngestError: The path is that of a Delta table.
    """
    system, log = _opened(spark, f"{path.rstrip('/')}/_delta_log")
    if system.exists(log):
        raise IngestError(f"{section}.path is {path}, a Delta table. Set {section}.format to delta.")


def shown_path(uri: str) -> str:
    """Return a URI as a person types it: a local one as a path, without escapes.

    Example:
        >>> shown_path("file:/data/my%20log/a.csv")
        '/data/my log/a.csv'
    """
    return unquote(re.sub(r"^file:(//)?(?=/)", "", uri))


def partition_values(file: str) -> dict[str, str | None]:
    """Return the columns that the folders of a file give, as in ``day=2024-01-01/part.csv``.

    Example:
        >>> partition_values("s3://bucket/log/day=2024-01-01/country=__HIVE_DEFAULT_PARTITION__/part.csv")
        {'day': '2024-01-01', 'country': None}
    """
    values = {}
    for folder in unquote(file).split("/")[:-1]:
        name, equals, value = folder.partition("=")
        if equals and name:
            values[name] = None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)
    return values


def _opened(spark: SparkSession, path: str) -> tuple[Any, Any]:
    """Return Hadoop's file system of a path, and the path as it takes it."""
    place = spark._jvm.org.apache.hadoop.fs.Path(path)  # type: ignore[union-attr]
    return place.getFileSystem(spark._jsc.hadoopConfiguration()), place


def _files(system: Any, root: Any) -> list[tuple[str, bool]]:
    """List the names of the files below a root that are no markers, with True for those that Spark leaves out."""
    top = root.getPath().toUri().getPath()
    found = []
    if root.isFile():
        return [(top, is_hidden(top.rsplit("/", 1)[-1]))]
    entries = system.listFiles(root.getPath(), True)
    while entries.hasNext():
        entry = entries.next()
        if entry.getLen() == 0:
            continue
        path = entry.getPath().toUri().getPath()
        parts = path.removeprefix(top).strip("/").split("/")
        if not _MARKERS.match(parts[-1]) and not any(_temporary(part) for part in parts[:-1]):
            found.append((path, any(is_hidden(part) for part in parts)))
    return found


def is_hidden(name: str) -> bool:
    """Return True for the name of a file or folder that Spark does not read."""
    return (name.startswith("_") and "=" not in name) or name.startswith(".") or name.endswith("._COPYING_")


def _temporary(folder: str) -> bool:
    return folder in ("_temporary", "_delta_log") or folder.startswith((".hive-staging", "_spark_metadata"))


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED:,} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more
