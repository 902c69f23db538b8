"""A frozen bank of items on disk, in shards, which ``NearestItems`` searches.

In: item IDs and embeddings. Out: a folder with ``shard-<n>.arrow`` per shard (item_id, embedding, copy; mapped into memory,
never read whole), ``shard-<n>.faiss`` for large banks, and ``bank.json`` with the SHA-256 of all files. Rows are in the order
of their IDs, so the position of a row in the bank decides between equal similarities as its ID would.
"""

from __future__ import annotations

import functools
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qarm_features.quantizers.arrays.nearest_rows import NO_POSITION, Nearest, Rows, merge_candidates, merge_shard
from qarm_features.quantizers.arrays.row_lists import build_lists, probe_lists, read_lists
from qarm_features.storage.artifacts import sha256, write_json

MANIFEST = "bank.json"


class ShardFacts(NamedTuple):
    """What the worker that wrote a shard reports.

    Attributes:
        shard: Number of the shard, from 0.
        rows: Number of rows.
        repeated_ids: Number of rows whose item ID stands in an earlier row.
        max_norm: Largest Euclidean norm of an embedding.
        sha256: SHA-256 of the Arrow file.
        lists_sha256: SHA-256 of the file of inverted lists, None without lists.
    """

    shard: int
    rows: int
    repeated_ids: int
    max_norm: float
    sha256: str
    lists_sha256: str | None


class Bank(NamedTuple):
    """A bank on disk.

    Attributes:
        folder: Path of its folder, which every executor must reach.
        manifest: Content of ``bank.json``: ``rows``, ``dim``, ``item_id_type`` (Spark's name), ``exact`` (True if there are
            no lists), and ``shards`` with ``name``, ``rows``, ``max_norm``, ``sha256`` and ``lists_sha256`` of each.
    """

    folder: str
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Bank:
        """Open a bank.

        Args:
            folder: Folder of the bank.

        Raises:
            ValueError: The folder holds no bank.
        """
        file = Path(folder) / MANIFEST
        if not file.is_file():
            raise ValueError(
                f"{folder} has no {MANIFEST}, so it is not the folder of a bank. Fit NearestItems with bankPath."
            )
        return cls(str(folder), json.loads(file.read_text()))

    @classmethod
    def create(cls, folder: str, facts: list[ShardFacts], **manifest: Any) -> Bank:
        """Write ``bank.json`` beside shards that are already written.

        Args:
            folder: Folder of the bank.
            facts: Facts of each shard, in order.
            manifest: Further entries of ``bank.json``.

        Raises:
            ValueError: The file of a shard is missing.
        """
        lost = [fact.shard for fact in facts if not Path(folder, f"{shard_name(fact.shard)}.arrow").is_file()]
        if lost:
            raise ValueError(
                f"{len(lost)} of {len(facts)} shards are not in bankPath {folder}, because executors wrote them to the disks "
                "of other machines. Mount one folder on all machines."
            )
        shards = [
            {"name": shard_name(fact.shard), **{name: getattr(fact, name) for name in _IN_MANIFEST}} for fact in facts
        ]
        content = {**manifest, "rows": sum(fact.rows for fact in facts), "shards": shards}
        write_json(Path(folder) / MANIFEST, content)
        return cls(folder, content)

    def verify(self) -> Bank:
        """Check every shard against ``bank.json`` and return the bank itself.

        Raises:
            ValueError: A file is missing or differs.
        """
        for shard in self.manifest["shards"]:
            for suffix, expected in (("arrow", shard["sha256"]), ("faiss", shard["lists_sha256"])):
                file = Path(self.folder, f"{shard['name']}.{suffix}")
                if expected is not None and (not file.is_file() or sha256(file) != expected):
                    raise ValueError(f"{file} is missing or differs from {MANIFEST}. Restore it or fit a new bank.")
        return self


_IN_MANIFEST = ("rows", "max_norm", "sha256", "lists_sha256")


def shard_name(number: int) -> str:
    """Return the name of the files of a shard, without suffix.

    Example:
        >>> shard_name(3)
        'shard-00003'
    """
    return f"shard-{number:05d}"


def write_shard(
    folder: str, number: int, item_ids: pa.Array, embeddings: np.ndarray, *, seed: int | None
) -> ShardFacts:
    """Write one shard, in the order of item IDs.

    Args:
        folder: Folder of the bank.
        number: Number of the shard, from 0.
        item_ids: N item IDs, integers or strings, without nulls.
        embeddings: Embeddings (N, D) float32, finite.
        seed: Seed for training inverted lists, at least 0; None builds no lists, for a bank that is searched exactly.
    """
    order = pc.sort_indices(item_ids)
    item_ids, embeddings = item_ids.take(order), np.ascontiguousarray(embeddings[order.to_numpy()])
    values = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), embeddings.shape[1])
    batch = pa.record_batch([item_ids, values, pa.array(_count_copies(embeddings))], ["item_id", "embedding", "copy"])
    os.makedirs(folder, exist_ok=True)
    path = Path(folder, shard_name(number))
    digest, lists_digest = _place(path.with_suffix(".arrow"), lambda draft: _write_arrow(draft, batch)), None
    if seed is not None:
        lists_digest = _place(path.with_suffix(".faiss"), lambda draft: build_lists(embeddings, draft, seed=seed))
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
    shards = _open_shards(bank.folder, tuple((shard["name"], shard["sha256"]) for shard in bank.manifest["shards"]))
    best, offset = Nearest.none(len(embeddings), k), 0
    for shard, facts in zip(shards, bank.manifest["shards"]):
        rows = Rows(shard.embeddings, shard.copies, offset, facts["max_norm"])
        own = pc.index_in(item_ids, shard.item_ids).fill_null(-1).to_numpy().astype(np.int64)
        if num_probes is None:
            best = merge_shard(embeddings, own, rows, best)
        else:
            lists = read_lists(f"{bank.folder}/{facts['name']}.faiss", facts["lists_sha256"])
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


def _place(file: Path, write: Callable[[str], None]) -> str:
    """Write a file by ``write(path)``, move it to its place, and return its SHA-256.

    Two attempts of a task may do this at the same time, because each writes a draft of its own.
    """
    draft = file.with_name(f".{file.name}-{uuid.uuid4().hex}")
    write(str(draft))
    digest = sha256(draft)
    os.replace(draft, file)
    return digest
