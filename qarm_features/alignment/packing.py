"""Pack Parquet files into memory-mapped files for training.

In: the folder ``source`` that Spark wrote::

    items/*.parquet    item_index int64: 0..n-1, each once, in the order of the item IDs; and raw columns of items:
                       text, image, image_uri, audio, audio_uri, precomputed (some or all of them; nullable)
    pairs/*.parquet    trigger_index int64, target_index int64, weight double > 0, split "train" | "valid"

Out: the folder ``target``, which ``TrainingData`` opens::

    items.arrow        record batches of a few rows in the order of the files, so that a read touches one batch
    item_rows.npy      (m, 2) int32: record batch and row of each packed item
    copies.npy         (m,) int64: number of items that each packed item stands for
    train_pairs.npy    (P, 2) int64, train_weights.npy (P,) float32, valid_pairs.npy (V, 2) int64: sorted by pair
    known_pairs.npy    sorted int64 keys of the train pairs, from ``pair_keys``

**Items with the same content are one packed item**, since the encoder cannot tell them apart: their content is encoded once,
and no item is a negative of its own content. Pairs name packed items; a pair of one content teaches nothing and is left out.
Packed items are in the order of the first item of each content, so that without such items nothing changes.

Items are streamed; 40 bytes of each are in memory. All pairs are in memory at once, at about 150 bytes for each pair: 3 GB
for 20 million pairs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qarm_features.alignment.known_pairs import pair_keys
from qarm_features.storage.artifacts import fingerprint
from qarm_features.storage.tables import ITEM_CONTENT

_PAIR_COLUMNS = ("trigger_index", "target_index", "weight", "split")
_ROWS, _MEDIA_ROWS = 256, 16  # rows of a record batch, without and with bytes of media
_LAYOUT = 2  # of the packed files; those of another layout are packed anew
_DIGEST = 16  # bytes


def packed(source: str | Path, scratch: str | Path | None = None) -> Path:
    """Pack training data unless the same files were packed before.

    Any number of processes may call this function at once, because the packed folder appears by one rename.

    Args:
        source: Folder with ``items/`` and ``pairs/``.
        scratch: Local folder for the packed files, which need about as much space as the source; None uses ``source``.

    Returns:
        The folder of the packed files.
    """
    parts = sorted(Path(source).glob("*/*.parquet"))
    stamp = fingerprint([_LAYOUT, *((part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in parts)])
    target = Path(scratch or source) / f"packed-{stamp}"
    if not target.is_dir():
        pack_training_data(source, target)
    return target


def pack_training_data(source: str | Path, target: str | Path) -> None:
    """Write the memory-mapped files of a source folder.

    Args:
        source: Folder with ``items/`` and ``pairs/``.
        target: Folder that is created; it is not changed if another process created it first.

    Raises:
        ValueError: Files or columns are missing, ``item_index`` is not 0..n-1 with each number once, a pair names an
            unknown item, pairs an item with itself or has a weight that is not above 0, or a split has too few pairs.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> items = pa.table({"item_index": [0, 1, 2], "text": ["lamp", "light", "cup"]})
        >>> pairs = {"trigger_index": [0, 1, 2], "target_index": [1, 2, 0], "weight": [1.0, 1.0, 1.0]}
        >>> pairs = pa.table(pairs | {"split": ["train", "train", "valid"]})
        >>> for name, table in {"items": items, "pairs": pairs}.items():
        ...     (folder / name).mkdir()
        ...     pq.write_table(table, folder / name / "part-0.parquet")
        >>> pack_training_data(folder, folder / "packed")
        >>> np.load(folder / "packed" / "train_pairs.npy").tolist()
        [[0, 1], [1, 2]]
    """
    target = Path(target)
    draft = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    draft.mkdir(parents=True)
    try:
        content = _pack_items(_parts(Path(source) / "items"), draft)
        _pack_pairs(_parts(Path(source) / "pairs"), draft, content)
        try:
            os.rename(draft, target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _parts(folder: Path) -> list[Path]:
    parts = sorted(folder.glob("*.parquet"))
    if not parts:
        raise ValueError(f"{folder} holds no Parquet file. Run: qarm align-encoder")
    return parts


def _pack_items(parts: Sequence[Path], folder: Path) -> np.ndarray:
    """Stream the items into one Arrow IPC file, and return the packed item (n,) int64 of each item index."""
    schema = pq.read_schema(parts[0])
    names = [name for name in ITEM_CONTENT if name in schema.names]
    if not names or "item_index" not in schema.names:
        raise ValueError(
            f"{parts[0]} has columns {', '.join(schema.names)}, must have item_index and one of "
            f"{', '.join(ITEM_CONTENT)}. Run: qarm align-encoder"
        )
    types = [schema.field(name).type for name in names]
    has_media = any(pa.types.is_binary(one) or pa.types.is_large_binary(one) for one in types)
    size = _MEDIA_ROWS if has_media else _ROWS
    raw = pa.schema([schema.field(name).with_metadata(None) for name in names])
    indexes, places, digests, number = [], [], [], 0
    with pa.ipc.new_file(str(folder / "items.arrow"), raw) as writer:
        for part in parts:
            with pq.ParquetFile(part) as file:
                for rows in file.iter_batches(size, columns=["item_index", *names]):
                    indexes.append(_numbers(rows.column("item_index"), np.int64))
                    places.append(np.stack([np.full(len(rows), number), np.arange(len(rows))], 1).astype(np.int32))
                    batch = rows.select(names).cast(raw)
                    digests.append(_digests(batch, indexes[-1]))
                    writer.write_batch(batch)
                    number += 1
    index, place = np.concatenate(indexes), np.concatenate(places)
    if not np.array_equal(np.sort(index), np.arange(len(index))):
        raise ValueError(
            f"item_index of {len(index)} items runs from {index.min()} to {index.max()} with gaps or repeats, "
            f"must be 0 to {len(index) - 1}, each once. Number the items anew."
        )
    order = np.argsort(index)
    _, first, of_digest, copies = np.unique(
        np.concatenate(digests)[order], return_index=True, return_inverse=True, return_counts=True
    )
    by_first = np.argsort(first)  # the content of the first item gets number 0
    place_of = np.empty_like(by_first)
    place_of[by_first] = np.arange(len(by_first))
    np.save(folder / "item_rows.npy", place[order][first[by_first]])
    np.save(folder / "copies.npy", copies[by_first])
    packed_item: np.ndarray = place_of[of_digest]
    return packed_item


def _digests(rows: pa.RecordBatch, index: np.ndarray) -> np.ndarray:
    """Return a digest (B,) of the content of each item, equal for equal content; an item without content has its own."""
    found = np.empty(len(rows), f"S{_DIGEST}")
    columns = [rows.column(name) for name in rows.schema.names]
    for row in range(len(rows)):
        digest = hashlib.blake2b(digest_size=_DIGEST)
        values = [_bytes(column[row]) for column in columns]
        for value in values:
            digest.update(b"-" if value is None else len(value).to_bytes(8, "little"))
            digest.update(value or b"")
        if all(value is None for value in values):
            digest.update(int(index[row]).to_bytes(8, "little"))  # each of them is rejected and counted
        found[row] = digest.digest()
    return found


def _bytes(scalar: pa.Scalar) -> bytes | memoryview | None:
    if not scalar.is_valid:
        return None
    if isinstance(scalar, pa.ListScalar | pa.LargeListScalar | pa.FixedSizeListScalar):
        values: bytes = scalar.values.to_numpy(zero_copy_only=False).tobytes()
        return values
    return memoryview(scalar.as_buffer())


def _pack_pairs(parts: Sequence[Path], folder: Path, content: np.ndarray) -> None:
    """Write the pairs of packed items.

    Args:
        parts: Files of the pairs.
        folder: Folder that is written.
        content: (n,) packed item of each item index.
    """
    num_items = len(content)
    trigger, target, weight, train = (np.concatenate(column) for column in zip(*map(_read_pairs, parts)))
    for name, index in {"trigger_index": trigger, "target_index": target}.items():
        if len(index) and not 0 <= index.min() <= index.max() < num_items:
            raise ValueError(
                f"{name} runs from {index.min()} to {index.max()}, must be an item_index from 0 to {num_items - 1}."
            )
    if (trigger == target).any():
        raise ValueError(f"Item {trigger[trigger == target][0]} is paired with itself, must be paired with another.")
    if not (weight > 0).all():
        raise ValueError(f"weight of a pair is {weight[~(weight > 0)][0]}, must be above 0. Leave such pairs out.")
    trigger, target = content[trigger], content[target]
    differ = trigger != target
    trigger, target, weight, train = trigger[differ], target[differ], weight[differ], train[differ]
    if train.sum() < 2 or train.all():
        raise ValueError(
            f"pairs hold {train.sum()} train and {(~train).sum()} valid rows, must hold at least 2 and 1. "
            "Mine more pairs or change alignment.valid_share or valid_item_share."
        )
    order = np.lexsort((weight, target, trigger))  # the order does not depend on the files
    pairs, train = np.stack([trigger, target], 1)[order], train[order]
    np.save(folder / "train_pairs.npy", pairs[train])
    np.save(folder / "train_weights.npy", weight[order][train].astype(np.float32))
    np.save(folder / "valid_pairs.npy", pairs[~train])
    np.save(folder / "known_pairs.npy", pair_keys(pairs[train, 0], pairs[train, 1], int(content.max()) + 1))


def _read_pairs(part: Path) -> tuple[np.ndarray, ...]:
    missing = sorted(set(_PAIR_COLUMNS) - set(pq.read_schema(part).names))
    if missing:
        raise ValueError(f"{part} has no column {', '.join(missing)}, must have {', '.join(_PAIR_COLUMNS)}.")
    table = pq.read_table(part, columns=list(_PAIR_COLUMNS))
    unknown = sorted(set(pc.unique(table["split"]).to_pylist()) - {"train", "valid"}, key=str)
    if unknown:
        raise ValueError(f"split of a pair is {unknown[0]}, must be train or valid.")
    train = pc.equal(table["split"], "train").to_numpy()
    columns = [_numbers(table[name], dtype) for name, dtype in zip(_PAIR_COLUMNS, (np.int64, np.int64, np.float64))]
    return (*columns, train)


def _numbers(column: pa.Array | pa.ChunkedArray, dtype: type) -> np.ndarray:
    if column.null_count:
        raise ValueError(
            f"{column.null_count} values of item_index, trigger_index, target_index or weight are null, must be numbers. "
            "Leave such rows out."
        )
    return np.asarray(column).astype(dtype)
