"""Export of the semantic IDs of one release to files that generative recommenders read.

In: rows of ``item_semantic_ids`` of one codebook version. Out: a folder with a ``manifest.json`` and the files of a format:

``index-json``
    ``<folder>.index.json`` of LETTER, LC-Rec and MiniOneRec: ``{"50": ["<a_12>", "<b_7>", "<c_201>"], ...}``.
``npy``
    ``codes.npy`` (N, L) int32 and, in its order, ``item_ids.npy`` (N,) int64, or strings as ``item_ids.parquet``.
``added-tokens``
    ``semantic_id_tokens.json``, the list that ``add_tokens`` of a Hugging Face tokenizer takes. It has every code of every
    level, with or without items, so that new items need no new tokens.

If any items share a semantic ID, ``collision_index`` becomes a further token (column) of all items, because loaders
identify a token by its place and expect the same number of tokens for every item. Items are in ascending order of their
IDs. The bytes of the files do not depend on the partitions.

Source: LETTER, arXiv 2405.07314; LC-Rec, arXiv 2311.09049; the further token: TIGER, arXiv 2305.05065, section 3.1.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.semantic_ids.export_files import code_tokens, write_index_json, write_npy
from qarm_features.storage.artifacts import MANIFEST, sha256, write_json
from qarm_features.storage.ordered_batches import ordered_batches

TOKENS = "semantic_id_tokens.json"  # not added_tokens.json: there transformers expects the numbers of one tokenizer


class ExportFormat(StrEnum):
    """The values of the option ``--format``."""

    INDEX_JSON = "index-json"
    NPY = "npy"
    ADDED_TOKENS = "added-tokens"


@dataclass(frozen=True)
class CodeShape:
    """The numbers of items and codes of a release.

    Attributes:
        rows: Number of items N.
        num_levels: Number of levels L.
        codebook_size: Number of codes K of every level, or a list with that of each.
        collisions: Largest number of items that share one semantic ID, or 0 if none do.

    Example:
        >>> CodeShape(rows=5, num_levels=2, codebook_size=256, collisions=3).sizes
        [256, 256, 3]
    """

    rows: int
    num_levels: int
    codebook_size: int | list[int]
    collisions: int

    @property
    def sizes(self) -> list[int]:
        """Number of tokens of each place of an item: K of each level and, with collisions, that of the collision index."""
        size = self.codebook_size
        sizes = list(size) if isinstance(size, list) else [size] * self.num_levels
        if self.collisions:
            sizes.append(self.collisions)
        return sizes


def code_shape(codes: DataFrame, *, num_levels: int, codebook_size: int | list[int], rows: int) -> CodeShape:
    """Count the items that share a semantic ID, and check the rows of a release.

    Args:
        codes: Rows of ``rq_codes`` and ``collision_index`` of one codebook version.
        num_levels: Number of levels L.
        codebook_size: Number of codes K of every level, or a list with that of each.
        rows: Number of rows that the release should have.

    Raises:
        ValueError: The number of rows is not that of the release, or items have no collision index.
    """
    (found,) = codes.agg(
        F.count("*").alias("rows"),
        F.count_if(F.col("collision_index").isNull()).alias("without"),
        F.max("collision_index").alias("last"),
    ).collect()
    if found["rows"] != rows:
        raise ValueError(
            f"item_semantic_ids holds {found['rows']:,} rows, must be {rows:,} as released. Run: qarm publish-features"
        )
    if found["without"]:
        raise ValueError(
            f"collision_index of {found['without']:,} items is null, must be a number. Their codebooks are too old to "
            "have one. Fit new ones and publish them. Run: qarm fit-codebooks --refit"
        )
    return CodeShape(rows, num_levels, codebook_size, found["last"] + 1 if found["last"] else 0)


def export_semantic_ids(
    codes: DataFrame, shape: CodeShape, output: str | Path, *, file_format: ExportFormat, **manifest: Any
) -> list[str]:
    """Write the files of one format. If this fails, the output folder stays as it was.

    Args:
        codes: Rows of ``item_id``, ``rq_codes`` and ``collision_index`` of one codebook version.
        shape: Shape of the codes, as ``code_shape`` returns it.
        output: Path of a folder that does not exist or is empty.
        file_format: Format of the files.
        manifest: Further entries of ``manifest.json``, beside the shape and the SHA-256 of each file.

    Returns:
        Names of the files.

    Raises:
        ValueError: ``output`` is not empty, or the rows changed while they were read.
    """
    output = Path(output).resolve()
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ValueError(f"--output is {output}, must be a new or an empty folder. Name another one.")
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(f".{output.name}-{uuid.uuid4().hex}")
    draft.mkdir()
    try:
        _write_format(codes, shape, draft, f"{output.name}.index.json", file_format)
        files = {file.name: sha256(file) for file in sorted(draft.iterdir())}
        known = {"format": str(file_format), "tokens_per_item": len(shape.sizes), **vars(shape)}
        write_json(draft / MANIFEST, {**known, **manifest, "files": files})
        os.rename(draft, output)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return list(files)


def _write_format(codes: DataFrame, shape: CodeShape, draft: Path, index: str, file_format: ExportFormat) -> None:
    """Write the files of one format into a folder.

    Raises:
        ValueError: The number of rows has changed.
    """
    tokens = code_tokens(shape.sizes)
    if file_format == ExportFormat.ADDED_TOKENS:
        (draft / TOKENS).write_text(json.dumps([token for place_tokens in tokens for token in place_tokens]))
        return
    batches = _batches(codes, shape)
    if file_format == ExportFormat.INDEX_JSON:
        written = write_index_json(batches, draft / index, tokens)
    else:
        strings = codes.schema["item_id"].dataType.simpleString() == "string"
        written = write_npy(batches, draft, rows=shape.rows, width=len(shape.sizes), string_ids=strings)
    if written != shape.rows:
        raise ValueError(
            f"The rows changed during the export: {written:,} items were written instead of {shape.rows:,}. "
            "Pin the rows to one Delta version."
        )


def _batches(codes: DataFrame, shape: CodeShape) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """Yield item IDs (B,) and codes (B, W) int32 in ascending order of the IDs."""
    columns = [F.col("rq_codes")[level] for level in range(shape.num_levels)]
    if shape.collisions:
        columns.append(F.col("collision_index"))
    flat = codes.select("item_id", *[column.cast("int").alias(f"code_{n}") for n, column in enumerate(columns)])
    for batch in ordered_batches(flat, by="item_id", count=shape.rows):
        yield batch.column(0), np.stack([column.to_numpy() for column in batch.columns[1:]], axis=1)
