"""Lines of text files in bounded memory, plain or packed, and the fields of a line.

In: a file. Out: its lines with their numbers. A line that cannot be read is counted and left out, and costs no other line:
an empty one, one with bytes that are not in its encoding, one that is too long.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

import pyarrow as pa

from qarm_features.importers.plan import ImportFailed
from qarm_features.importers.tally import Tally

PACKED = (".gz", ".bz2", ".zst")
LONGEST_LINE = 4 * 2**20  # bytes; the longest lines of the known formats have some hundred thousand
_EVERY = 2**15
_HEAD_LINES = 1000


def read_lines(
    path: Path, tally: Tally, *, encoding: str = "utf-8", longest: int = LONGEST_LINE, skip: int = 0
) -> Iterator[tuple[int, str]]:
    """Yields the lines of a file with their numbers from 1, without line ends.

    Args:
        path: File, which may be packed by gzip, bzip2 or Zstandard.
        tally: Counts every line as a row that is read.
        encoding: Encoding of the file.
        longest: Highest number of bytes of a line, at least 1.
        skip: Number of first lines that are no rows, such as a header.

    Raises:
        ImportFailed: The file ends early or is not packed as its name says.
    """
    size = max(path.stat().st_size, 1)
    number = 0
    with path.open("rb") as raw, unpacked(raw, path) as file:
        try:
            while line := file.readline(longest + 1):
                number += 1
                if tally.most_lines is not None and number > tally.most_lines + skip:
                    return
                whole = len(line) <= longest or line.endswith(b"\n")
                if not whole:
                    _skip_line(file)
                if number % _EVERY == 0:
                    tally.progress(path.name, min(raw.tell() / size, 1.0))
                if number <= skip:
                    continue
                tally.read += 1
                if not whole:
                    tally.leave_out(f"a line of more than {longest:,} bytes", path.name, number, _shown(line[:200]))
                    continue
                line = line.rstrip(b"\r\n")
                try:
                    text = line.decode(encoding)
                except UnicodeDecodeError:
                    tally.leave_out(f"bytes that are not {encoding}", path.name, number, _shown(line))
                    continue
                if number == 1:
                    text = text.removeprefix("\ufeff")
                if text.strip():
                    yield number, text
                else:
                    tally.leave_out("an empty line", path.name, number, text)
        except (EOFError, OSError, zlib.error) as error:
            if path.suffix not in PACKED:
                raise
            raise ImportFailed(
                f"{path} cannot be unpacked after line {number:,}: {error}. The file is incomplete or damaged; copy it again."
            ) from error


def head(path: Path, *, encoding: str = "utf-8", count: int = _HEAD_LINES) -> list[str]:
    """Returns the first lines of a file that can be read, at most ``count`` of them.

    Args:
        path: File, which may be packed.
        encoding: Encoding of the file.
        count: Highest number of lines, at least 1.
    """
    lines = read_lines(path, Tally("head"), encoding=encoding)
    return [text for (_, text), _ in zip(lines, range(count), strict=False)]


def fields(
    path: Path,
    tally: Tally,
    *,
    delimiter: str,
    width: int,
    quoted: bool = False,
    encoding: str = "utf-8",
    skip: int = 0,
) -> Iterator[tuple[int, list[str]]]:
    """Yields the fields of each line with its number. A line with another number of fields is counted and left out.

    Args:
        path: File.
        tally: Counts the lines.
        delimiter: Text between two fields.
        width: Number of fields of a line, at least 1.
        quoted: Whether quotes enclose fields that have the delimiter in them. A quote that is not closed costs its line.
        encoding: Encoding of the file.
        skip: Number of first lines that are no rows.
    """
    for number, text in read_lines(path, tally, encoding=encoding, skip=skip):
        parts = split(text, delimiter, quoted=quoted)
        if parts is None:
            tally.leave_out("a quote that is not closed", path.name, number, text)
        elif len(parts) != width:
            tally.leave_out(f"{len(parts)} fields instead of {width}", path.name, number, text)
        else:
            yield number, parts


def split(text: str, delimiter: str, *, quoted: bool) -> list[str] | None:
    """Returns the fields of a line; None if a quote in it is not closed.

    Args:
        text: Line.
        delimiter: Text between two fields, which is one character if ``quoted``.
        quoted: Whether quotes enclose fields.

    Example:
        >>> split('1,"Heat, The (2013)",Action', ",", quoted=True)
        ['1', 'Heat, The (2013)', 'Action']
    """
    if not quoted or '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error:
        return None


def encoding_of(path: Path) -> str:
    """Returns ``utf-8`` or ``latin-1``, whichever most lines with other letters than ASCII are in.

    A single broken line of a UTF-8 file must not turn the letters of all others into wrong ones.

    Args:
        path: File that is read to its end.
    """
    valid = broken = 0
    with path.open("rb") as raw, unpacked(raw, path) as file:
        while line := file.readline(LONGEST_LINE):
            if not line.isascii():
                try:
                    line.decode("utf-8")
                    valid += 1
                except UnicodeDecodeError:
                    broken += 1
    return "latin-1" if broken > valid else "utf-8"


def unpacked(raw: BinaryIO, path: Path) -> IO[bytes]:
    """Returns the bytes of an open file, unpacked as its name says.

    Args:
        raw: Open file.
        path: Its path.
    """
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if path.suffix == ".bz2":
        return cast(IO[bytes], bz2.BZ2File(raw))
    if path.suffix == ".zst":
        return io.BufferedReader(cast(io.RawIOBase, pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")))
    return raw


def _skip_line(file: IO[bytes]) -> None:
    while (rest := file.readline(2**16)) and not rest.endswith(b"\n"):
        pass


def _shown(line: bytes) -> str:
    return line[:200].decode("utf-8", errors="backslashreplace")
