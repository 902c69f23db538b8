"""Read packed training data from memory-mapped files: item pairs in batches, and raw columns of items.

In: a folder that ``packed`` returned. Out: batches of item indexes, which depend only on seed, epoch and number of the batch
and not on the number of processes; and raw columns of items. Items with the same content are one item here, with one index.
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
    """Hold a batch of item pairs.

    Attributes:
        trigger_index: Indexes (B,) int64 of trigger items.
        target_index: Indexes (B,) int64 of target items.
        weight: Weights (B,) float32 of the pairs, above 0.
    """

    trigger_index: np.ndarray
    target_index: np.ndarray
    weight: np.ndarray

    def share(self, rank: int, world_size: int) -> PairBatch:
        """Return the contiguous share of one process; the sizes of shares differ by at most one pair.

        Args:
            rank: Number of the process, in [0, world_size).
            world_size: Number of processes, at least 1.

        Returns:
            The pairs of this process.
        """
        begin, end = (len(self.weight) * number // world_size for number in (rank, rank + 1))
        return PairBatch(*(column[begin:end] for column in self))


class TrainingData:
    """Read item pairs and item content from a packed folder.

    Args:
        folder: Folder that ``packed`` returned.
        batch_size: Greatest number of pairs in a batch, at least 1.
        seed: Seed of the order of the pairs and of the anchors.
    """

    def __init__(self, folder: str | Path, *, batch_size: int, seed: int = 0) -> None:
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
        """Yield the batches of an epoch: every train pair once, in batches whose sizes differ by at most one pair.

        Args:
            epoch: Number of the epoch, from 0.
            first: Number of the first batch that is returned; above 0 when a training run is resumed.

        Yields:
            Batches of pairs.
        """
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pairs))
        for number in range(first, self.num_batches):
            begin, end = (len(order) * n // self.num_batches for n in (number, number + 1))
            rows = order[begin:end]
            pairs = np.asarray(self.pairs[rows])
            yield PairBatch(pairs[:, 0], pairs[:, 1], np.asarray(self.weights[rows]))

    @cached_property
    def fingerprint(self) -> str:
        """Return a short hash of the pairs and their weights, which does not depend on the files that held them."""
        digest = hashlib.sha256()
        for column in (self.pairs, self.weights, self.valid_pairs):
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()[:16]

    def anchors(self, epoch: int, batch: int, *, number: int) -> np.ndarray:
        """Sample different items, with or without a pair, for one batch.

        Args:
            epoch: Number of the epoch, from 0.
            batch: Number of the batch, from 0.
            number: Greatest number of items, at least 0.

        Returns:
            Item indexes (A,) int64, ascending.
        """
        if number >= len(self.items):
            return np.arange(len(self.items))
        rng = np.random.default_rng([self.seed, epoch, batch])
        return np.unique(rng.integers(len(self.items), size=number))

    @cached_property
    def log_popularity(self) -> tuple[np.ndarray, np.ndarray]:
        """Return log-probabilities (n,) float32 of the items among the triggers, and among the targets, of train pairs.

        An item that never occurs counts as half an occurrence.
        """
        counts = (np.bincount(self.pairs[:, side], minlength=len(self.items)) for side in (0, 1))
        trigger, target = (np.log(np.maximum(count, 0.5) / len(self.pairs)).astype(np.float32) for count in counts)
        return trigger, target


class PackedItems:
    """Read raw columns of items by item index, without loading the whole file.

    Args:
        folder: Folder that ``packed`` returned.

    Attributes:
        copies: Numbers (m,) int64 of items of the catalog that have the content of each item here.
    """

    def __init__(self, folder: str | Path) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(Path(folder) / "items.arrow")))
        self._rows, self.copies = (
            np.load(Path(folder) / f"{name}.npy", mmap_mode="r") for name in ("item_rows", "copies")
        )

    def __len__(self) -> int:
        """Return the number of items, which have different contents."""
        return len(self._rows)

    def columns(self, index: np.ndarray) -> dict[str, list[Any]]:
        """Read the raw columns of items.

        Args:
            index: Item indexes (B,) in any order.

        Returns:
            B values of every raw column in the folder; null is None, and an array of numbers is a numpy array.
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
