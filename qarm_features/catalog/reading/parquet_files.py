"""Parquet files are read after a look at the schema of each: a column that one file lacks would be null without a word.

In: a path that Spark takes. Out: rows. Timestamps in nanoseconds, as pandas writes them, become Spark's, in microseconds.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Any, NamedTuple
from urllib.parse import quote

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.catalog.reading.source_files import as_path, partition_values, shown_path
from qarm_features.catalog.reading.source_rows import FILE, IngestError, refuse_private
from qarm_features.storage.sql_names import column_of, tell_case_apart

_NANOS_AS_LONG = "spark.sql.legacy.parquet.nanosAsLong"
_READERS = 16  # footers that are read at once
_ALL_NULL = "null"  # the type of a column that pandas wrote without a value
# A line of a file's schema, such as "  optional binary my title (STRING) = 2;".
_FIELD = re.compile(
    r"^ *(?:required|optional|repeated) (?:group|int32|int64|int96|boolean|float|double|binary|fixed_len_byte_array\(\d+\)) "
    r"(.*?)(?: \([A-Z].*\))?(?: = \d+)?(?: \{|;)$",
    re.MULTILINE,
)
_TIMES = (T.TimestampType, T.TimestampNTZType)


def read_parquet(spark: SparkSession, path: str, columns: tuple[str, ...], section: str) -> DataFrame:
    """Read Parquet files.

    Args:
        spark: Spark session.
        path: File, folder (with all folders below it) or pattern.
        columns: Names of the columns that the settings name.
        section: Name of the section, for messages.

    Returns:
        The columns of the files, or those that the settings name if the files differ, and the URI of each row's file.

    Raises:
        IngestError: A column is missing in some files only, or has another type in some, or has the name of a private one.
    """
    reader = spark.read.option("recursiveFileLookup", "true")
    files = reader.text(path).inputFiles()
    if not files:
        raise IngestError(f"{section}.path is {shown_path(path)}, and there is no file in it.")
    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(lambda file: _types(spark, file, columns), files))
    if any(types.has_nanos for types in found):
        spark.conf.set(_NANOS_AS_LONG, "true")
    for types in set(found):
        tell_case_apart(spark, types.names)
    _require_in_all(files, found, columns, section)
    groups: dict[tuple[str | None, ...], list[str]] = {}
    for file, types in zip(files, found):
        groups.setdefault(types.of_columns, []).append(file)
    if len(groups) == 1:
        frame = reader.parquet(path)
        refuse_private(section, frame.columns)
        frame = _in_micros(frame, columns, next(iter(groups)))
        return frame.withColumn(FILE, file_path(frame))
    frames = [_group(reader.parquet(*map(as_path, group)), columns, types) for types, group in groups.items()]
    _require_same_kind(frames, groups, columns, section)
    return reduce(DataFrame.unionByName, frames)


def _group(frame: DataFrame, columns: tuple[str, ...], types: tuple[str | None, ...]) -> DataFrame:
    """Return the columns of files that have one type for each, and the URI of the file."""
    frame = _in_micros(frame, columns, types)
    values = [column_of(name) if kind != _ALL_NULL else F.lit(None).alias(name) for name, kind in zip(columns, types)]
    return frame.select(*values, file_path(frame).alias(FILE))


def file_path(frame: DataFrame) -> Column:
    """Return the URI of the file of each row, which Spark adds. A column of the files may have the name ``_metadata`` too."""
    return frame.metadataColumn("_metadata")["file_path"]


class _Types(NamedTuple):
    """Types of the columns in one file.

    Attributes:
        of_columns: Types of the columns that the settings name; None for a column that the file lacks.
        has_nanos: True if any column holds timestamps in nanoseconds.
        names: Names of all columns and fields.
    """

    of_columns: tuple[str | None, ...]
    has_nanos: bool
    names: tuple[str, ...]


def _types(spark: SparkSession, file: str, columns: tuple[str, ...]) -> _Types:
    jvm: Any = spark._jvm
    place = jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(file))
    entry = jvm.org.apache.parquet.hadoop.util.HadoopInputFile.fromPath(place, spark._jsc.hadoopConfiguration())
    try:
        opened = jvm.org.apache.parquet.hadoop.ParquetFileReader.open(entry)
    except Exception as error:
        raise IngestError(
            f"{shown_path(file)} cannot be read as Parquet. It is cut off, or in another format."
        ) from error
    try:
        schema = opened.getFooter().getFileMetaData().getSchema()
        types = [
            _without_name(schema.getType(schema.getFieldIndex(name)).toString(), name)
            if schema.containsField(name)
            else None
            for name in columns
        ]
        text = schema.toString()
        return _Types(
            tuple(types), "TIMESTAMP(NANOS" in text, tuple(sorted({found[1] for found in _FIELD.finditer(text)}))
        )
    finally:
        opened.close()


def _without_name(text: str, name: str) -> str:
    """Return the type of a field, with its name and whether it may be null left out."""
    kind = re.sub(r"^(required|optional|repeated) ", "", text.replace(f" {name}", "", 1))
    return _ALL_NULL if "(UNKNOWN)" in kind else re.sub(r"\b(required|optional) ", "", kind)


def _require_in_all(files: list[str], found: list[_Types], columns: tuple[str, ...], section: str) -> None:
    for place, name in enumerate(columns):
        lacking = [file for file, types in zip(files, found) if types.of_columns[place] is None]
        folders = partition_values(lacking[0]) if lacking else {}
        if lacking and len(lacking) < len(files) and name not in folders:
            raise IngestError(
                f"{shown_path(lacking[0])} has no column {name}, which other files of {section}.path have ({len(lacking):,} "
                f"of {len(files):,} files lack it). Add the column, or move the file away."
            )


def _require_same_kind(
    frames: list[DataFrame], groups: dict[tuple[str | None, ...], list[str]], columns: tuple[str, ...], section: str
) -> None:
    examples = [group[0] for group in groups.values()]
    for name in columns:
        kinds = [frame.schema[name].dataType for frame in frames]
        first = next((kind for kind in kinds if not isinstance(kind, T.NullType)), kinds[0])
        for kind, file in zip(kinds, examples):
            numbers = isinstance(kind, T.NumericType) and isinstance(first, T.NumericType)
            times = isinstance(kind, _TIMES) and isinstance(first, _TIMES)
            if not (isinstance(kind, T.NullType) or kind == first or numbers or times):
                other = examples[kinds.index(first)]
                raise IngestError(
                    f"The column {name} of {section} has type {kind.simpleString()} in {shown_path(file)} and "
                    f"{first.simpleString()} in {shown_path(other)}. Write the files with one type."
                )


def _in_micros(frame: DataFrame, columns: tuple[str, ...], types: tuple[str | None, ...]) -> DataFrame:
    """Turn timestamps in nanoseconds, which Spark reads as integers, into timestamps, and add columns that folders give."""
    for name, kind in zip(columns, types):
        if kind is None and name not in frame.columns:
            value = F.regexp_extract(file_path(frame), f"/{re.escape(quote(name))}=([^/]*)/", 1)
            known = (value != "") & (value != "__HIVE_DEFAULT_PARTITION__")
            is_there = any(name in partition_values(file) for file in frame.inputFiles()[:1])
            frame = frame.withColumn(name, F.when(known, F.url_decode(F.url_decode(value)))) if is_there else frame
        elif kind is not None and "TIMESTAMP(NANOS" in kind and kind.startswith("int64"):
            nanos = column_of(name)
            micros = F.call_function("div", nanos - F.pmod(nanos, F.lit(1000)), F.lit(1000))
            frame = frame.withColumn(name, F.timestamp_micros(micros))
    return frame
