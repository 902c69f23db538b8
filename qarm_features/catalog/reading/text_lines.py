"""The lines of text files as bytes, with their place: any number of files, split and unpacked by Spark.

In: paths. Out: rows of ``value`` (the bytes of a line), ``file`` and ``block``, in the order of the file within a block. A
block is the part of a file that one task reads, named by its first byte. Line numbers are counted within a block; the first
pass over the files, which counts the lines of each block, makes them numbers within the file.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

_WIDE = {"utf-16": 2, "utf-16-le": 2, "utf-16-be": 2, "utf-32": 4, "utf-32-le": 4, "utf-32-be": 4}
_MARKS = {
    2: {codecs.BOM_UTF16_LE: "<", codecs.BOM_UTF16_BE: ">"},
    4: {codecs.BOM_UTF32_LE: "<", codecs.BOM_UTF32_BE: ">"},
}


class Run(NamedTuple):
    """Lines of one block that follow each other.

    Attributes:
        file: URI of the file.
        block: First byte of the block.
        start: Number of the first line within the block, from 0.
        lines: (B,) binary, the lines.
    """

    file: str
    block: int
    start: int
    lines: pa.Array


def read_lines(spark: SparkSession, path: str, encoding: str) -> DataFrame:
    """Read the lines of all files at a path, which may be packed by gzip, bzip2 or Zstandard.

    Lines end at a line feed, a carriage return or both.

    Args:
        spark: Spark session.
        path: File, folder (with all folders below it) or pattern.
        encoding: Encoding of the files. A file in UTF-16 or UTF-32 is read by one task, which holds it in memory.

    Returns:
        ``value`` (binary), ``file`` (string), ``block`` (long).
    """
    reader = spark.read.option("recursiveFileLookup", "true")
    name = codec_name(encoding)
    frame = reader.text(path, wholetext=reads_whole_files(encoding)).select(
        F.col("value").cast("binary").alias("value"),
        F.col("_metadata.file_path").alias("file"),
        F.col("_metadata.file_block_start").alias("block"),
    )
    if not reads_whole_files(encoding):
        return frame

    def split(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in batch.to_pylist():
                lines = _wide_lines(row["value"], name)
                for start in range(0, len(lines), 10_000):
                    part = lines[start : start + 10_000]
                    files, blocks = pa.repeat(row["file"], len(part)), pa.repeat(pa.scalar(0, pa.int64()), len(part))
                    yield pa.RecordBatch.from_arrays(
                        [pa.array(part, pa.binary()), files, blocks], ["value", "file", "block"]
                    )

    return frame.mapInArrow(split, "value binary, file string, block long")


def reads_whole_files(encoding: str) -> bool:
    """Return whether a file in this encoding is read as a whole, because its line ends are no single bytes."""
    return codec_name(encoding) in _WIDE


def codec_name(encoding: str) -> str:
    """Return the usual name of an encoding, for example ``utf-16-le``.

    Raises:
        LookupError: There is no such encoding.
    """
    return codecs.lookup(encoding).name


def runs(batches: Iterator[pa.RecordBatch]) -> Iterator[Run]:
    """Cut batches of ``read_lines`` where another block begins, and count the lines of each block."""
    place: tuple[str, int] | None = None
    start = 0
    for batch in batches:
        if batch.num_rows == 0:
            continue
        blocks, files = batch["block"].to_numpy(), batch["file"]
        same_file = pc.equal(files[1:], files[:-1]).to_numpy(zero_copy_only=False)
        cuts = np.flatnonzero(~same_file | (np.diff(blocks) != 0)) + 1
        for first, end in zip([0, *cuts.tolist()], [*cuts.tolist(), batch.num_rows]):
            here = (files[first].as_py(), int(blocks[first]))
            start = start if here == place else 0
            place = here
            yield Run(*here, start, batch["value"].slice(first, end - first))
            start += end - first


def decode_lines(lines: pa.Array, encoding: str) -> pa.Array:
    r"""Decode lines strictly.

    Args:
        lines: (B,) binary.
        encoding: Name of the encoding.

    Returns:
        (B,) string, null where the bytes are not valid in the encoding.

    Example:
        >>> decode_lines(pa.array([b"caf\xc3\xa9", b"caf\xe9"]), "utf-8").to_pylist()
        ['café', None]
    """
    name = codec_name(encoding)
    if name in ("utf-8", "ascii"):
        try:
            text = lines.cast(pa.string())
        except pa.ArrowInvalid:
            pass
        else:
            if name == "utf-8" or pc.all(pc.string_is_ascii(text)).as_py() in (True, None):
                return text
    return pa.array([_decoded(line, name) for line in lines.to_pylist()], pa.string())


def shown(line: bytes) -> str:
    r"""Return bytes that are not valid in their encoding as text, with the other bytes as escapes.

    Example:
        >>> shown(b"caf\xe9")
        'caf\\xe9'
    """
    return line.decode("utf-8", errors="backslashreplace")


def _decoded(line: bytes, name: str) -> str | None:
    try:
        return line.decode(name)
    except UnicodeError:
        return None


def _wide_lines(content: bytes, name: str) -> list[bytes]:
    """Cut a whole file at its line ends. Each line is encoded in the byte order that ``decode_lines`` will take for ``name``.

    The byte order mark of the file is removed. Bytes at the end that are no whole unit stay with the last line.
    """
    width = _WIDE[name]
    order = {"le": "<", "be": ">"}.get(name[-2:], "<")
    for mark, marked in _MARKS[width].items():
        if content.startswith(mark):
            content, order = content[width:], marked
    whole = len(content) // width * width
    units = np.frombuffer(content[:whole], np.dtype(f"{order}u{width}"))
    feeds = (units == ord("\n")) | (units == ord("\r"))
    feeds[:-1] &= ~((units[:-1] == ord("\r")) & (units[1:] == ord("\n")))  # of the two, the second is the end
    lines, start = [], 0
    for end in np.flatnonzero(feeds).tolist():
        before = end - 1 if end > start and units[end] == ord("\n") and units[end - 1] == ord("\r") else end
        lines.append(units[start:before])
        start = end + 1
    native = np.dtype(f"{'>' if name.endswith('be') else '<'}u{width}")
    cut = [line.astype(native).tobytes() for line in lines]
    rest = units[start:].astype(native).tobytes() + content[whole:]
    return [*cut, rest] if rest else cut
