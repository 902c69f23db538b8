"""Parquet files of ``training_rows`` in, padded tensors for a ranking model out; nothing holds the whole data set.

Columns read: user_id and item_id (string or int64), label (0/1), item_codes (list of L codes), behavior_item_ids (list,
oldest first), behavior_codes (list of length * L codes, flattened). -1 = missing code; a null list is an empty one.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from qarm_features.ranking.item_vocabulary import ItemVocabulary
from qarm_features.ranking.parquet_files import list_row_groups, read_shard

COLUMNS = ("user_id", "item_id", "label", "item_codes", "behavior_item_ids", "behavior_codes")
MISSING_CODE = -1
UNKNOWN_ITEM = 0


class RankingBatch(NamedTuple):
    """B rows of training data; the first five fields are the arguments of ``RankingModel.forward``, in order."""

    item_index: Tensor  # (B,) int64, 0 = unknown item
    item_codes: Tensor  # (B, L) int64, -1 = missing
    behavior_index: Tensor  # (B, T) int64, most recent last, then padding
    behavior_codes: Tensor  # (B, T, L) int64
    behavior_mask: Tensor  # (B, T) bool, False = padding
    label: Tensor  # (B,) float32, 0 or 1
    user_group: Tensor  # (B,) int64, one value per user: its id, or the hash of a string id

    def to(self, device: torch.device | str) -> "RankingBatch":
        """Moves every tensor to a device, without waiting for it."""
        return RankingBatch(*(tensor.to(device, non_blocking=True) for tensor in self))


class TrainingRows(IterableDataset):
    """Streams batches of this process's share of the rows; give it to ``DataLoader(rows, batch_size=None)``.

    Ranks and DataLoader workers read disjoint shares that differ by one row at most. With shuffling, the row groups
    are permuted by (seed, epoch), equally in every process, and rows by a buffer of shuffle_rows rows, which costs
    about shuffle_rows * T * (9 + 8 L) bytes, twice that at its peak.

    Args:
        files: paths or pyarrow-fs URIs of Parquet files, in the same order in every process.
        vocabulary: the item ids with a row of their own.
        num_levels: L, codes per item.
        batch_size: B; the last batch may be smaller.
        behavior_length: T; only the latest T behaviours are kept, shorter sequences are padded to T.
        shuffle_rows: size of the shuffle buffer in rows; 0 keeps the order of the files.
        seed: of the shuffle.
        rank: this process, in [0, world_size).
        world_size: number of processes.

    Raises:
        ValueError: if files is empty, a file lacks a column, or batch_size or behavior_length is below 1.
    """

    def __init__(
        self,
        files: Sequence[str],
        vocabulary: ItemVocabulary,
        *,
        num_levels: int,
        batch_size: int,
        behavior_length: int,
        shuffle_rows: int = 0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not files:
            raise ValueError("files is empty, must name at least one Parquet file. Run: qarm build-training-set")
        for name, size in {"batch_size": batch_size, "behavior_length": behavior_length}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}, must be at least 1.")
        self.row_groups = list_row_groups(files, COLUMNS)
        self.num_rows = sum(group.num_rows for group in self.row_groups)  # of all processes
        self.vocabulary, self.num_levels = vocabulary, num_levels
        self.batch_size, self.behavior_length = batch_size, behavior_length
        self.shuffle_rows, self.seed, self.epoch = shuffle_rows, seed, 0
        self.rank, self.world_size = rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass; call it before iterating, with workers that are not persistent."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[RankingBatch]:
        worker = get_worker_info()
        workers = worker.num_workers if worker else 1
        shard = self.rank * workers + (worker.id if worker else 0)
        row_groups = self.row_groups
        if self.shuffle_rows:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(len(row_groups))
            row_groups = [row_groups[i] for i in order]
        chunks = (
            encode_rows(rows, self.vocabulary, num_levels=self.num_levels, behavior_length=self.behavior_length)
            for rows in read_shard(row_groups, COLUMNS, shard=shard, num_shards=self.world_size * workers)
        )
        if self.shuffle_rows:
            generator = np.random.default_rng((self.seed, self.epoch, shard))
            chunks = _shuffle(chunks, self.shuffle_rows, generator)
        return _rebatch(chunks, self.batch_size)


def encode_rows(
    rows: pa.RecordBatch, vocabulary: ItemVocabulary, *, num_levels: int, behavior_length: int
) -> RankingBatch:
    """Turns Arrow rows into padded tensors by offsets, with no Python loop over rows.

    Args:
        rows: B rows with the columns named in this module's docstring.
        vocabulary: the item ids with a row of their own.
        num_levels: L.
        behavior_length: T.

    Returns:
        A batch of B rows padded to T behaviours.

    Raises:
        ValueError: if a label is neither 0 nor 1, item_codes have not L codes, or behavior_codes not L per behaviour.
    """
    begin, end = _bounds(rows.column("behavior_item_ids"))
    length = end - begin
    kept = np.minimum(length, behavior_length)
    index = vocabulary.index(rows.column("behavior_item_ids").values)

    code_begin, code_end = _bounds(rows.column("behavior_codes"))
    num_codes = code_end - code_begin
    _check_codes("behavior_codes", num_codes, length * num_levels)
    kept_codes = np.minimum(num_codes, kept * num_levels)
    behavior_codes = _codes(rows.column("behavior_codes"), code_end, kept_codes, behavior_length * num_levels)

    item_begin, item_end = _bounds(rows.column("item_codes"))
    _check_codes("item_codes", item_end - item_begin, np.full(rows.num_rows, num_levels))
    item_codes = _codes(rows.column("item_codes"), item_end, item_end - item_begin, num_levels)
    return RankingBatch(
        item_index=torch.from_numpy(vocabulary.index(rows.column("item_id"))),
        item_codes=torch.from_numpy(item_codes),
        behavior_index=torch.from_numpy(_latest(index, end, kept, behavior_length, fill=UNKNOWN_ITEM)),
        behavior_codes=torch.from_numpy(behavior_codes).unflatten(1, (behavior_length, num_levels)),
        behavior_mask=torch.from_numpy(np.arange(behavior_length) < kept[:, None]),
        label=torch.from_numpy(_labels(rows.column("label"))),
        user_group=torch.from_numpy(_user_groups(rows.column("user_id"))),
    )


def _bounds(lists: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """Returns begin and end of each list within ``lists.values``, (B,) int64 each; a null list is empty."""
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return np.where(lists.is_valid().to_numpy(zero_copy_only=False), offsets[:-1], offsets[1:]), offsets[1:]


def _latest(values: np.ndarray, end: np.ndarray, kept: np.ndarray, width: int, *, fill: int) -> np.ndarray:
    """Returns (B, width) int64: the ``kept`` values before ``end`` of each row, then fill."""
    column = np.arange(width)
    inside = column < kept[:, None]
    padded = np.full((len(end), width), fill, dtype=np.int64)
    padded[inside] = values[((end - kept)[:, None] + column)[inside]]
    return padded


def _codes(lists: pa.ListArray, end: np.ndarray, kept: np.ndarray, width: int) -> np.ndarray:
    codes = lists.values.fill_null(MISSING_CODE).to_numpy(zero_copy_only=False)
    return _latest(codes, end, kept, width, fill=MISSING_CODE)


def _check_codes(column: str, found: np.ndarray, expected: np.ndarray) -> None:
    wrong = np.flatnonzero((found != expected) & (found != 0))
    if len(wrong):
        raise ValueError(
            f"{column} holds {found[wrong[0]]} codes, must hold {expected[wrong[0]]} or none. "
            "Set num_levels to the number of levels of the codebooks."
        )


def _labels(column: pa.Array) -> np.ndarray:
    """Returns (B,) float32."""
    labels = column.cast(pa.float32()).to_numpy(zero_copy_only=False, writable=True)  # null becomes NaN
    wrong = labels[(labels != 0) & (labels != 1)]
    if len(wrong):
        raise ValueError(
            f"label is {'null' if np.isnan(wrong[0]) else wrong[0]}, must be 0 or 1. Run: qarm build-training-set"
        )
    return labels


def _user_groups(column: pa.Array) -> np.ndarray:
    """Returns (B,) int64; a string id is hashed, equally in every process; null is one user."""
    if pa.types.is_integer(column.type):
        return column.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    users = pc.dictionary_encode(column.fill_null(""))
    hashed = pd.util.hash_array(users.dictionary.to_numpy(zero_copy_only=False), categorize=False)
    return hashed.view(np.int64)[users.indices.to_numpy()]


def _map(function: Callable[..., Tensor], *batches: RankingBatch) -> RankingBatch:
    return RankingBatch(*(function(*tensors) for tensors in zip(*batches)))


def _shuffle(
    chunks: Iterator[RankingBatch], shuffle_rows: int, generator: np.random.Generator
) -> Iterator[RankingBatch]:
    """Fills a buffer of shuffle_rows rows, gives out a random half of it, and refills."""
    waiting: list[RankingBatch] = []
    num_waiting = 0
    for chunk in chunks:
        waiting.append(chunk)
        num_waiting += len(chunk.label)
        if num_waiting >= shuffle_rows:
            order = torch.from_numpy(generator.permutation(num_waiting))
            mixed = _map(lambda *parts, order=order: torch.cat(parts)[order], *waiting)
            half = num_waiting // 2
            yield _map(lambda tensor, half=half: tensor[:half], mixed)
            waiting, num_waiting = [_map(lambda tensor, half=half: tensor[half:], mixed)], num_waiting - half
    if waiting:
        order = torch.from_numpy(generator.permutation(num_waiting))
        yield _map(lambda *parts: torch.cat(parts)[order], *waiting)


def _rebatch(chunks: Iterator[RankingBatch], batch_size: int) -> Iterator[RankingBatch]:
    """Cuts a stream of chunks of any size into batches of batch_size rows; only the last one may be smaller."""
    rest: list[RankingBatch] = []
    for chunk in chunks:
        rows = _map(lambda *parts: torch.cat(parts), *rest, chunk)
        full = len(rows.label) - len(rows.label) % batch_size
        for first in range(0, full, batch_size):
            yield _map(lambda tensor, first=first: tensor[first : first + batch_size], rows)
        rest = [_map(lambda tensor, full=full: tensor[full:], rows)] if full < len(rows.label) else []
    yield from rest
