"""The user's rows as they are, from any format.

In: Parquet, Delta, CSV, JSON Lines or a table of Spark's catalog. Out: ``SourceRows``. Values of text formats stay text
until the checks cast them. Where a row cannot be read at all, the private column ``UNREADABLE`` says why.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.catalog.reading.parquet_files import file_path, read_parquet
from qarm_features.catalog.reading.read_text import read_csv, read_json_lines
from qarm_features.catalog.reading.source_files import refuse_delta, resolve
from qarm_features.catalog.reading.source_rows import (
    FILE,
    PRIVATE,
    UNREADABLE,
    IngestError,
    SourceRows,
    no_such_column,
    refuse_private,
)
from qarm_features.settings.sources import InteractionSource, ItemSource, ServedScores, TextSource
from qarm_features.storage.sql_names import column_of, tell_case_apart


def read_source(spark: SparkSession, source: TextSource, path: str | None) -> DataFrame:
    """Read the user's rows without changing them.

    Args:
        spark: Spark session.
        source: Section ``items`` or ``interactions`` of the settings.
        path: ``source.path``, resolved against the folder of the settings. None for a table of Spark's catalog.

    Raises:
        IngestError: The source does not fit the settings.
    """
    return open_source(spark, source, path).frame


def open_source(spark: SparkSession, source: TextSource, path: str | None) -> SourceRows:
    """Read the user's rows, and count the lines of text formats apart from them. The arguments are those of ``read_source``.

    Raises:
        IngestError: The source does not fit the settings.
    """
    kind, section, columns = source.resolved_format, source.section, needed_columns(source)
    if kind == "table":
        assert source.table is not None  # the settings demand either a path or a table
        frame = spark.read.table(source.table)
        refuse_private(section, frame.columns)
        tell_case_apart(spark, frame.columns)
        return SourceRows(_checked(require_columns(frame, source), columns), None)
    assert path is not None
    place = resolve(spark, path, setting=f"{section}.path")
    refuse_private(section, columns)
    tell_case_apart(spark, columns)
    if kind == "csv":
        return read_csv(spark, place, source, columns, section=section)
    if kind == "jsonl":
        vectors = [source.precomputed] if isinstance(source, ItemSource) and source.precomputed else []
        return read_json_lines(spark, place, source, columns, frozenset(vectors), section=section)
    if kind == "parquet":
        refuse_delta(spark, path, section=section)
        frame = read_parquet(spark, place, columns, section)
    else:
        frame = spark.read.format("delta").load(path)
        refuse_private(section, frame.columns)
        frame = frame.withColumn(FILE, file_path(frame))
    return SourceRows(_checked(require_columns(frame, source), columns), None)


def needed_columns(source: TextSource) -> tuple[str, ...]:
    """Return the source columns that the settings name, each once."""
    names: list[str | None] = []
    if isinstance(source, ItemSource):
        names = [source.item_id, source.title, *source.text, source.image, source.audio, source.precomputed]
        names += [source.latest_by, source.deleted]
    elif isinstance(source, InteractionSource):
        names = [source.user_id, source.item_id, source.event_timestamp, source.label, source.order_by]
    elif isinstance(source, ServedScores):
        names = [source.score, source.event_timestamp]
    return tuple(name for name in dict.fromkeys(names) if name)


def require_columns(frame: DataFrame, source: TextSource) -> DataFrame:
    """Return the rows if they have the columns that the settings name.

    Raises:
        IngestError: A column is missing.
    """
    missing = [column for column in needed_columns(source) if column not in frame.columns]
    if missing:
        present = (column for column in frame.columns if column not in PRIVATE)
        raise IngestError(no_such_column(source.section, missing, present))
    return frame


def _checked(frame: DataFrame, columns: tuple[str, ...]) -> DataFrame:
    """Add the reason for rows whose text is not valid UTF-8, which Parquet and Delta do not check."""
    texts = [name for name in columns if isinstance(frame.schema[name].dataType, T.StringType)]
    reasons = [
        F.when(~F.is_valid_utf8(column_of(name)), F.lit(f"the text of {name} is not valid UTF-8")) for name in texts
    ]
    return frame.withColumn(UNREADABLE, F.coalesce(*reasons, F.lit(None).cast("string")))
