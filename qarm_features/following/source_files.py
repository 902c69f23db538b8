"""The files that arrive in the folders of the catalog and of the click log, as a stream of Spark.

In: the paths that the settings name. Out: a streaming DataFrame with one row per file: its section, URI and time of change.
Spark's checkpoint remembers the files that were taken up. The content is read later, by the readers of ingest. ::

    section       path                          modified (ms since 1970)
    items         file:/shop/items/new.csv      1767225600000
    interactions  file:/shop/log/0815.parquet   1767225601000
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import reduce
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from qarm_features.catalog.reading.some_files import looks_like_pattern
from qarm_features.catalog.reading.source_files import refuse_delta, resolve, shown_path
from qarm_features.settings.load import Settings
from qarm_features.settings.sources import TextSource

_FILES = ("parquet", "csv", "jsonl")
_SCHEMA = "path string, modificationTime timestamp, length long, content binary"
# A file keeps its old time of change where a tool copies it with its attributes, and must be taken up still.
_OPTIONS = {"recursiveFileLookup": "true", "maxFileAge": "36500d"}
_log = logging.getLogger(__name__)


class FollowError(ValueError):
    """Files cannot be followed as the settings ask."""


class SourceFile(NamedTuple):
    """A file that arrived.

    Attributes:
        section: ``items`` or ``interactions``.
        path: Its URI, without escapes.
        modified: Time of its last change, in milliseconds since 1970.
    """

    section: str
    path: str
    modified: int

    @property
    def seen_as(self) -> tuple[str, int]:
        """Path as a person types it and time of change, by which two looks at a file are compared."""
        return shown_path(self.path), self.modified


def arriving_files(spark: SparkSession, settings: Settings) -> DataFrame:
    """Return the stream of the files of both sources. A source that is a table is left out, with a warning.

    Raises:
        FollowError: The catalog consists of no files.
        IngestError: A path names nothing, or files that Spark would not read.
    """
    frames = [_stream(spark, settings, "items", settings.items)]
    if settings.interactions.resolved_format in _FILES:
        frames.append(_stream(spark, settings, "interactions", settings.interactions))
    else:
        _log.warning("WARNING: interactions are no files, so only items are followed. Run for the click log: qarm run")
    return reduce(DataFrame.unionByName, frames)


def _stream(spark: SparkSession, settings: Settings, section: str, source: TextSource) -> DataFrame:
    kind = source.resolved_format
    if kind not in _FILES or source.path is None:
        raise FollowError(
            f"{section}.format is {kind}, must be parquet, csv or jsonl, because qarm follow takes up files. Run for other "
            "sources: qarm run"
        )
    path = settings.path(source.path)
    place = resolve(spark, path, setting=f"{section}.path")
    if kind == "parquet":
        refuse_delta(spark, path, section=section)
    reader = spark.readStream.format("binaryFile").schema(_SCHEMA).options(**_OPTIONS)
    files = reader.option("maxFilesPerTrigger", settings.follow.max_files).load(place)
    # The column content is left out, so that Spark lists the files and reads none.
    return files.select(F.lit(section).alias("section"), "path", F.unix_millis("modificationTime").alias("modified"))


def files_of(batch: DataFrame, ingested: Collection[tuple[str, int]]) -> list[SourceFile]:
    """Return the files of a batch, of which ``follow.max_files`` bounds the number, the oldest first.

    Args:
        batch: Rows of the stream.
        ingested: ``SourceFile.seen_as`` of files whose rows stand in the tables already.
    """
    files = [SourceFile(*row) for row in batch.collect()]
    new = [file for file in files if file.seen_as not in ingested]
    return sorted(new, key=lambda file: (file.modified, file.path))


def read_together(files: Sequence[SourceFile]) -> list[list[SourceFile]]:
    """Divide files into those that one path can name, and files alone whose names look like patterns.

    Example:
        >>> a, b, c = (SourceFile("items", f"file:/shop/{name}.csv", 1) for name in ("a", "b", "c[1]"))
        >>> [len(part) for part in read_together([a, b, c])]
        [2, 1]
    """
    plain = [file for file in files if not looks_like_pattern(file.path)]
    return [*([plain] if plain else []), *([file] for file in files if looks_like_pattern(file.path))]
