"""TrainingRows: Parquet files become padded tensors, each row exactly once over all ranks and workers."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

from qarm_features.ranking import ItemVocabulary, RankingModel, TrainingRows

STRING_ROWS = {
    "user_id": ["ann", "bob", "ann"],
    "item_id": ["film_a", "film_new", "film_c"],
    "label": [1, 0, 0],
    "item_codes": [[5, 6], None, [-1, -1]],
    "behavior_item_ids": [["film_a", "film_b", "film_c"], None, ["film_b"]],
    "behavior_codes": [[1, 2, 3, 4, 5, 6], None, []],
}


def write_rows(file, rows: dict, *, id_type=pa.string(), rows_per_group: int = 1000) -> str:  # noqa: B008  a type, never changed
    types = {
        "user_id": id_type,
        "item_id": id_type,
        "label": pa.int32(),
        "item_codes": pa.list_(pa.int32()),
        "behavior_item_ids": pa.list_(id_type),
        "behavior_codes": pa.list_(pa.int32()),
    }
    table = pa.table({name: pa.array(values, type=types[name]) for name, values in rows.items()})
    pq.write_table(table, file, row_group_size=rows_per_group)
    return str(file)


def write_numbered_files(folder, sizes: list[int], *, rows_per_group: int = 4) -> list[str]:
    """Files whose user_id counts all rows from 0."""
    files, first = [], 0
    for number, size in enumerate(sizes):
        users = list(range(first, first + size))
        rows = {"user_id": users, "item_id": users, "label": [0] * size, "item_codes": [None] * size}
        rows |= {"behavior_item_ids": [None] * size, "behavior_codes": [None] * size}
        file = folder / f"{number}.parquet"
        files.append(write_rows(file, rows, id_type=pa.int64(), rows_per_group=rows_per_group))
        first += size
    return files


def numbered_rows(files: list[str], **options) -> TrainingRows:
    options = {"num_levels": 2, "batch_size": 4, "behavior_length": 2} | options
    return TrainingRows(files, ItemVocabulary([]), **options)


def users_read(rows: TrainingRows) -> list[int]:
    return [user for batch in rows for user in batch.user_group.tolist()]


def only_batch(file: str, *, behavior_length: int = 4, vocabulary=("film_a", "film_b", "film_c")):
    options = {"num_levels": 2, "batch_size": 8, "behavior_length": behavior_length}
    (batch,) = TrainingRows([file], ItemVocabulary(vocabulary), **options)
    return batch


def test_lists_are_padded_and_null_lists_are_empty(tmp_path):
    file = write_rows(tmp_path / "rows.parquet", STRING_ROWS)

    batch = only_batch(file, behavior_length=4)

    assert batch.item_index.tolist() == [1, 0, 3]
    assert batch.item_codes.tolist() == [[5, 6], [-1, -1], [-1, -1]]
    assert batch.behavior_index.tolist() == [[1, 2, 3, 0], [0, 0, 0, 0], [2, 0, 0, 0]]
    assert batch.behavior_codes.tolist() == [
        [[1, 2], [3, 4], [5, 6], [-1, -1]],
        [[-1, -1]] * 4,
        [[-1, -1]] * 4,  # a behavior whose codes are missing
    ]
    assert batch.behavior_mask.tolist() == [[True, True, True, False], [False] * 4, [True, False, False, False]]
    assert batch.label.tolist() == [1.0, 0.0, 0.0]


def test_only_the_latest_behaviors_are_kept(tmp_path):
    file = write_rows(tmp_path / "rows.parquet", STRING_ROWS)

    batch = only_batch(file, behavior_length=2)

    assert batch.behavior_index.tolist() == [[2, 3], [0, 0], [2, 0]]
    assert batch.behavior_codes.tolist() == [[[3, 4], [5, 6]], [[-1, -1]] * 2, [[-1, -1]] * 2]
    assert batch.behavior_mask.tolist() == [[True, True], [False, False], [True, False]]


def test_integer_ids_are_read_as_they_are(tmp_path):
    ids = {"user_id": [8, -3, 8], "item_id": [10, 99, 30], "behavior_item_ids": [[10, 20, 30], None, [20]]}
    file = write_rows(tmp_path / "rows.parquet", STRING_ROWS | ids, id_type=pa.int64())

    batch = only_batch(file, vocabulary=[10, 20, 30])

    assert batch.item_index.tolist() == [1, 0, 3]
    assert batch.behavior_index.tolist() == [[1, 2, 3, 0], [0, 0, 0, 0], [2, 0, 0, 0]]
    assert batch.user_group.tolist() == [8, -3, 8]


def test_string_users_are_told_apart(tmp_path):
    file = write_rows(tmp_path / "rows.parquet", STRING_ROWS | {"user_id": ["ann", None, "ann"]})

    users = only_batch(file).user_group.tolist()

    assert users[0] == users[2] != users[1]


def test_a_null_inside_a_list_is_unknown_or_missing(tmp_path):
    nulls = {"item_codes": [[5, None], None, None], "behavior_item_ids": [["film_a", None, "film_c"], None, None]}
    file = write_rows(tmp_path / "rows.parquet", STRING_ROWS | nulls)

    batch = only_batch(file)

    assert batch.item_codes[0].tolist() == [5, -1]
    assert batch.behavior_index[0].tolist() == [1, 0, 3, 0]


def test_types_and_shapes_are_those_that_the_model_takes(tmp_path):
    batch = only_batch(write_rows(tmp_path / "rows.parquet", STRING_ROWS))

    logits = RankingModel(num_items=3, num_levels=2, codebook_size=7)(batch)

    assert logits.shape == (3,)
    assert [tensor.dtype for tensor in batch[:7]] == [torch.int64] * 4 + [torch.bool, torch.float32, torch.int64]
    assert batch.to("cpu").label.tolist() == [1.0, 0.0, 0.0]


def test_batches_run_over_the_borders_of_files_and_row_groups(tmp_path):
    files = write_numbered_files(tmp_path, [5, 6])

    users = [batch.user_group.tolist() for batch in numbered_rows(files, batch_size=4)]

    assert users == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


def test_a_uri_is_read_like_a_path(tmp_path):
    files = write_numbered_files(tmp_path, [3])

    users = users_read(numbered_rows([f"file://{files[0]}"]))

    assert users == [0, 1, 2]


@pytest.mark.parametrize("shuffle_rows", [0, 6])
def test_the_shares_of_the_ranks_are_disjoint_complete_and_equal(tmp_path, shuffle_rows):
    files = write_numbered_files(tmp_path, [13, 1, 9])

    shares = [users_read(numbered_rows(files, rank=rank, world_size=2, shuffle_rows=shuffle_rows)) for rank in (0, 1)]

    assert sorted(shares[0] + shares[1]) == list(range(23))
    assert [len(share) for share in shares] == [11, 12]


def test_more_ranks_than_rows_leave_some_with_nothing(tmp_path):
    files = write_numbered_files(tmp_path, [2])

    shares = [users_read(numbered_rows(files, rank=rank, world_size=3)) for rank in range(3)]

    assert shares == [[], [0], [1]]


def test_workers_of_a_loader_share_the_rows_of_their_rank(tmp_path):
    files = write_numbered_files(tmp_path, [9])
    rows = numbered_rows(files, rank=1, world_size=2)

    loader = DataLoader(rows, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    users = [user for batch in loader for user in batch.user_group.tolist()]

    assert sorted(users) == [4, 5, 6, 7, 8]


def test_the_order_is_fixed_by_seed_and_epoch(tmp_path):
    files = write_numbered_files(tmp_path, [40])

    def order(seed: int, epoch: int) -> list[int]:
        rows = numbered_rows(files, shuffle_rows=10, seed=seed)
        rows.set_epoch(epoch)
        return users_read(rows)

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    assert sorted(order(0, 0)) == list(range(40))


def test_a_large_row_group_is_read_in_pieces(tmp_path):
    files = write_numbered_files(tmp_path, [20_000], rows_per_group=20_000)

    shares = [users_read(numbered_rows(files, rank=rank, world_size=3, batch_size=512)) for rank in range(3)]

    assert shares[0] + shares[1] + shares[2] == list(range(20_000))


def test_behaviors_in_the_middle_of_a_record_batch_keep_their_codes(tmp_path):
    """A share may begin inside a record batch, where list offsets do not start at 0."""
    file = write_rows(tmp_path / "rows.parquet", STRING_ROWS | {"behavior_codes": [[1, 2, 3, 4, 5, 6], None, [7, 8]]})
    options = {"num_levels": 2, "batch_size": 8, "behavior_length": 1}

    rows = TrainingRows([file], ItemVocabulary(["film_b"]), **options, rank=2, world_size=3)
    (batch,) = rows

    assert (batch.behavior_index.tolist(), batch.behavior_codes.tolist()) == ([[1]], [[[7, 8]]])


@pytest.mark.parametrize(("change", "message"), [
    ({"item_codes": [[5, 6, 7], None, None]}, "item_codes holds 3 codes, must hold 2 or none"),
    ({"behavior_codes": [[1, 2], None, None]}, "behavior_codes holds 2 codes, must hold 6 or none"),
    ({"label": [1, 0, None]}, "label is null, must be 0 or 1"),
    ({"label": [1, 0, 3]}, r"label is 3\.0, must be 0 or 1"),
])  # fmt: skip
def test_rows_that_make_no_sense_are_refused(tmp_path, change, message):
    file = write_rows(tmp_path / "rows.parquet", STRING_ROWS | change)

    with pytest.raises(ValueError, match=message):
        only_batch(file)


def test_a_file_without_a_column_is_refused(tmp_path):
    rows = {name: values for name, values in STRING_ROWS.items() if name != "item_codes"}
    file = write_rows(tmp_path / "rows.parquet", rows)

    with pytest.raises(ValueError, match=r"rows\.parquet has no column item_codes, but user_id, item_id, label"):
        only_batch(file)


def test_no_files_are_refused():
    with pytest.raises(ValueError, match="files is empty, must name at least one Parquet file"):
        numbered_rows([])


@pytest.mark.parametrize("name", ["batch_size", "behavior_length"])
def test_sizes_below_one_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} is 0, must be at least 1"):
        numbered_rows(write_numbered_files(tmp_path, [1]), **{name: 0})
