"""A frozen bank of items on disk, in shards: what `NearestItems` searches.

In: item IDs and embeddings. Out: a folder with, per shard, ``shard-<n>.arrow`` (item_id, embedding, copy; memory-mapped,
never read whole), for large banks ``shard-<n>.faiss``, and ``bank.json`` with their sha256. Rows lie in the order of their
IDs, so a row's position in the bank decides ties as its ID does.
"""

from __future__ import annotations

import functools
import json
import os
import uuid
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
    """What the worker that wrote a shard says of it."""

    shard: int
    rows: int
    repeated_ids: int
    max_norm: float
    sha256: str
    lists_sha256: str | None


class Bank(NamedTuple):
    """A bank on disk: its folder, which every executor must reach, and what ``bank.json`` says.

    The manifest has rows, dim, item_id_type (Spark's name), exact (whether there are no lists) and shards: per shard name,
    rows, max_norm, sha256, lists_sha256.
    """

    folder: str
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Bank:
        """Opens a bank.

        Raises:
            ValueError: There is none.
        """
        file = Path(folder) / MANIFEST
        if not file.is_file():
            raise ValueError(
                f"{folder} has no {MANIFEST}, must be the folder of a bank. Fit NearestItems with bankPath."
            )
        return cls(str(folder), json.loads(file.read_text()))

    @classmethod
    def create(cls, folder: str, facts: list[ShardFacts], **manifest: Any) -> Bank:
        """Writes ``bank.json`` beside shards that have been written.

        Raises:
            ValueError: A shard is not there.
        """
        lost = [fact.shard for fact in facts if not Path(folder, f"{shard_name(fact.shard)}.arrow").is_file()]
        if lost:
            raise ValueError(
                f"bankPath is {folder}, must be a folder that the driver and every executor reach: {len(lost)} of "
                f"{len(facts)} shards were written elsewhere. Mount one on all machines."
            )
        of_shard = [{"name": shard_name(fact.shard), **{name: getattr(fact, name) for name in _KEPT}} for fact in facts]
        content = {**manifest, "rows": sum(fact.rows for fact in facts), "shards": of_shard}
        write_json(Path(folder) / MANIFEST, content)
        return cls(folder, content)

    def verify(self) -> Bank:
        """Checks every shard against ``bank.json`` and returns the bank itself.

        Raises:
            ValueError: A file is missing or differs.
        """
        for shard in self.manifest["shards"]:
            for suffix, expected in (("arrow", shard["sha256"]), ("faiss", shard["lists_sha256"])):
                file = Path(self.folder, f"{shard['name']}.{suffix}")
                if expected is not None and (not file.is_file() or sha256(file) != expected):
                    raise ValueError(f"{file} is missing or differs from {MANIFEST}. Restore it or fit a new bank.")
        return self


_KEPT = ("rows", "max_norm", "sha256", "lists_sha256")


def shard_name(number: int) -> str:
    """Returns the name of a shard's files, without suffix."""
    return f"shard-{number:05d}"


def write_shard(
    folder: str, number: int, item_ids: pa.Array, embeddings: np.ndarray, *, seed: int | None
) -> ShardFacts:
    """Writes one shard, in the order of item IDs.

    Args:
        folder: of the bank.
        number: of the shard, from 0.
        item_ids: N IDs, int or string, without nulls.
        embeddings: (N, D) float32, finite.
        seed: of the lists, at least 0; None: the shard is searched exactly and has none.
    """
    order = pc.sort_indices(item_ids)
    item_ids, embeddings = item_ids.take(order), np.ascontiguousarray(embeddings[order.to_numpy()])
    values = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), embeddings.shape[1])
    batch = pa.record_batch([item_ids, values, pa.array(_count_copies(embeddings))], ["item_id", "embedding", "copy"])
    os.makedirs(folder, exist_ok=True)
    path = Path(folder, shard_name(number))
    digests: list[str | None] = [_place(path.with_suffix(".arrow"), lambda draft: _write_arrow(draft, batch)), None]
    if seed is not None:
        digests[1] = _place(path.with_suffix(".faiss"), lambda draft: build_lists(embeddings, draft, seed=seed))
    repeated = len(item_ids) - len(item_ids.unique())
    norms = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64))
    return ShardFacts(number, len(item_ids), repeated, float(norms.max()), *digests)


def find_nearest(bank: Bank, item_ids: pa.Array, embeddings: np.ndarray, *, k: int, num_probes: int | None) -> pa.Array:
    """Finds the k items of the bank that are nearest to each query by inner product; an item never finds itself.

    Args:
        bank: the bank.
        item_ids: B IDs of the queries, of the bank's type, without nulls.
        embeddings: (B, D) float32, finite.
        k: at least 1.
        num_probes: lists of a shard that are looked through; None: all rows.

    Returns:
        B structs of item_ids, at most k, the nearest first, equally near ones by ID, and similarities, float32.

    Raises:
        ValueError: A shard is not on this machine.
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
    """A memory-mapped shard: IDs, embeddings (N, D) float32, copies (N,) int32."""

    item_ids: pa.Array
    embeddings: np.ndarray
    copies: np.ndarray


@functools.lru_cache(maxsize=2)
def _open_shards(folder: str, named: tuple[tuple[str, str], ...]) -> list[_Shard]:
    """Maps the shards of these names and sha256 once per Python worker, which Spark reuses from task to task."""
    return [_open_shard(Path(folder, f"{name}.arrow")) for name, _ in named]


def _open_shard(file: Path) -> _Shard:
    if not file.is_file():
        raise ValueError(f"{file} is not on this machine, must be in a folder that every executor reaches. Mount it.")
    batch = pa.ipc.open_file(pa.memory_map(str(file))).get_batch(0)
    values = batch["embedding"]
    matrix = values.flatten().to_numpy().reshape(len(values), values.type.list_size)
    return _Shard(batch["item_id"], matrix, batch["copy"].to_numpy())


def _to_structs(best: Nearest, shards: list[_Shard]) -> pa.Array:
    """Replaces positions by item IDs, and leaves out the empty places."""
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
    """Returns for each row (N,) int32 how many rows before it are equal to it."""
    _, group = np.unique(embeddings.view(f"V{embeddings.shape[1] * 4}").ravel(), return_inverse=True)
    order = np.argsort(group, kind="stable")
    sorted_groups = group[order]
    starts = np.flatnonzero(np.concatenate([[True], sorted_groups[1:] != sorted_groups[:-1]]))
    lengths = np.diff(starts, append=len(group))
    copies = np.empty(len(group), np.int32)
    copies[order] = np.arange(len(group)) - np.repeat(starts, lengths)
    return copies


def _write_arrow(draft: str, batch: pa.RecordBatch) -> None:
    with pa.ipc.new_file(draft, batch.schema) as writer:
        writer.write_batch(batch)


def _place(file: Path, write) -> str:
    """Writes a file by ``write(path)``, moves it to its place and returns its sha256; a task run twice does no harm."""
    draft = file.with_name(f".{file.name}-{uuid.uuid4().hex}")
    write(str(draft))
    digest = sha256(draft)
    os.replace(draft, file)
    return digest
