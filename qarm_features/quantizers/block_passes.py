"""What the Python workers of `embedding_blocks` run: functions from Arrow batches to Arrow batches.

In: batches of one partition. Out: new blocks, or one row that sums up the partition.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import Broadcast

from qarm_features.quantizers.grid import Grid, energy_in_steps, hash_rows, ordered_row_sums
from qarm_features.quantizers.lloyd import assign_codes, lloyd_step, nearest_codes

Batches = Iterator[pa.RecordBatch]
_BLOCK_BYTES = 1 << 16


def to_matrix(embeddings: pa.Array) -> tuple[np.ndarray | None, dict[str, int]]:
    """Reads a column of embeddings, without a copy if it is array<float>.

    Args:
        embeddings: B lists of float or double.

    Returns:
        (B, D) float32, or None if a row is null or lengths differ; and what is in the way: null_rows, min_dim, max_dim.
        A null inside a list becomes NaN.
    """
    lengths = pc.list_value_length(embeddings).drop_null().to_numpy()
    if not len(lengths):
        return None, {"null_rows": embeddings.null_count, "min_dim": None, "max_dim": None}
    facts = {"null_rows": embeddings.null_count, "min_dim": int(lengths.min()), "max_dim": int(lengths.max())}
    if facts["null_rows"] or facts["min_dim"] != facts["max_dim"] or facts["max_dim"] == 0:
        return None, facts
    values = embeddings.flatten().to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):  # a double beyond float32 becomes inf and is reported as such
        return values.astype(np.float32, copy=False).reshape(-1, facts["max_dim"]), facts


def row_norms(embeddings: np.ndarray) -> np.ndarray:
    """Returns the Euclidean norms (B,) float64 of (B, D) float32, inf or NaN where a value is."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(ordered_row_sums(np.square(embeddings, dtype=np.float64)))


def pack_rows(batches: Batches) -> Batches:
    """Packs embeddings to blocks. A row without block holds the facts of a batch."""
    for batch in batches:
        embeddings, facts = to_matrix(batch.column(0))
        facts |= {"rows": batch.num_rows, "bad_rows": 0, "max_norm": None}
        if embeddings is not None:
            norms = row_norms(embeddings)
            finite = np.isfinite(norms)
            facts |= {"bad_rows": int(len(norms) - finite.sum()), "max_norm": float(norms[finite].max(initial=0.0))}
            blocks = _to_blocks(embeddings)
            yield _packed(blocks, {})
        yield _packed(pa.nulls(1, pa.binary()), facts)


def assign_batch(embeddings: pa.Array, codebooks: np.ndarray, name: str) -> pa.Array:
    """Quantizes one batch of a column of embeddings.

    Args:
        embeddings: B lists of D float or double.
        codebooks: (L, K, D) float32.
        name: the column's name, for errors.

    Returns:
        B lists of L int32 codes in [0, K).

    Raises:
        ValueError: A row is null, has another dimension than the codebooks, or values that are not finite.
    """
    num_levels, _, dim = codebooks.shape
    if len(embeddings) == 0:
        return pa.array([], pa.list_(pa.int32()))
    matrix, facts = to_matrix(embeddings)
    if facts["null_rows"]:
        raise ValueError(f"{name} is null in {facts['null_rows']} rows of a batch, must be set. Drop these rows.")
    if (facts["min_dim"], facts["max_dim"]) != (dim, dim):
        found = facts["max_dim"] if facts["min_dim"] == dim else facts["min_dim"]
        raise ValueError(f"{name} has dimension {found}, must be {dim} as in the codebooks. Use their encoder version.")
    bad_rows = int(np.count_nonzero(~np.isfinite(matrix).all(axis=1)))
    if bad_rows:
        raise ValueError(f"{name} is NaN or infinite in {bad_rows} rows of a batch, must be finite. Drop these rows.")
    codes = assign_codes(matrix, codebooks)
    return pa.ListArray.from_arrays(np.arange(len(codes) + 1, dtype=np.int32) * num_levels, codes.ravel())


def round_blocks(batches: Batches, grid: Grid) -> Batches:
    """Rounds blocks to the grid; there are no codes yet."""
    for batch in batches:
        rounded = grid.round(_to_values(batch.column(0)))
        lengths = pc.binary_length(batch.column(0)).to_numpy()
        yield _block_batch(_to_binary(rounded, lengths), pa.array([b""] * len(lengths), pa.binary()))


def step_over_blocks(batches: Batches, centroids: Broadcast) -> Batches:
    """Does one Lloyd step; yields one row of partial sums for the partition."""
    table = centroids.value
    sums, counts, sse = np.zeros(table.shape), np.zeros(len(table), np.int64), 0.0
    for batch in batches:
        step = lloyd_step(_to_values(batch.column(0)).reshape(-1, table.shape[1]), table)
        sums, counts, sse = sums + step[0], counts + step[1], sse + step[2]
    yield _partial_sums(sums, counts, sse)


def add_partial_sums(batches: Batches) -> Batches:
    """Adds rows of partial sums to one; none for a partition without rows."""
    total = None
    for batch in batches:
        for row in batch.to_pylist():
            part = np.frombuffer(row["sums"]), np.frombuffer(row["counts"], np.int64), row["sse"]
            total = part if total is None else tuple(a + b for a, b in zip(total, part))
    if total is not None:
        yield _partial_sums(*total)


def subtract_centroids(batches: Batches, centroids: Broadcast) -> Batches:
    """Subtracts each row's nearest centroid; yields the residuals and the codes, int32 side by side, of each block."""
    table = centroids.value
    for batch in batches:
        embeddings = _to_values(batch.column(0)).reshape(-1, table.shape[1])
        codes = nearest_codes(embeddings, table)
        lengths = pc.binary_length(batch.column(0)).to_numpy()
        residuals = embeddings - table[codes]
        yield _block_batch(_to_binary(residuals, lengths), _to_binary(codes, lengths // table.shape[1]))


def describe_blocks(batches: Batches, dim: int, bits: int, num_centroids: int) -> Batches:
    """Adds up squares, features and codes; yields one row for the partition."""
    energy, sums, counts = 0, np.zeros(dim), np.zeros(num_centroids, np.int64)
    for batch in batches:
        residuals = _to_values(batch.column(0)).reshape(-1, dim)
        energy += energy_in_steps(residuals, bits)
        sums += residuals.sum(axis=0, dtype=np.float64)
        counts += np.bincount(_to_values(batch.column(1), np.int32), minlength=num_centroids)
    row = {"energy": [str(energy)], "sums": [sums.tobytes()], "counts": [counts.tobytes()]}
    yield pa.RecordBatch.from_pydict(row)


def sample_rows(batches: Batches, dim: int, seed: int, below: int) -> Batches:
    """Yields hash and bytes of each row whose hash is below the given one."""
    for batch in batches:
        embeddings = _to_values(batch.column(0)).reshape(-1, dim)
        hashes = hash_rows(embeddings, seed)
        chosen = hashes < below if below < 2**63 else np.ones(len(hashes), bool)
        rows = _to_binary(embeddings[chosen], np.full(int(chosen.sum()), 4 * dim))
        yield pa.RecordBatch.from_arrays([pa.array(hashes[chosen]), rows], names=["hash", "embedding"])


def _to_values(blocks: pa.Array, dtype: type = np.float32) -> np.ndarray:
    """Returns all values of a column of blocks, side by side, without a copy."""
    if len(blocks) == 0:
        return np.empty(0, dtype)
    blocks = blocks.cast(pa.binary())  # a no-op unless spark.sql.execution.arrow.useLargeVarTypes
    _, offsets, values = blocks.buffers()
    first, last = np.frombuffer(offsets, np.int32)[[blocks.offset, blocks.offset + len(blocks)]]
    return np.frombuffer(values, np.uint8)[first:last].view(dtype) if last > first else np.empty(0, dtype)


def _to_binary(values: np.ndarray, lengths: np.ndarray) -> pa.Array:
    """Cuts values into binaries of the given lengths in bytes, without a copy."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.binary(), len(lengths), buffers)


def _to_blocks(embeddings: np.ndarray) -> pa.Array:
    """Cuts embeddings (B, D) float32 into blocks of whole rows."""
    row = embeddings.shape[1] * 4
    starts = np.arange(0, embeddings.nbytes, max(1, _BLOCK_BYTES // row) * row)
    return _to_binary(embeddings, np.diff(starts, append=embeddings.nbytes))


def _packed(blocks: pa.Array, facts: dict[str, int | float | None]) -> pa.RecordBatch:
    types = dict.fromkeys(("rows", "null_rows", "bad_rows"), pa.int64())
    types |= {"min_dim": pa.int32(), "max_dim": pa.int32(), "max_norm": pa.float64()}
    columns = [pa.array([facts.get(name)] * len(blocks), kind) for name, kind in types.items()]
    return pa.RecordBatch.from_arrays([blocks, *columns], names=["block", *types])


def _partial_sums(sums: np.ndarray, counts: np.ndarray, sse: float) -> pa.RecordBatch:
    row = {"sums": [sums.tobytes()], "counts": [counts.tobytes()], "sse": [float(sse)]}
    return pa.RecordBatch.from_pydict(row)


def _block_batch(blocks: pa.Array, codes: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([blocks, codes], names=["block", "codes"])
