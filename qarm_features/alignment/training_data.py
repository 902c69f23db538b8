"""Packed training data: item pairs in batches and the raw columns of any items, read from memory-mapped files.

In: a folder that :func:`~qarm_features.alignment.packing.packed` made. Out: batches of item indexes, which depend on
(seed, epoch, number) alone and not on how many processes train; and raw columns of the items asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from qarm_features.alignment.known_pairs import KnownPairs


class PairBatch(NamedTuple):
    """Item pairs.

    Attributes:
        trigger_index: (B,) int64.
        target_index: (B,) int64.
        weight: (B,) float32, above 0.
    """

    trigger_index: np.ndarray
    target_index: np.ndarray
    weight: np.ndarray

    def share(self, rank: int, world_size: int) -> PairBatch:
        """Returns the contiguous share of one process; shares differ by one pair at most."""
        begin, end = (len(self.weight) * number // world_size for number in (rank, rank + 1))
        return PairBatch(*(column[begin:end] for column in self))


class TrainingData:
    """Item pairs and item content of a packed folder.

    Args:
        folder: what ``packed`` returned.
        batch_size: most pairs of a batch.
        seed: of the order.
    """

    def __init__(self, folder: str | Path, *, batch_size: int, seed: int = 0):
        folder = Path(folder)
        self.items = PackedItems(folder)
        self.pairs, self.weights, self.valid_pairs, keys = (
            np.load(folder / f"{name}.npy", mmap_mode="r")
            for name in ("train_pairs", "train_weights", "valid_pairs", "known_pairs")
        )
        self.known = KnownPairs(keys, len(self.items))
        self.seed = seed
        self.num_batches = -(-len(self.pairs) // batch_size)

    def batches(self, epoch: int, *, first: int = 0) -> Iterator[PairBatch]:
        """Yields the batches of an epoch: every train pair once, in batches that differ by one pair at most.

        Args:
            epoch: from 0.
            first: number of the first batch that is wanted, as after a resumed training.
        """
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pairs))
        for number in range(first, self.num_batches):
            begin, end = (len(order) * n // self.num_batches for n in (number, number + 1))
            rows = order[begin:end]
            pairs = np.asarray(self.pairs[rows])
            yield PairBatch(pairs[:, 0], pairs[:, 1], np.asarray(self.weights[rows]))

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of the pairs and their weights, the same for the same pairs whatever their parts."""
        digest = hashlib.sha256(np.ascontiguousarray(self.pairs))
        for column in (self.weights, self.valid_pairs):
            digest.update(np.ascontiguousarray(column))
        return digest.hexdigest()[:16]

    def anchors(self, epoch: int, batch: int, *, number: int) -> np.ndarray:
        """Draws at most ``number`` different items, paired or not, for a batch of an epoch: (A,) int64, ascending."""
        rng = np.random.default_rng([self.seed, epoch, batch])
        return (
            np.unique(rng.integers(len(self.items), size=number))
            if number < len(self.items)
            else np.arange(len(self.items))
        )

    @cached_property
    def log_popularity(self) -> tuple[np.ndarray, np.ndarray]:
        """Log-probability of each item among the triggers and among the targets of train pairs: (n,) float32 each.

        An item that never stands there counts as half a time.
        """
        counts = (np.bincount(self.pairs[:, side], minlength=len(self.items)) for side in (0, 1))
        trigger, target = (np.log(np.maximum(count, 0.5) / len(self.pairs)).astype(np.float32) for count in counts)
        return trigger, target


class PackedItems:
    """Raw columns of items by item index; reads only what is asked for."""

    def __init__(self, folder: str | Path):
        self._reader = pa.ipc.open_file(pa.memory_map(str(Path(folder) / "items.arrow")))
        self._rows = np.load(Path(folder) / "item_rows.npy", mmap_mode="r")

    def __len__(self) -> int:
        """Returns the number of items."""
        return len(self._rows)

    def columns(self, index: np.ndarray) -> dict[str, list[Any]]:
        """Reads items.

        Args:
            index: (B,) item indexes in any order.

        Returns:
            B values, or None where null, of every raw column there is; an array of numbers as a numpy array.
        """
        batches: dict[int, pa.RecordBatch] = {}
        columns: dict[str, list[Any]] = {name: [] for name in self._reader.schema.names}
        for number, row in self._rows[index].tolist():
            if number not in batches:
                batches[number] = self._reader.get_batch(number)
            for name, values in columns.items():
                values.append(_value(batches[number].column(name)[row]))
        return columns


def _value(scalar: pa.Scalar) -> Any:
    if isinstance(scalar, pa.ListScalar | pa.LargeListScalar | pa.FixedSizeListScalar) and scalar.is_valid:
        return scalar.values.to_numpy(zero_copy_only=False)
    return scalar.as_py()
