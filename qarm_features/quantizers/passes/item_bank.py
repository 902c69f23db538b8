"""A frozen bank of items on disk, in shards, which ``NearestItems`` searches.

In: item IDs and embeddings. Out: the files of a shard, ``shard-<n>.arrow`` (item_id, embedding, copy; mapped into memory,
never read whole) and ``shard-<n>.faiss`` for large banks; and the nearest rows of queries. Rows are in the order of their
IDs, so the position of a row in the bank decides between equal similarities as its ID would.
"""

from __future__ import annotations

import functools
import os
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qarm_features.quantizers.arrays.nearest_rows import NO_POSITION, Nearest, Rows, merge_candidates, merge_shard
from qarm_features.quantizers.arrays.row_lists import build_lists, probe_lists, read_lists
from qarm_features.quantizers.passes.bank_folder import Bank, ShardFacts, shard_name
from qarm_features.storage.json_files import sha256
from qarm_features.storage.objects import AnyPath, ObjectPath, any_path


def write_shard(
    folder: str, number: int, item_ids: pa.Array, embeddings: np.ndarray, *, seed: int | None
) -> ShardFacts:
    """Write one shard, in the order of item IDs.

    Args:
        folder: Folder of the bank, or its URI.
        number: Number of the shard, from 0.
        item_ids: N item IDs, integers or strings, without nulls.
        embeddings: Embeddings (N, D) float32, finite.
        seed: Seed for training inverted lists, at least 0; None builds no lists, for a bank that is searched exactly.
    """
    order = pc.sort_indices(item_ids)
    item_ids, embeddings = item_ids.take(order), np.ascontiguousarray(embeddings[order.to_numpy()])
    values = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), embeddings.shape[1])
    batch = pa.record_batch([item_ids, values, pa.array(_count_copies(embeddings))], ["item_id", "embedding", "copy"])
    place, lists_digest = any_path(folder), None
    if isinstance(place, Path):
        place.mkdir(parents=True, exist_ok=True)
    digest = _place(place / f"{shard_name(number)}.arrow", lambda draft: _write_arrow(draft, batch))
    if seed is not None:
        lists = place / f"{shard_name(number)}.faiss"
        lists_digest = _place(lists, lambda draft: build_lists(embeddings, draft, seed=seed))
    repeated = len(item_ids) - len(item_ids.unique())
    norms = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64))
    return ShardFacts(number, len(item_ids), repeated, float(norms.max()), digest, lists_digest)


def find_nearest(bank: Bank, item_ids: pa.Array, embeddings: np.ndarray, *, k: int, num_probes: int | None) -> pa.Array:
    """Find the k items of the bank that are nearest to each query by inner product; an item never finds itself.

    Args:
        bank: Bank to search.
        item_ids: B item IDs of the queries, of the same type as in the bank, without nulls.
        embeddings: Embeddings (B, D) float32 of the queries, finite.
        k: Number of nearest items, at least 1.
        num_probes: Number of lists of a shard to search, at least 1; None compares all rows.

    Returns:
        B structs of at most k ``item_ids``, the nearest first and equally near ones by ID, and ``similarities``, float32.

    Raises:
        ValueError: The file of a shard is not on this machine.
    """
    folder = bank.local()
    shards = _open_shards(str(folder), tuple((shard["name"], shard["sha256"]) for shard in bank.manifest["shards"]))
    best, offset = Nearest.none(len(embeddings), k), 0
    for shard, facts in zip(shards, bank.manifest["shards"]):
        rows = Rows(shard.embeddings, shard.copies, offset, facts["max_norm"])
        own = pc.index_in(item_ids, shard.item_ids).fill_null(-1).to_numpy().astype(np.int64)
        if num_probes is None:
            best = merge_shard(embeddings, own, rows, best)
        else:
            lists = read_lists(f"{folder}/{facts['name']}.faiss", facts["lists_sha256"])
            pairs = probe_lists(lists, embeddings, k + 1, num_probes)
            best = merge_candidates(embeddings, own, rows, best, *pairs)
        offset += facts["rows"]
    return _to_structs(best, shards)


class _Shard(NamedTuple):
    """A shard that is mapped into memory.

    Attributes:
        item_ids: N item IDs.
        embeddings: Embeddings (N, D) float32.
        copies: Number (N,) int32 of equal rows before each row.
    """

    item_ids: pa.Array
    embeddings: np.ndarray
    copies: np.ndarray


@functools.lru_cache(maxsize=2)
def _open_shards(folder: str, named: tuple[tuple[str, str], ...]) -> list[_Shard]:
    """Map shards with these names and SHA-256 into memory, once per Python worker, which Spark reuses for many tasks."""
    return [_open_shard(Path(folder, f"{name}.arrow")) for name, _ in named]


def _open_shard(file: Path) -> _Shard:
    """Map the file of a shard into memory.

    Raises:
        ValueError: The file is not on this machine.
    """
    if not file.is_file():
        raise ValueError(f"{file} is not on this machine. Mount the folder of the bank on every executor.")
    batch = pa.ipc.open_file(pa.memory_map(str(file))).get_batch(0)
    values = batch["embedding"]
    matrix = values.flatten().to_numpy().reshape(len(values), values.type.list_size)
    return _Shard(batch["item_id"], matrix, batch["copy"].to_numpy())


def _to_structs(best: Nearest, shards: list[_Shard]) -> pa.Array:
    """Return structs of item IDs and similarities, without the empty places."""
    found = best.positions != NO_POSITION
    positions = best.positions[found]
    ends = np.cumsum([len(shard.item_ids) for shard in shards])
    shard_of = np.searchsorted(ends, positions, side="right")
    order = np.argsort(shard_of, kind="stable")
    taken, start = [], 0
    for number, (shard, end) in enumerate(zip(shards, ends)):
        size = int(np.count_nonzero(shard_of == number))
        local = positions[order[start : start + size]] - (end - len(shard.item_ids))
        taken.append(shard.item_ids.take(pa.array(local)))
        start += size
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    offsets = pa.array(np.concatenate([[0], np.cumsum(found.sum(axis=1))]), pa.int32())
    item_ids = pa.ListArray.from_arrays(offsets, pa.concat_arrays(taken).take(pa.array(back)))
    similarities = pa.ListArray.from_arrays(offsets, pa.array(best.similarities[found].astype(np.float32)))
    return pa.StructArray.from_arrays([item_ids, similarities], ["item_ids", "similarities"])


def _count_copies(embeddings: np.ndarray) -> np.ndarray:
    """Return the number (N,) int32 of equal rows before each row (N, D)."""
    _, group = np.unique(embeddings.view(f"V{embeddings.shape[1] * 4}").ravel(), return_inverse=True)
    order = np.argsort(group, kind="stable")
    sorted_groups = group[order]
    starts = np.flatnonzero(np.concatenate([[True], sorted_groups[1:] != sorted_groups[:-1]]))
    lengths = np.diff(starts, append=len(group))
    copies = np.empty(len(group), np.int32)
    copies[order] = np.arange(len(group)) - np.repeat(starts, lengths)
    return copies


def _write_arrow(draft: str, batch: pa.RecordBatch) -> None:
    """Write a batch as an Arrow file."""
    with pa.ipc.new_file(draft, batch.schema) as writer:
        writer.write_batch(batch)


def _place(file: AnyPath, write: Callable[[str], None]) -> str:
    """Write a file by ``write(path)``, move it to its place, and return its SHA-256.

    Two attempts of a task may do this at the same time, because each writes a draft of its own.
    """
    if isinstance(file, ObjectPath):
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder, file.name)
            write(str(draft))
            file.upload(draft)
            return sha256(draft)
    draft = file.with_name(f".{file.name}-{uuid.uuid4().hex}")
    write(str(draft))
    digest = sha256(draft)
    os.replace(draft, file)
    return digest
