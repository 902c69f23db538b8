"""A resumed pass yields, by value, the batches that a pass without interruption would have yielded."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from qarm_features.ranking import ItemVocabulary, TrainingRows
from qarm_features.ranking.data.shuffle import rounds


def write(folder, sizes=(37, 5, 61)) -> list[str]:
    """Files whose user_id counts all rows from 0, with as many behaviors as the number's last digit says."""
    files, first = [], 0
    for number, size in enumerate(sizes):
        users = np.arange(first, first + size)
        behaviors = [list(range(user % 10)) for user in users]
        columns = {
            "user_id": users,
            "item_id": users,
            "label": np.zeros(size, np.int32),
            "item_codes": pa.array([[user % 5, 1] for user in users], pa.list_(pa.int32())),
            "behavior_item_ids": pa.array(behaviors, pa.list_(pa.int64())),
            "behavior_codes": pa.array([[item for item in b for _ in (0, 1)] for b in behaviors], pa.list_(pa.int32())),
        }
        pq.write_table(pa.table(columns), folder / f"{number}.parquet", row_group_size=8)
        files.append(str(folder / f"{number}.parquet"))
        first += size
    return files


def open_rows(files, **options) -> TrainingRows:
    options = {"num_levels": 2, "batch_size": 7, "behavior_length": 5, "shuffle_rows": 20} | options
    return TrainingRows(files, ItemVocabulary(range(200)), **options)


def assert_equal(batches, expected):
    assert [len(batch.label) for batch in batches] == [len(batch.label) for batch in expected]
    for batch, other in zip(batches, expected):
        assert all(torch.equal(mine, its) for mine, its in zip(batch[:7], other[:7]))


@pytest.mark.parametrize("shuffle_rows", [0, 1, 20, 1000])
def test_the_remaining_batches_are_those_of_an_undisturbed_run(tmp_path, shuffle_rows):
    files = write(tmp_path)
    undisturbed = open_rows(files, shuffle_rows=shuffle_rows)
    undisturbed.set_epoch(3)
    whole = list(undisturbed)

    for stopped_after in range(len(whole) + 1):
        stopped = open_rows(files, shuffle_rows=shuffle_rows)
        stopped.set_epoch(3)
        passing = iter(stopped)
        for _ in range(stopped_after):
            next(passing)
        resumed = open_rows(files, shuffle_rows=shuffle_rows)
        resumed.load_state_dict(stopped.state_dict())

        assert_equal(list(resumed), whole[stopped_after:])

    assert sorted(user for batch in whole for user in batch.user_group.tolist()) == list(range(103))


def test_the_pass_after_a_resumed_one_is_whole(tmp_path):
    files = write(tmp_path)
    stopped = open_rows(files)
    next(iter(stopped))
    resumed = open_rows(files)
    resumed.load_state_dict(stopped.state_dict())

    remaining, again = list(resumed), list(resumed)

    assert (len(remaining), len(again)) == (14, 15)
    assert_equal(again, list(open_rows(files)))


def test_another_epoch_after_a_state_starts_at_its_beginning(tmp_path):
    files = write(tmp_path)
    stopped, fresh = open_rows(files), open_rows(files)
    next(iter(stopped))
    fresh.set_epoch(1)
    resumed = open_rows(files)
    resumed.load_state_dict(stopped.state_dict())

    resumed.set_epoch(1)

    assert_equal(list(resumed), list(fresh))


class _WithState(IterableDataset):
    """Gives each batch with its worker's state, and starts a worker from its state, as a StatefulDataLoader does."""

    def __init__(self, rows, states=None):
        self.rows, self.states = rows, states

    def __iter__(self):
        worker = torch.utils.data.get_worker_info().id
        if self.states:
            self.rows.load_state_dict(self.states[worker])
        for batch in self.rows:
            yield worker, batch, self.rows.state_dict()


@pytest.mark.slow
def test_every_worker_of_every_rank_resumes_where_it_was(tmp_path):
    files = write(tmp_path)
    rows = open_rows(files, rank=1, world_size=2)

    def loader(states=None):
        return DataLoader(_WithState(rows, states), batch_size=None, num_workers=2, multiprocessing_context="spawn")

    whole = list(loader())
    states = {worker: state for worker, _, state in whole[:4]}
    resumed = list(loader(states))

    assert_equal([batch for _, batch, _ in resumed], [batch for _, batch, _ in whole[4:]])
    assert len(whole) > 5


def test_resuming_reads_only_the_row_groups_that_are_still_needed(tmp_path, monkeypatch):
    from qarm_features.ranking.data import parquet_files

    files = write(tmp_path, sizes=(4000,))
    opened = []
    read_range = parquet_files._read_range
    monkeypatch.setattr(
        parquet_files, "_read_range", lambda group, *rest: opened.append(group.number) or read_range(group, *rest)
    )
    stopped = open_rows(files)
    passing = iter(stopped)
    for _ in range(500):
        next(passing)
    resumed = open_rows(files)
    resumed.load_state_dict(stopped.state_dict())
    opened.clear()

    remaining = list(resumed)

    assert sum(len(batch.label) for batch in remaining) == 500
    assert len(set(opened)) < 100  # of 500


def test_the_rounds_of_a_shuffle_give_out_every_position_once():
    given, kept = [], None
    for drawn in rounds(1_000, 64, np.random.default_rng(0)):
        assert kept is None or drawn.kept.tolist() == kept
        waiting = np.concatenate([drawn.kept, np.arange(drawn.first, drawn.first + drawn.fill)])[drawn.order]
        given += waiting[: drawn.out].tolist()
        kept = waiting[drawn.out :].tolist()

    assert sorted(given) == list(range(1_000))
    assert np.corrcoef(given, range(1_000))[0, 1] < 0.9999


@pytest.mark.parametrize(("change", "message"), [
    ({"batch_size": 8}, "batch_size is 8, must be 7 as in the state. Resume with the arguments of the first run"),
    ({"seed": 1}, "seed is 1, must be 0 as in the state"),
    ({"shuffle_rows": 0}, "shuffle_rows is 0, must be 20 as in the state"),
    ({"world_size": 2}, "world_size is 2, must be 1 as in the state"),
])  # fmt: skip
def test_a_state_of_another_order_is_refused(tmp_path, change, message):
    files = write(tmp_path)

    with pytest.raises(ValueError, match=message):
        open_rows(files, **change).load_state_dict(open_rows(files).state_dict())
