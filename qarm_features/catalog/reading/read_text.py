"""CSV and JSON Lines become rows of text, each with its place in its file.

In: the path of a source. Out: one string column for each column that the settings name, and the private columns. The files
are read twice. The first pass counts the lines of each block and finds out what the second must know: the header of each
file, and which files have records over several lines. Such a file is read by one task; all others are split.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from qarm_features.catalog.reading import csv_columns, json_columns
from qarm_features.catalog.reading.csv_columns import CsvFile, Parsed
from qarm_features.catalog.reading.csv_headers import csv_files
from qarm_features.catalog.reading.csv_records import CsvFormat
from qarm_features.catalog.reading.source_files import partition_values, shown_path
from qarm_features.catalog.reading.source_rows import (
    FILE,
    LINE,
    LINES,
    RAW,
    UNREADABLE,
    IngestError,
    SourceRows,
    no_such_column,
)
from qarm_features.catalog.reading.survey import Survey, survey_files, without_mark
from qarm_features.catalog.reading.text_lines import Run, decode_lines, read_lines, runs
from qarm_features.settings.sources import TextSource
from qarm_features.storage.sql_names import ddl

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_MAX_PARTITIONS = 200
Lines = tuple[int, pa.Array, pa.Array]  # number of the first line, bytes of the lines, decoded lines
Parse = Callable[[str, Iterator[Lines]], Iterable[Parsed]]


def read_csv(
    spark: SparkSession, path: str, source: TextSource, columns: tuple[str, ...], *, section: str
) -> SourceRows:
    """Read CSV files by the header of each file.

    Args:
        spark: Spark session.
        path: Path that Spark takes.
        source: Section of the settings.
        columns: Names of the columns that the settings name.
        section: Name of the section, for messages.

    Raises:
        IngestError: A file lacks one of the columns, or is not what the settings say.
    """
    form = CsvFormat(source.resolved_delimiter, source.quote)
    encoding, invalid = source.encoding, _not_valid(source)
    lines, survey = _surveyed(spark, path, source, form, section)
    files = csv_files(survey, source, form, columns, section=section)
    before = survey.lines_before
    blocks = Counter(file for file, _ in before)
    # A record may extend from one block into the next, so a file of several blocks is put together again.
    cut_open = frozenset(file for file in survey.open_files if blocks[file] > 1)

    def parse(file: str, batches: Iterator[Lines]) -> Iterable[Parsed]:
        return () if file in cut_open else csv_columns.parse(batches, files[file], form, invalid=invalid)

    rows = _rows(lines, parse, columns, before, encoding)
    if cut_open:
        rows = rows.unionAll(_rows_of_cut_files(lines, cut_open, files, before, form, encoding, invalid, columns))
    headers = sum(1 for file in files.values() if file.header_line)
    return SourceRows(rows, survey.filled - headers)


def read_json_lines(
    spark: SparkSession,
    path: str,
    source: TextSource,
    columns: tuple[str, ...],
    as_json: frozenset[str],
    *,
    section: str,
) -> SourceRows:
    """Read JSON Lines.

    Args:
        spark: Spark session.
        path: Path that Spark takes.
        source: Section of the settings.
        columns: Names of the columns that the settings name.
        as_json: Names of the columns whose lists stay JSON.
        section: Name of the section, for messages.

    Raises:
        IngestError: No object has one of the columns, or a file is not JSON Lines.
    """
    encoding, invalid = source.encoding, _not_valid(source)
    lines, survey = _surveyed(spark, path, source, None, section)
    for file, (_, first) in survey.first_lines.items():
        if first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            raise IngestError(
                f"{shown_path(file)} is one JSON array, and {section}.format is jsonl: one object on each line. Convert "
                "it, for example by: jq -c '.[]'"
            )
    _require_keys(lines, survey, encoding, columns, section)
    before = survey.lines_before

    def parse(file: str, batches: Iterator[Lines]) -> Iterable[Parsed]:
        folders = partition_values(file)
        for first, raw, text in batches:
            lines_of_batch = zip(range(first, first + len(raw)), text.to_pylist(), raw.to_pylist())
            yield json_columns.parse_lines(lines_of_batch, columns, as_json=as_json, folders=folders, invalid=invalid)

    return SourceRows(_rows(lines, parse, columns, before, encoding), survey.filled)


def _surveyed(
    spark: SparkSession, path: str, source: TextSource, form: CsvFormat | None, section: str
) -> tuple[DataFrame, Survey]:
    """Read all lines once, and refuse files that are no text of the encoding. ``form`` is None for JSON Lines."""
    lines = read_lines(spark, path, source.encoding)
    survey = survey_files(lines, encoding=source.encoding, form=form)
    _require_text(survey, source, section)
    return lines, survey


def _require_keys(lines: DataFrame, survey: Survey, encoding: str, columns: tuple[str, ...], section: str) -> None:
    folders = {name for file in survey.first_lines for name in partition_values(file)}
    present = set(survey.keys)
    if survey.filled and not {*columns} <= present | folders:
        present = set(survey_files(lines, encoding=encoding, form=None, all_keys=True).keys)
        if missing := [name for name in columns if name not in present | folders]:
            raise IngestError(no_such_column(section, missing, sorted(present)))


def _require_text(survey: Survey, source: TextSource, section: str) -> None:
    for file, (_, first) in survey.first_lines.items():
        if first.startswith((_GZIP, _ZSTD)):
            kind, suffix = ("gzip", ".gz") if first.startswith(_GZIP) else ("Zstandard", ".zst")
            raise IngestError(f"{shown_path(file)} is packed by {kind}, so its name must end with {suffix}. Rename it.")
        if first.startswith(b"PAR1"):
            raise IngestError(f"{shown_path(file)} is a Parquet file. Set {section}.format to parquet.")
        if first.startswith((b"\xff\xfe", b"\xfe\xff")) and not source.encoding.lower().startswith(
            ("utf-16", "utf-32")
        ):
            raise IngestError(
                f"{shown_path(file)} begins with the mark of UTF-16, and {section}.encoding is {source.encoding}. Set "
                f"{section}.encoding to utf-16."
            )


def _rows(
    lines: DataFrame, parse: Parse, columns: tuple[str, ...], before: dict[tuple[str, int], int], encoding: str
) -> DataFrame:
    """Read each block by itself."""

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for (file, _), of_block in itertools.groupby(runs(batches), key=lambda run: (run.file, run.block)):
            numbered = ((_first_number(run, before), run.lines) for run in of_block)
            for parsed in parse(file, _decoded(numbered, encoding)):
                yield _batch(parsed, file, columns)

    return lines.mapInArrow(read, _schema(columns))


def _rows_of_cut_files(
    lines: DataFrame,
    cut_open: frozenset[str],
    files: dict[str, CsvFile],
    before: dict[tuple[str, int], int],
    form: CsvFormat,
    encoding: str,
    invalid: str,
    columns: tuple[str, ...],
) -> DataFrame:
    """Read files of several blocks that have records over several lines: one task reads each, in its order."""

    def number(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for run in runs(batches):
            if run.file in cut_open:
                first = _first_number(run, before)
                numbers = pa.array(np.arange(first, first + len(run.lines)))
                yield pa.RecordBatch.from_arrays(
                    [pa.repeat(run.file, len(run.lines)), numbers, run.lines], ["file", "line", "value"]
                )

    def parse(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for file, of_file in itertools.groupby(_by_file(batches), key=lambda entry: entry[0]):
            numbered = ((first, raw) for _, first, raw in of_file)
            for parsed in csv_columns.parse(_decoded(numbered, encoding), files[file], form, invalid=invalid):
                yield _batch(parsed, file, columns)

    numbered = lines.mapInArrow(number, "file string, line long, value binary")
    in_order = numbered.repartition(min(len(cut_open), _MAX_PARTITIONS), "file").sortWithinPartitions("file", "line")
    return in_order.mapInArrow(parse, _schema(columns))


def _by_file(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[str, int, pa.Array]]:
    """Cut sorted lines where another file begins: its URI, the number of the first line, and the lines."""
    for batch in batches:
        if batch.num_rows:
            ends = pc.run_end_encode(batch["file"]).run_ends.to_pylist()
            for start, end in itertools.pairwise([0, *ends]):
                yield (
                    batch["file"][start].as_py(),
                    batch["line"][start].as_py(),
                    batch["value"].slice(start, end - start),
                )


def _decoded(numbered: Iterable[tuple[int, pa.Array]], encoding: str) -> Iterator[Lines]:
    for first, raw in numbered:
        text = decode_lines(raw, encoding)
        yield first, raw, without_mark(text) if first == 1 else text


def _first_number(run: Run, before: dict[tuple[str, int], int]) -> int:
    """Return the number of a run's first line in its file, from 1."""
    try:
        return before[run.file, run.block] + run.start + 1
    except KeyError:
        raise IngestError(f"{shown_path(run.file)} changed while it was read. Run the job again.") from None


def _batch(parsed: Parsed, file: str, columns: tuple[str, ...]) -> pa.RecordBatch:
    files = pa.repeat(file, len(parsed.raw))
    arrays = [*parsed.columns, parsed.raw, parsed.unreadable, files, parsed.line, parsed.lines]
    return pa.RecordBatch.from_arrays(arrays, [*columns, RAW, UNREADABLE, FILE, LINE, LINES])


def _schema(columns: tuple[str, ...]) -> str:
    texts = [(name, "string") for name in (*columns, RAW, UNREADABLE, FILE)]
    return ddl([*texts, (LINE, "long"), (LINES, "int")])


def _not_valid(source: TextSource) -> str:
    return f"the line is not valid in the encoding {source.encoding}"
