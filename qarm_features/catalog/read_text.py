"""CSV and JSON Lines become rows of text, each with its place in its file.

In: the path of a source. Out: one string column for each column that the settings name, and the private columns. The files
are read twice. The first pass counts the lines of each block and finds out what the second must know: the header of each
file, and which files have records over several lines. Those files are read by one task each; all others are split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from qarm_features.catalog import csv_columns, json_columns
from qarm_features.catalog.csv_columns import CsvFile, Parsed
from qarm_features.catalog.csv_headers import csv_files
from qarm_features.catalog.csv_records import CsvFormat
from qarm_features.catalog.source_files import partition_values, shown_path
from qarm_features.catalog.source_rows import FILE, LINE, LINES, RAW, UNREADABLE, IngestError, SourceRows
from qarm_features.catalog.survey import Survey, survey_files, without_mark
from qarm_features.catalog.text_lines import Run, decode_lines, read_lines, runs
from qarm_features.settings.sections import Source

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
Parse = Callable[[Run, int], Iterable[Parsed]]


def read_csv(spark: SparkSession, path: str, source: Source, columns: tuple[str, ...], *, section: str) -> SourceRows:
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
    lines = read_lines(spark, path, encoding)
    survey = survey_files(lines, encoding=encoding, form=form)
    _require_text(survey, source, section)
    files = csv_files(survey, source, form, columns, section=section)
    open_files, before = survey.open_files, survey.lines_before

    def single(run: Run, first: int) -> Iterable[Parsed]:
        if run.file in open_files:
            return ()
        text = _text(run, first, encoding)
        return csv_columns.parse_lines(run.lines, text, first, files[run.file], form, invalid=invalid)

    rows = _rows(lines, single, columns, before)
    if open_files:
        rows = rows.unionAll(_rows_of_open_files(lines, files, survey, form, encoding, invalid, columns))
    headers = sum(1 for file in files.values() if file.header_line)
    return SourceRows(rows, survey.filled - headers)


def read_json_lines(
    spark: SparkSession, path: str, source: Source, columns: tuple[str, ...], as_json: frozenset[str], *, section: str
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
    lines = read_lines(spark, path, encoding)
    survey = survey_files(lines, encoding=encoding, form=None)
    _require_text(survey, source, section)
    for file, (_, first) in survey.first_lines.items():
        if first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            raise IngestError(
                f"{shown_path(file)} is one JSON array, and {section}.format is jsonl: one object on each line. Convert "
                "it, for example by: jq -c '.[]'"
            )
    _require_keys(lines, survey, encoding, columns, section)
    before = survey.lines_before

    def parse(run: Run, first: int) -> Iterable[Parsed]:
        numbers = range(first, first + len(run.lines))
        triples = zip(numbers, _text(run, first, encoding).to_pylist(), run.lines.to_pylist())
        folders = partition_values(run.file)
        return [json_columns.parse_lines(triples, columns, as_json=as_json, folders=folders, invalid=invalid)]

    return SourceRows(_rows(lines, parse, columns, before), survey.filled)


def _require_keys(lines: DataFrame, survey: Survey, encoding: str, columns: tuple[str, ...], section: str) -> None:
    folders = {name for file in survey.first_lines for name in partition_values(file)}
    present = set(survey.keys)
    if survey.filled and not {*columns} <= present | folders:
        present = set(survey_files(lines, encoding=encoding, form=None, all_keys=True).keys)
        if missing := [name for name in columns if name not in present | folders]:
            raise IngestError(
                f"The source of {section} has no column {', '.join(missing)}. Present: {', '.join(sorted(present))}. "
                f"Change {section}: in qarm.yaml."
            )


def _require_text(survey: Survey, source: Source, section: str) -> None:
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


def _rows_of_open_files(
    lines: DataFrame,
    files: dict[str, CsvFile],
    survey: Survey,
    form: CsvFormat,
    encoding: str,
    invalid: str,
    columns: tuple[str, ...],
) -> DataFrame:
    """Read the files that have records over several lines: one task reads all lines of a file in their order."""
    open_files, before = survey.open_files, survey.lines_before

    def number(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for run in runs(batches):
            if run.file in open_files:
                first = _first_number(run, before)
                numbers = pa.array(range(first, first + len(run.lines)), pa.int64())
                names = pa.repeat(run.file, len(run.lines))
                yield pa.RecordBatch.from_arrays([names, numbers, run.lines], ["file", "line", "value"])

    def parse(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for file, triples in _by_file(batches, encoding):
            for parsed in csv_columns.parse_file(triples, files[file], form, invalid=invalid):
                yield _batch(parsed, file, columns)

    numbered = lines.mapInArrow(number, "file string, line long, value binary")
    # A file is too large a unit to spread by hash alone where there are few: each gets a partition of its own if it can.
    sorted_lines = numbered.repartition(min(len(open_files), 200), "file").sortWithinPartitions("file", "line")
    return sorted_lines.mapInArrow(parse, _schema(columns))


def _by_file(
    batches: Iterator[pa.RecordBatch], encoding: str
) -> Iterator[tuple[str, Iterator[tuple[int, str | None, bytes]]]]:
    """Group sorted lines by file, without holding a file in memory."""
    import itertools

    def each() -> Iterator[tuple[str, int, str | None, bytes]]:
        for batch in batches:
            text = decode_lines(batch["value"], encoding).to_pylist()
            yield from zip(batch["file"].to_pylist(), batch["line"].to_pylist(), text, batch["value"].to_pylist())

    for file, lines in itertools.groupby(each(), key=lambda line: line[0]):
        yield file, ((number, _unmarked(text, number), value) for _, number, text, value in lines)


def _rows(lines: DataFrame, parse: Parse, columns: tuple[str, ...], before: dict[tuple[str, int], int]) -> DataFrame:
    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for run in runs(batches):
            for parsed in parse(run, _first_number(run, before)):
                yield _batch(parsed, run.file, columns)

    return lines.mapInArrow(read, _schema(columns))


def _first_number(run: Run, before: dict[tuple[str, int], int]) -> int:
    """Return the number of a run's first line in its file, from 1."""
    try:
        return before[run.file, run.block] + run.start + 1
    except KeyError:
        raise IngestError(f"{shown_path(run.file)} changed while it was read. Run the job again.") from None


def _text(run: Run, first: int, encoding: str) -> pa.Array:
    text = decode_lines(run.lines, encoding)
    return without_mark(text) if first == 1 and len(text) else text


def _unmarked(text: str | None, number: int) -> str | None:
    return text.removeprefix("\ufeff") if text is not None and number == 1 else text


def _batch(parsed: Parsed, file: str, columns: tuple[str, ...]) -> pa.RecordBatch:
    files = pa.repeat(file, len(parsed.raw))
    arrays = [*parsed.columns, parsed.raw, parsed.unreadable, files, parsed.line, parsed.lines]
    return pa.RecordBatch.from_arrays(arrays, [*columns, RAW, UNREADABLE, FILE, LINE, LINES])


def _schema(columns: tuple[str, ...]) -> str:
    own = "".join("`{}` string, ".format(name.replace("`", "``")) for name in columns)
    return f"{own}{RAW} string, {UNREADABLE} string, {FILE} string, {LINE} long, {LINES} int"


def _not_valid(source: Source) -> str:
    return f"the line is not valid in the encoding {source.encoding}"
