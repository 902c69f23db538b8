"""Semantic IDs of one release become files that generative recommenders read.

In: rows of ``item_semantic_ids`` of one codebook version. Out: a folder with a ``manifest.json`` and, by format,

``index-json``
    ``<folder>.index.json`` of LETTER, LC-Rec and MiniOneRec: ``{"50": ["<a_12>", "<b_7>", "<c_201>"], ...}``.
``npy``
    ``codes.npy`` (N, L) int32 and, in its order, ``item_ids.npy`` (N,) int64, or strings as ``item_ids.parquet``.
``added-tokens``
    ``semantic_id_tokens.json``: the list that ``add_tokens`` of a Hugging Face tokenizer takes: every code of every level,
    whether an item has it or not, so that new items need no new tokens.

Where any items share a semantic ID, ``collision_index`` is a further token (column) of all items: those loaders tell
tokens apart by their place, hence every item must have equally many. Items are in ascending order of their IDs; files are
the same to the byte whatever the partitions were.

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
    """What the command's ``--format`` takes."""

    INDEX_JSON = "index-json"
    NPY = "npy"
    ADDED_TOKENS = "added-tokens"


@dataclass(frozen=True)
class CodeShape:
    """How many codes there are.

    Attributes:
        rows: N, items of the release.
        num_levels: L.
        codebook_size: K, or that of each level.
        collisions: Most items that share one semantic ID where that is more than one, else 0.
    """

    rows: int
    num_levels: int
    codebook_size: int | list[int]
    collisions: int

    @property
    def sizes(self) -> list[int]:
        """Number of tokens of every place of an item: K of each level, and of the collision index if need be."""
        size = self.codebook_size
        return (size if isinstance(size, list) else [size] * self.num_levels) + [self.collisions] * (
            self.collisions > 0
        )


def code_shape(codes: DataFrame, *, num_levels: int, codebook_size: int | list[int], rows: int) -> CodeShape:
    """Looks for items that share their semantic ID, and checks what the export builds on.

    Args:
        codes: ``rq_codes``, ``collision_index`` of one codebook version.
        num_levels: L.
        codebook_size: K, or that of each level.
        rows: Rows that the release holds.

    Raises:
        ValueError: There are other rows than the release says, or items have no collision index.
    """
    found = codes.agg(
        F.count("*").alias("rows"),
        F.count_if(F.col("collision_index").isNull()).alias("without"),
        F.max("collision_index").alias("last"),
    ).first()
    if found["rows"] != rows:
        raise ValueError(
            f"item_semantic_ids holds {found['rows']:,} rows, must be {rows:,} as released. Run: qarm publish-features"
        )
    if found["without"]:
        raise ValueError(
            f"collision_index of {found['without']:,} items is null, must be a number: their codebooks are older than it. "
            "Fit new ones and publish them. Run: qarm fit-codebooks --refit"
        )
    return CodeShape(rows, num_levels, codebook_size, found["last"] + 1 if found["last"] else 0)


def export_semantic_ids(
    codes: DataFrame, shape: CodeShape, output: str | Path, *, file_format: ExportFormat, **manifest: Any
) -> list[str]:
    """Writes one format into a folder that appears whole or not at all.

    Args:
        codes: ``item_id``, ``rq_codes``, ``collision_index`` of one codebook version.
        shape: As ``code_shape`` returns it.
        output: A folder that is new or empty.
        file_format: Which.
        manifest: What else manifest.json keeps, beside the shape and the SHA-256 of each file.

    Returns:
        The names of the files.

    Raises:
        ValueError: ``output`` holds something, or the rows change while they are read.
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
    tokens = code_tokens(shape.sizes)
    if file_format == ExportFormat.ADDED_TOKENS:
        (draft / TOKENS).write_text(json.dumps([token for of_place in tokens for token in of_place]))
        return
    batches = _batches(codes, shape)
    if file_format == ExportFormat.INDEX_JSON:
        written = write_index_json(batches, draft / index, tokens)
    else:
        strings = codes.schema["item_id"].dataType.simpleString() == "string"
        written = write_npy(batches, draft, rows=shape.rows, width=len(shape.sizes), string_ids=strings)
    if written != shape.rows:
        raise ValueError(f"{written:,} items were written, must be {shape.rows:,}. Pin the rows to one Delta version.")


def _batches(codes: DataFrame, shape: CodeShape) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """Yields item IDs (B,) and codes (B, W) int32 in ascending order of the IDs."""
    columns = [F.col("rq_codes")[level] for level in range(shape.num_levels)]
    columns += [F.col("collision_index")] * (shape.collisions > 0)
    flat = codes.select("item_id", *[column.cast("int").alias(f"code_{n}") for n, column in enumerate(columns)])
    for batch in ordered_batches(flat, by="item_id", count=shape.rows):
        yield batch.column(0), np.stack([column.to_numpy() for column in batch.columns[1:]], axis=1)
