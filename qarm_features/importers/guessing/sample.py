"""The first megabytes of a file of unknown form, as columns of text.

In: a CSV, TSV, JSON Lines or Parquet file, maybe packed, or a folder of them. Out: the columns of its first rows, and the
settings by which the file is read.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from qarm_features.importers.guessing.delimited import csv_columns, split_rows
from qarm_features.importers.lines import PACKED, unpacked
from qarm_features.importers.objects import as_text, parsed_json, text_at
from qarm_features.importers.plan import ImportFailed, Setting
from qarm_features.importers.source_files import plain_name

SAMPLE_BYTES = 4 * 2**20
_SAMPLE_ROWS = 20_000
_TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".dat", ".txt")
_OBJECT_SUFFIXES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Sample:
    """The first rows of a file.

    Attributes:
        path: File or folder that was named.
        columns: Values of each column as text, None where there is none; all columns are equally long.
        lists: Names of the columns of lists or objects.
        binary: Names of the columns of bytes.
        typed: Kind of a column that has a type, ``integer``, ``float``, ``timestamp`` or ``text``.
        settings: Settings of the source, such as ``delimiter``.
        rows: Number of rows of the sample.
        whole: Whether the sample is the whole source.
        total: Number of rows of the source, estimated where ``whole`` is false.
        is_objects: Whether the source is JSON Lines.
    """

    path: Path
    columns: dict[str, list[str | None]]
    lists: frozenset[str] = frozenset()
    binary: frozenset[str] = frozenset()
    typed: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Setting] = field(default_factory=dict)
    rows: int = 0
    whole: bool = True
    total: int = 0
    is_objects: bool = False


def read_sample(path: Path, *, limit: int = SAMPLE_BYTES) -> Sample:
    """Reads the first rows of a file.

    Args:
        path: File, or a folder of files of one form, of which the first is read.
        limit: Number of bytes to read after unpacking, at least 1.

    Raises:
        ImportFailed: There is no such file, it is empty, or its form is not known.
    """
    file = _first_file(path)
    whole_folder = file == path
    if file.suffix == ".parquet":
        return _of_parquet(path, file, whole_folder)
    data, whole = _head(file, limit)
    if not data.strip():
        raise ImportFailed(f"{file} is empty, so that its columns cannot be guessed.")
    encoding, text = _decoded(data, file)
    name = plain_name(file)
    lines = text.replace("\r\n", "\n").split("\n")  # not splitlines: a text may hold other signs that end lines
    lines = [line for line in (lines if whole else lines[:-1]) if line]
    size = file.stat().st_size if not whole else 0
    share = 1.0 if whole else min(1.0, len(data) / max(size * (5 if file.suffix in PACKED else 1), 1))
    settings = {} if encoding == "utf-8" else {"encoding": Setting(encoding, "Guessed from the bytes of the file.")}
    if name.endswith(_OBJECT_SUFFIXES) or text.lstrip().startswith(("{", "[")):
        columns, lists = _of_objects(lines, file)
        if not name.endswith(_OBJECT_SUFFIXES):
            settings["format"] = Setting("jsonl", "Guessed from the first line.")
        sample = Sample(path, columns, lists, settings=settings, is_objects=True)
    elif name.endswith(_TEXT_SUFFIXES) or "." not in name:
        columns, form = csv_columns(lines, file, most_rows=_SAMPLE_ROWS)
        if name.endswith(".txt") or "." not in name:
            form["format"] = Setting("csv", "Guessed from the first lines.")
        if name.endswith((".tsv", ".tab")) and form.get("delimiter", Setting(None, "")).value == "\t":
            del form["delimiter"]
        sample = Sample(path, columns, settings={**settings, **form})
    else:
        raise ImportFailed(
            f"{file} has a suffix that is not known, must be .csv, .tsv, .txt, .jsonl, .json or .parquet."
        )
    rows = max(map(len, sample.columns.values()), default=0)
    if not rows:
        raise ImportFailed(f"{file} has no rows, so that its columns cannot be guessed.")
    whole = whole and whole_folder and len(lines) <= _SAMPLE_ROWS
    headers = 0 if sample.is_objects or "header" in sample.settings else 1
    total = rows if whole else max(rows, round((len(lines) - headers) / share))
    return replace(sample, rows=rows, whole=whole, total=total)


def values_of(sample: Sample, column: str, limit: int) -> tuple[Iterator[str | None], bool]:
    """Returns the values of one column from a longer head of a source, and whether that is the whole source.

    Args:
        sample: Sample of the source.
        column: Name of the column.
        limit: Number of bytes to read after unpacking; of Parquet, a row counts as 16 bytes.
    """
    if sample.whole:
        return iter(sample.columns[column]), True
    file = _first_file(sample.path)
    if file.suffix == ".parquet":
        parquet = pq.ParquetFile(file)
        batches = parquet.iter_batches(columns=[column])
        values = (as_text(value) for batch in batches for value in batch.column(0).to_pylist())
        most = limit // 16
        return islice(values, most), parquet.metadata.num_rows <= most and file == sample.path
    data, whole = _head(file, limit)
    lines = _decoded(data, file)[1].replace("\r\n", "\n").split("\n")
    lines = lines if whole else lines[:-1]
    return _column(sample, lines, column, file), whole and file == sample.path


def _column(sample: Sample, lines: list[str], column: str, file: Path) -> Iterator[str | None]:
    """Yields the values of one column, in the form that the sample has found."""
    if sample.is_objects:
        yield from (text_at(found, column) for found in map(parsed_json, filter(None, lines)) if found is not None)
        return
    default = "\t" if plain_name(file).endswith((".tsv", ".tab")) else ","
    delimiter = str(sample.settings.get("delimiter", Setting(default, "")).value)
    place, first = list(sample.columns).index(column), "header" not in sample.settings
    for row in islice(split_rows(lines, delimiter), int(first), None):
        if len(row) == len(sample.columns):
            yield row[place].strip() or None


def _first_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise ImportFailed(f"--from is {path}, must be an existing file or folder.")
    if (path / "_delta_log").is_dir():
        raise ImportFailed(f"--from is {path}, a Delta table. Name its columns in qarm.yaml, with format: delta.")
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith(("_", ".")))
    if not files:
        raise ImportFailed(f"--from is {path}, a folder without files.")
    return files[0]


def _head(file: Path, limit: int) -> tuple[bytes, bool]:
    """Returns the first bytes of a file after unpacking, and whether they are all."""
    with file.open("rb") as raw, unpacked(raw, file) as stream:
        try:
            data = stream.read(limit + 1)
        except (EOFError, OSError) as error:
            raise ImportFailed(f"{file} cannot be unpacked: {error}. Copy it again, or correct its suffix.") from error
    return data[:limit], len(data) <= limit


def _decoded(data: bytes, file: Path) -> tuple[str, str]:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", data[: len(data) // 2 * 2].decode("utf-16", errors="replace")
    if b"\0" in data:
        raise ImportFailed(f"{file} holds zero bytes, so that it is no text. Must be CSV, TSV, JSON Lines or Parquet.")
    try:
        # The last character may be cut.
        return "utf-8", codecs.getincrementaldecoder("utf-8")().decode(data).removeprefix("\ufeff")
    except UnicodeDecodeError:
        name = "cp1252" if any(0x80 <= byte < 0xA0 for byte in data) else "latin-1"
        return name, data.decode(name, errors="replace")


def _of_objects(lines: list[str], file: Path) -> tuple[dict[str, list[str | None]], frozenset[str]]:
    objects: list[dict[str, Any]] = []
    for line in islice((line for line in lines if line.strip()), _SAMPLE_ROWS):
        found = parsed_json(line)
        if found is not None:
            objects.append(found)
    if not objects:
        raise ImportFailed(
            f"{file} is no JSON Lines: no line of it is an object. Rewrite a list, or an object over many lines, as one "
            "object on each line."
        )
    names = dict.fromkeys(name for found in objects for name in found)
    lists = {name for name in names for found in objects if isinstance(found.get(name), (list, dict))}
    return {name: [as_text(found.get(name)) for found in objects] for name in names}, frozenset(lists)


def _of_parquet(path: Path, file: Path, is_file: bool) -> Sample:
    try:
        parquet = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise ImportFailed(f"{file} is no Parquet file: {error}") from error
    batch = next(parquet.iter_batches(batch_size=_SAMPLE_ROWS // 4), None)
    if batch is None or not batch.num_rows:
        raise ImportFailed(f"{file} has no rows, so that its columns cannot be guessed.")
    columns: dict[str, list[str | None]] = {}
    lists, binary, typed = set(), set(), {}
    for one in batch.schema:
        values = batch.column(one.name)
        typed[one.name] = _kind(one.type)
        if pa.types.is_nested(one.type):
            lists.add(one.name)
            columns[one.name] = [
                None if value is None else json.dumps(value, default=str) for value in values.to_pylist()
            ]
        elif pa.types.is_binary(one.type) or pa.types.is_large_binary(one.type):
            binary.add(one.name)
            columns[one.name] = [None if value is None else f"{len(value)} bytes" for value in values.to_pylist()]
        else:
            columns[one.name] = [as_text(value) for value in values.to_pylist()]
    total = parquet.metadata.num_rows
    whole = is_file and total == batch.num_rows
    return Sample(path, columns, frozenset(lists), frozenset(binary), typed, {}, batch.num_rows, whole, total)


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "float"
    return "timestamp" if pa.types.is_temporal(kind) else "text"
