"""The header of each CSV file: which field of its records is which column.

In: the first line of each file. Out: a ``CsvFile`` for each file, or one error that names the file and what it lacks.
"""

from __future__ import annotations

import pyarrow as pa

from qarm_features.catalog.reading.csv_columns import Constant, CsvFile
from qarm_features.catalog.reading.csv_records import CsvFormat
from qarm_features.catalog.reading.source_files import partition_values, shown_path
from qarm_features.catalog.reading.source_rows import IngestError, no_such_column
from qarm_features.catalog.reading.survey import Survey
from qarm_features.catalog.reading.text_lines import decode_lines, shown
from qarm_features.settings.sources import TextSource

_OTHER_DELIMITERS = {"\t": "a tab", ";": "a semicolon", ",": "a comma", "|": "a bar", "::": "two colons"}


def csv_files(
    survey: Survey, source: TextSource, form: CsvFormat, columns: tuple[str, ...], *, section: str
) -> dict[str, CsvFile]:
    """Return what is known about each file that has a line.

    Args:
        survey: Result of the first pass.
        source: Section of the settings.
        form: Form of the lines.
        columns: Names of the columns that the settings name.
        section: Name of the section, for messages.

    Raises:
        IngestError: A header cannot be read, names a column twice, or lacks one.
    """
    layouts: dict[tuple[bytes, int, tuple[tuple[str, str | None], ...]], CsvFile] = {}
    files = {}
    for file, (number, first) in sorted(survey.first_lines.items()):
        folders = partition_values(file)
        key = (first, number, tuple(folders.items()))
        if key not in layouts:
            layouts[key] = _file(file, number, first, folders, source, form, columns, section)
        files[file] = layouts[key]
    return files


def _file(
    file: str,
    number: int,
    first: bytes,
    folders: dict[str, str | None],
    source: TextSource,
    form: CsvFormat,
    columns: tuple[str, ...],
    section: str,
) -> CsvFile:
    line = _decoded(first, source.encoding)
    if line is None:
        raise IngestError(
            f"The first line of {shown_path(file)} is not valid in the encoding {source.encoding}: {shown(first[:80])}. Set "
            f"{section}.encoding, for example to latin-1 or utf-16."
        )
    fields = form.split(line)
    if isinstance(fields, str):
        raise IngestError(f"The first line of {shown_path(file)} cannot be read, because {fields}: {line[:80]}")
    fields = [field.strip() for field in fields]
    if source.header is True:
        names = fields
    elif source.header is False:
        names = [str(place) for place in range(1, len(fields) + 1)]
    else:
        names = source.header
        if fields == names:
            raise IngestError(
                f"{shown_path(file)} begins with a header, and {section}.header gives the names of columns. Set "
                f"{section}.header to true."
            )
        if len(fields) != len(names):
            raise IngestError(
                f"The first line of {shown_path(file)} has {len(fields)} fields, and {section}.header names {len(names)}: "
                f"{line[:80]}{_other_delimiter(line, form)}"
            )
    missing = [name for name in columns if name not in names and name not in folders]
    if missing:
        advice = (
            f" If the file has no header, set {section}.header to a list of the names of its columns."
            if source.header is True and len(fields) > 1
            else ""
        )
        raise IngestError(
            f"{no_such_column(section, missing, names)} The file is {shown_path(file)}.{_other_delimiter(line, form)}{advice}"
        )
    twice = [name for name in columns if names.count(name) > 1]
    if twice:
        raise IngestError(
            f"The header of {shown_path(file)} names {', '.join(twice)} twice. Rename one of the columns."
        )
    places = tuple(names.index(name) if name in names else Constant(folders[name]) for name in columns)
    return CsvFile(len(names), places, number if source.header is True else 0)


def _decoded(line: bytes, encoding: str) -> str | None:
    text: str | None = decode_lines(pa.array([line]), encoding)[0].as_py()
    return text and text.removeprefix("\ufeff")


def _other_delimiter(line: str, form: CsvFormat) -> str:
    """Return a hint where another delimiter stands in the line more often than the one of the settings."""
    counts = {other: line.count(other) for other in _OTHER_DELIMITERS}
    best = max(counts, key=lambda other: counts[other] * len(other))
    if counts[best] and form.delimiter not in line:
        return f" The line has {_OTHER_DELIMITERS[best]} between its fields, it seems: set delimiter to {best!r}."
    return ""
