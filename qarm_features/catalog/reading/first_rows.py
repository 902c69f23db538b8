"""The first rows of a source, for a trial that does not read the whole of it.

In: a source of the user. Out: ``FirstRows``: rows as ``open_source`` gives them. The first lines of a few text files are
copied to a folder, and are read there as the whole files would be. ::

    log/day=2024-01-05/a.csv.gz  ->  FOLDER/0/day=2024-01-05/a.csv    the first lines of the first file
    log/day=2024-03-09/z.csv.gz  ->  FOLDER/4/day=2024-03-09/z.csv    the first lines of the last file
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pyspark.sql import DataFrame, Row, SparkSession

from qarm_features.catalog.reading.csv_records import CsvFormat
from qarm_features.catalog.reading.read_source import open_source
from qarm_features.catalog.reading.source_files import as_path, data_files, resolve, shown_path
from qarm_features.catalog.reading.source_rows import IngestError
from qarm_features.catalog.reading.text_lines import read_lines, reads_whole_files
from qarm_features.settings.sources import PACKED, TextSource

MAX_ROWS = 1000  # rows of a table, and lines of each text file
MAX_FILES = 5
_LONGEST_RECORD = 100  # lines; an earlier quote is one that is never closed


class FirstRows(NamedTuple):
    """Rows at the start of a source.

    Attributes:
        frame: The user's columns and the private columns of the format.
        files: Number of text files whose first lines were read; None for other formats.
        all_files: Number of text files of the source; None for other formats.
        is_whole: Whether these are all rows of the source.
        places: Paths of the files, by those of their copies.
    """

    frame: DataFrame
    files: int | None
    all_files: int | None
    is_whole: bool
    places: dict[str, str]


def first_rows(spark: SparkSession, source: TextSource, path: str | None, folder: Path) -> FirstRows:
    """Read the first rows of a source.

    Args:
        spark: Spark session.
        source: Section ``items`` or ``interactions`` of the settings.
        path: ``source.path``, resolved against the folder of the settings. None for a table of Spark's catalog.
        folder: Empty folder for copies of the first lines of text files, which the caller removes.

    Raises:
        IngestError: The source does not fit the settings.
    """
    if source.resolved_format not in ("csv", "jsonl"):
        frame = open_source(spark, source, path).frame
        rows: Sequence[Row] = frame.take(MAX_ROWS + 1)  # it reads no more partitions than it needs
        few = spark.createDataFrame(rows[:MAX_ROWS], frame.schema)
        return FirstRows(few, None, None, len(rows) <= MAX_ROWS, {})
    assert path is not None
    if reads_whole_files(source.encoding):
        opened = open_source(spark, source, path)
        return FirstRows(opened.frame, None, None, True, {})
    files = data_files(spark, resolve(spark, path, setting=f"{source.section}.path"))
    tried = _spread(files)
    is_whole, places = len(tried) == len(files), {}
    for number, file in enumerate(tried):
        lines = read_lines(spark, as_path(file), source.encoding).take(MAX_ROWS + 1)
        values = [bytes(line["value"]) for line in lines]
        if len(values) > MAX_ROWS:
            is_whole, values = False, _whole_records(values[:MAX_ROWS], source)
        copy = folder / str(number) / _below(file)
        copy.parent.mkdir(parents=True)
        copy.write_bytes(b"".join(line + b"\n" for line in values))
        places[str(copy)] = shown_path(file)
    if not tried:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        opened = open_source(spark, source, str(folder))
    except IngestError as error:
        raise IngestError(_with_places(str(error), places)) from None
    return FirstRows(opened.frame, len(tried), len(files), is_whole, places)


def place_of(rows: FirstRows, row: Row) -> str:
    """Return the file and line of a rejected row as a person types them; empty where the source has no files.

    Args:
        rows: The rows that were tried.
        row: Row with ``file`` and ``line``.
    """
    if row["file"] is None:
        return ""
    file = shown_path(row["file"])
    file = rows.places.get(file, file)
    return f"{file}, line {row['line']:,}" if row["line"] is not None else file


def _with_places(text: str, places: dict[str, str]) -> str:
    for copy, file in places.items():
        text = text.replace(copy, file)
    return text


def _spread(files: list[str]) -> list[str]:
    """Return at most MAX_FILES files at equal distances, the first and the last among them."""
    if len(files) <= MAX_FILES:
        return files
    return [files[number * (len(files) - 1) // (MAX_FILES - 1)] for number in range(MAX_FILES)]


def _below(file: str) -> Path:
    """Return the folders of a file that give columns, and its name without the ending of a packed file."""
    *folders, name = shown_path(file).split("/")
    for ending in PACKED:
        name = name.removesuffix(ending)
    return Path(*[folder for folder in folders if "=" in folder], name)


def _whole_records(lines: list[bytes], source: TextSource) -> list[bytes]:
    """Return the first lines of a file without a record at their end that goes on after them."""
    if source.resolved_format != "csv" or source.quote is None:
        return lines
    form = CsvFormat(source.resolved_delimiter, source.quote)
    text = [line.decode(errors="replace") for line in lines]
    for number in range(len(text) - 1, max(0, len(text) - _LONGEST_RECORD), -1):
        if form.is_open(text[number]):
            return lines[:number] if form.is_open("\n".join(text[number:])) else lines
    return lines
