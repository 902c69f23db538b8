"""The files of a fit on the local disk of an executor, one file of float32 per partition and level.

In: Arrow batches of a partition, once. Out: a file of rows (N, D) per level, read through the page cache, and one row that
describes the partition. Level -1 holds the rows as they were read, level 0 the same rows on the grid, and level l + 1 the
residuals of level l. The file of a level is computed when it is first needed, from the highest level below that has a file.

The folder lies in Spark's own local directories, so Spark removes it with the executor at the latest.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa

from qarm_features.quantizers.arrays.grid import Grid
from qarm_features.quantizers.arrays.lloyd import nearest_codes
from qarm_features.quantizers.passes.embedding_batches import near_norms, row_norms, to_matrix
from qarm_features.quantizers.passes.task_device import task_context, task_device
from qarm_features.quantizers.passes.weights import on_weight_grid, weight_facts

SKIP = "qarm.quantizers.skip"  # local property of jobs that only remove files, so that they read no source again
_CHUNK_BYTES = 1 << 22  # larger temporary arrays cost a page fault per page, in every pass
_CHUNK_ROWS = 8192  # least size of a chunk, because each chunk has a cost that depends on the centroids
_RAW = -1


class Partition(NamedTuple):
    """What the one pass over the source found in a partition.

    Attributes:
        stem: Path of the files of the partition, without their ending.
        rows: Number of rows.
        null_rows: Number of rows that are null.
        bad_rows: Number of rows with NaN or infinite values.
        zero_rows: Number of rows of norm 0.
        min_dim: Least dimension of a row, None if there is none.
        max_dim: Largest dimension of a row, None if there is none.
        max_norm: Largest Euclidean norm of a row, None if there is none.
        digest: Digest of the values, which does not depend on the order of the rows.
        bad_weights: Number of weights that are null, negative or not finite.
        weight_steps: Exact sum of the other weights as text, in the steps of ``weights.weight_facts``.
    """

    stem: str
    rows: int
    null_rows: int
    bad_rows: int
    zero_rows: int
    min_dim: int | None
    max_dim: int | None
    max_norm: float | None
    digest: int
    bad_weights: int
    weight_steps: str


PARTITION_SCHEMA = (
    "stem string, rows long, null_rows long, bad_rows long, zero_rows long, min_dim int, max_dim int, max_norm double, "
    "digest long, bad_weights long, weight_steps string"
)


class Recipe(NamedTuple):
    """All that is needed to compute a lost file again, level by level.

    Attributes:
        grid: Grid of the fit.
        weight_bits: Bits of the grid of the weights, None without weights.
        levels: Centroids (K, D) float32 on the grid, of each level before the current one.
        device: Name of the device of the products, see ``task_device``.
    """

    grid: Grid
    weight_bits: int | None
    levels: tuple[np.ndarray, ...]
    device: str = "cpu"


class Chunk(NamedTuple):
    """Some rows of a level.

    Attributes:
        embeddings: Rows (B, D) float32.
        weights: Weights (B,) int64, None without weights.
        codes: In a Lloyd step, the codes (B,) int32 that the step fills in. Otherwise the codes in the level before, or None
            if they are not known.
        before: In a Lloyd step, the codes (B,) int32 of the step before, or None if they are not known.
    """

    embeddings: np.ndarray
    weights: np.ndarray | None
    codes: np.ndarray | None
    before: np.ndarray | None = None


def write_rows(batches: Iterator[pa.RecordBatch], fit_id: str, weighted: bool) -> Iterator[pa.RecordBatch]:
    """Write a partition to local files, see ``write_partition``, and yield one row about it."""
    facts = write_partition(batches, fit_id, weighted)
    schema = {"stem": pa.string(), "min_dim": pa.int32(), "max_dim": pa.int32(), "max_norm": pa.float64()}
    schema["weight_steps"] = pa.string()
    columns = {name: pa.array([value], schema.get(name, pa.int64())) for name, value in facts._asdict().items()}
    yield pa.RecordBatch.from_pydict(columns)


def write_partition(batches: Iterator[pa.RecordBatch], fit_id: str, weighted: bool) -> Partition:
    """Write the rows of a partition to local files.

    Args:
        batches: Embeddings and, in a second column, weights.
        fit_id: Identifier of the fit, which names its folder.
        weighted: True if there are weights.

    Returns:
        What the pass found in the partition.
    """
    context = task_context()
    facts = Partition(_stem(fit_id, context.partitionId()), 0, 0, 0, 0, None, None, None, 0, 0, "0")
    if context.getLocalProperty(SKIP) is None:
        os.makedirs(os.path.dirname(facts.stem), exist_ok=True)
        with contextlib.ExitStack() as stack:
            rows = stack.enter_context(_replacing(_file(facts.stem, _RAW)))
            weights = stack.enter_context(_replacing(f"{facts.stem}.weights")) if weighted else None
            for batch in batches:
                facts = _write_batch(batch, facts, rows, weights)
    return facts


def _write_batch(batch: pa.RecordBatch, facts: Partition, rows: IO[bytes], weights: IO[bytes] | None) -> Partition:
    """Append one batch to the open files, and return the facts of all batches so far."""
    embeddings, found = to_matrix(batch.column(0))
    dims = [dim for dim in (facts.min_dim, facts.max_dim, found.min_dim, found.max_dim) if dim is not None]
    facts = facts._replace(
        rows=facts.rows + batch.num_rows,
        null_rows=facts.null_rows + found.null_rows,
        min_dim=min(dims, default=None),
        max_dim=max(dims, default=None),
    )
    if weights is not None:
        values, bad, steps = weight_facts(batch.column(1))
        facts = facts._replace(bad_weights=facts.bad_weights + bad, weight_steps=str(int(facts.weight_steps) + steps))
        weights.write(values.tobytes())
    if embeddings is None:
        return facts
    norms = near_norms(embeddings)
    finite = np.isfinite(norms)
    largest = norms[finite].max(initial=0.0)
    longest = row_norms(embeddings[norms >= largest * (1 - 1e-12)]) if largest else norms[:0]
    embeddings = np.ascontiguousarray(embeddings)
    rows.write(embeddings.view(np.uint8).data)
    digest = int(embeddings.view(np.uint32).sum(dtype=np.uint64)) + facts.digest
    return facts._replace(
        bad_rows=facts.bad_rows + int(len(norms) - finite.sum()),
        zero_rows=facts.zero_rows + int(np.count_nonzero(norms == 0)),
        max_norm=max(facts.max_norm or 0.0, float(longest[np.isfinite(longest)].max(initial=0.0))),
        digest=digest % 2**62,
    )


def is_here(partition: Partition, level: int) -> bool:
    """Return True if this executor has a file from which it can compute a level of the partition."""
    return any(os.path.exists(_file(partition.stem, below)) for below in range(_RAW, level + 1))


def level_chunks(partition: Partition, recipe: Recipe, level: int, *, again: bool) -> Iterator[Chunk]:
    """Yield all rows of a level, some at a time.

    Args:
        partition: Facts of the partition.
        recipe: Recipe of at least this level.
        level: Index of the level, from 0.
        again: True computes the level from the one before, although its file may exist, to learn the codes.
    """
    target = _file(partition.stem, level)
    if os.path.exists(target) and not again:
        _remove_below(partition.stem, level)
        for rows, weights in _read(partition, level, recipe.weight_bits):
            yield Chunk(rows, weights, None)
        return
    device = task_device(recipe.device)
    made = [below for below in range(_RAW, level) if os.path.exists(_file(partition.stem, below))]
    with _replacing(target) as file:
        for rows, weights in _read(partition, made[-1], recipe.weight_bits):
            codes = None
            for step in range(made[-1] + 1, level + 1):
                if step == 0:
                    rows = recipe.grid.round(rows)
                else:
                    codes = nearest_codes(rows, recipe.levels[step - 1], device)
                    rows = rows - recipe.levels[step - 1][codes]
            file.write(rows.data)
            yield Chunk(rows, weights, codes)


def step_chunks(partition: Partition, recipe: Recipe, level: int, step: int) -> Iterator[Chunk]:
    """Yield all rows of a level with the codes of the step before, and store the codes that the step fills in.

    Args:
        partition: Facts of the partition.
        recipe: Recipe of at least this level.
        level: Index of the level, from 0.
        step: Number of the step over all levels, from 1. An attempt at the step that fails leaves no file.
    """
    before, start = None, 0
    if os.path.exists(last := f"{partition.stem}.codes.{step - 1}"):
        before = np.memmap(last, np.int32, mode="r")
    with _replacing(f"{partition.stem}.codes.{step}") as file:
        for chunk in level_chunks(partition, recipe, level, again=False):
            codes, end = np.empty(len(chunk.embeddings), np.int32), start + len(chunk.embeddings)
            yield chunk._replace(codes=codes, before=None if before is None else before[start:end])
            file.write(codes.data)
            start = end
    with contextlib.suppress(FileNotFoundError):
        os.remove(last)


def remove_folder(stem: str) -> None:
    """Remove all files of the fit of a partition from the disk of this executor."""
    shutil.rmtree(os.path.dirname(stem), ignore_errors=True)


def fit_folders(fit_id: str) -> list[str]:
    """Return the folders of the files of a fit on this executor, one per local directory of Spark."""
    local = os.environ.get("SPARK_LOCAL_DIRS", tempfile.gettempdir()).split(",")
    return [os.path.join(directory, f"qarm-{fit_id}") for directory in local]


def _stem(fit_id: str, partition: int) -> str:
    """Return the path of the files of a partition, without their ending."""
    folders = fit_folders(fit_id)
    return os.path.join(folders[partition % len(folders)], str(partition))


def _file(stem: str, level: int) -> str:
    """Return the path of the file of a level."""
    return f"{stem}.raw" if level == _RAW else f"{stem}.{level}"


def _remove_below(stem: str, level: int) -> None:
    """Remove the files of all levels below one."""
    for below in range(_RAW, level):
        with contextlib.suppress(FileNotFoundError):
            os.remove(_file(stem, below))


def _read(partition: Partition, level: int, weight_bits: int | None) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yield rows (B, D) of a file, mapped into memory, and their weights (B,) int64, or None without ``weight_bits``."""
    dim = partition.max_dim or 1
    rows = np.memmap(_file(partition.stem, level), np.float32, mode="r").reshape(-1, dim)
    if weight_bits is not None:
        raw_weights = np.memmap(f"{partition.stem}.weights", np.float32, mode="r")
    size = max(_CHUNK_ROWS, _CHUNK_BYTES // (4 * dim))
    for start in range(0, len(rows), size):
        chunk = np.asarray(rows[start : start + size])
        if weight_bits is None:
            yield chunk, None
        else:
            yield chunk, on_weight_grid(raw_weights[start : start + size], weight_bits)


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[IO[bytes]]:
    """Open a new file that gets its path only when it is complete, because another attempt of the task may write it too."""
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), delete=False) as file:
        try:
            yield file
            file.close()
            os.replace(file.name, path)
        except BaseException:
            os.remove(file.name)
            raise
