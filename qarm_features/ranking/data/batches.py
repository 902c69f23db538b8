"""Streams of padded batches for a ranking model; no process holds the whole data set.

In: Parquet files of ``training_rows``. Out: ``RankingBatch`` objects. These columns are read: user_id and item_id (string or
int64), label (0/1), item_codes (list of L codes), behavior_item_ids (list, oldest first), behavior_codes (list of length * L
codes, flattened), and the columns of the optional fields of ``RankingBatch``.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from torch.utils.data import IterableDataset, get_worker_info

from qarm_features.ranking.data.item_vocabulary import ItemVocabulary
from qarm_features.ranking.data.parquet_files import read_footers, read_shard, shard_range
from qarm_features.ranking.data.ranking_batch import COLUMNS, COLUMNS_OF_FIELD, RankingBatch
from qarm_features.ranking.data.row_encoding import encode_rows
from qarm_features.ranking.data.shuffle import batches_in_order, shuffled_batches


class TrainingRows(IterableDataset):
    """Streams batches of this process's share of the rows, for ``DataLoader(rows, batch_size=None)``.

    Ranks and DataLoader workers read disjoint shares that differ by one row at most. With shuffling, every process permutes
    the row groups alike by (seed, epoch), and a buffer of shuffle_rows rows permutes the rows. The buffer holds unpadded
    Arrow rows and takes at most twice their size in memory. ``state_dict`` and ``load_state_dict`` resume a pass.

    Args:
        files: Paths or pyarrow-fs URIs of Parquet files, in the same order in every process.
        vocabulary: Vocabulary of the items that have an index.
        num_levels: L, the number of codes per item.
        batch_size: B; the last batch may be smaller.
        behavior_length: T, the number of latest behaviors that are kept; shorter sequences are padded to T.
        impression_length: T2, the number of latest impressions that are kept; None for T.
        optional_fields: Names of the optional fields of ``RankingBatch`` to read; columns of other fields are not decoded.
            None for all fields whose columns every file has.
        shuffle_rows: Size of the shuffle buffer in rows; 0 keeps the order of the files.
        seed: Seed of the shuffle.
        rank: Number of this process, in [0, world_size).
        world_size: Number of processes, at least 1.

    Raises:
        ValueError: If files is empty, a file lacks a column, a name is not an optional field, or batch_size,
            behavior_length or impression_length is below 1.

    Example:
        Batches of two files, read by four workers::

            rows = TrainingRows(files, item_vocabulary(files), num_levels=3, batch_size=512, behavior_length=50)
            for batch in DataLoader(rows, batch_size=None, num_workers=4, multiprocessing_context="spawn"):
                loss = model.losses(batch).total
    """

    def __init__(
        self,
        files: Sequence[str],
        vocabulary: ItemVocabulary,
        *,
        num_levels: int,
        batch_size: int,
        behavior_length: int,
        impression_length: int | None = None,
        optional_fields: Collection[str] | None = None,
        shuffle_rows: int = 0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not files:
            raise ValueError("files is empty, must name at least one Parquet file. Run: qarm build-training-set")
        self.impression_length = behavior_length if impression_length is None else impression_length
        for name, size in {
            "batch_size": batch_size,
            "behavior_length": behavior_length,
            "impression_length": self.impression_length,
        }.items():
            if size < 1:
                raise ValueError(f"{name} is {size}, must be at least 1.")
        footers = read_footers(files)
        self.optional_fields = _optional_fields(optional_fields, footers.columns)
        self.columns = tuple(dict.fromkeys(COLUMNS + sum((COLUMNS_OF_FIELD[f] for f in self.optional_fields), ())))
        footers.require(self.columns)
        self.row_groups = footers.row_groups
        self.num_rows = sum(group.num_rows for group in self.row_groups)  # of all processes
        self.vocabulary, self.num_levels = vocabulary, num_levels
        self.batch_size, self.behavior_length = batch_size, behavior_length
        self.shuffle_rows, self.seed, self.epoch = shuffle_rows, seed, 0
        self.rank, self.world_size = rank, world_size
        self._given, self._resumed = 0, False  # rows that this process has yielded in this pass

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass.

        Call it before the pass begins, with DataLoader workers that are not persistent.

        Args:
            epoch: Number of the epoch, at least 0.
        """
        if epoch != self.epoch:
            self.epoch, self._given = epoch, 0
            self._resumed = False

    def state_dict(self) -> dict[str, Any]:
        """Returns the position of this process in the pass, from which ``load_state_dict`` goes on.

        A DataLoader worker has a state of its own, which torchdata's ``StatefulDataLoader`` collects and restores.
        """
        return {"epoch": self.epoch, "rows_given": self._given, "order": self._order()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Lets the next pass begin at the position of a state, without reading the rows before it again.

        Args:
            state: Return value of ``state_dict``.

        Raises:
            ValueError: If the state belongs to other rows, another order or another batch_size.
        """
        for name, mine in self._order().items():
            if state["order"][name] != mine:
                raise ValueError(
                    f"{name} is {mine}, must be {state['order'][name]} as in the state. "
                    "Resume with the arguments of the first run."
                )
        self.epoch, self._given, self._resumed = state["epoch"], state["rows_given"], True

    def _order(self) -> dict[str, int]:
        names = ("batch_size", "shuffle_rows", "seed", "num_rows", "rank", "world_size")
        return {name: getattr(self, name) for name in names} | {"row_groups": len(self.row_groups)}

    def __iter__(self) -> Iterator[RankingBatch]:
        start, self._resumed = (self._given if self._resumed else 0), False
        self._given = start
        for rows in self._batches(start):
            self._given += rows.num_rows
            yield self._encode(rows)

    def _batches(self, start: int) -> Iterator[pa.RecordBatch]:
        worker = get_worker_info()
        workers = worker.num_workers if worker else 1
        mine = {"shard": self.rank * workers + (worker.id if worker else 0), "num_shards": self.world_size * workers}
        row_groups = self.row_groups
        if self.shuffle_rows:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(len(row_groups))
            row_groups = [row_groups[i] for i in order]

        def read(position: int) -> Iterator[pa.RecordBatch]:
            return read_shard(row_groups, self.columns, **mine, start=position)

        if not self.shuffle_rows:
            return batches_in_order(read, self.batch_size, start=start)
        begin, end = shard_range(row_groups, **mine)
        return shuffled_batches(
            read,
            self.batch_size,
            start=start,
            num_rows=end - begin,
            shuffle_rows=self.shuffle_rows,
            generator=np.random.default_rng((self.seed, self.epoch, mine["shard"])),
        )

    def _encode(self, rows: pa.RecordBatch) -> RankingBatch:
        return encode_rows(
            rows,
            self.vocabulary,
            num_levels=self.num_levels,
            behavior_length=self.behavior_length,
            impression_length=self.impression_length,
            optional_fields=self.optional_fields,
        )


def _optional_fields(names: Collection[str] | None, columns: Collection[str]) -> tuple[str, ...]:
    """Returns the optional fields to read, in their order; for None all that the columns allow."""
    if names is None:
        return tuple(field for field, needed in COLUMNS_OF_FIELD.items() if set(needed) <= set(columns))
    unknown = sorted(set(names) - set(COLUMNS_OF_FIELD))
    if unknown:
        raise ValueError(f"optional_fields name {', '.join(unknown)}, must be of {', '.join(COLUMNS_OF_FIELD)}.")
    return tuple(field for field in COLUMNS_OF_FIELD if field in names)
