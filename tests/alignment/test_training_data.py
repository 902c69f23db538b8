"""Parquet files are packed into memory-mapped files, and batches do not depend on the number of processes."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qarm_features.alignment.packing import pack_training_data, packed
from qarm_features.alignment.training_data import TrainingData
from tests.alignment.planted_pairs import write_planted_source


@pytest.fixture
def source(tmp_path):
    texts = pa.array([None if item == 3 else f"item {item}" for item in range(120)])
    return write_planted_source(tmp_path / "source", text=texts)


def open_packed(source, **arguments) -> TrainingData:
    return TrainingData(packed(source), **{"batch_size": 64} | arguments)


def rewrite(source, name: str, change) -> None:
    """Replaces all files by one file with changed columns."""
    files = sorted((source / name).glob("*.parquet"))
    columns = dict(zip((table := pa.concat_tables(map(pq.read_table, files))).column_names, table.columns))
    for file in files[1:]:
        file.unlink()
    pq.write_table(pa.table(change(columns)), files[0])


def test_items_are_read_by_index_whatever_their_part_and_place(source):
    items = open_packed(source).items

    columns = items.columns(np.array([7, 3, 119, 7]))

    assert len(items) == 120
    assert columns["text"] == ["item 7", None, "item 119", "item 7"]
    table = pa.concat_tables(pq.read_table(part) for part in (source / "items").iterdir())
    expected = dict(zip(table["item_index"].to_pylist(), table["precomputed"].to_pylist()))
    assert columns["precomputed"][2].tolist() == expected[119]


def test_media_are_read_back_byte_by_byte(tmp_path):
    images = pa.array([bytes([item]) * item for item in range(120)])
    source = write_planted_source(tmp_path / "source", image=images)

    columns = open_packed(source).items.columns(np.array([0, 100]))

    assert columns["image"] == [b"", bytes([100]) * 100]


def test_an_epoch_holds_every_train_pair_once_in_even_batches(source):
    data = open_packed(source, batch_size=100)

    batches = list(data.batches(epoch=0))

    seen = sorted(zip(*(np.concatenate(column).tolist() for column in zip(*batches))))
    assert seen == sorted(zip(*data.pairs.T.tolist(), data.weights.tolist()))
    assert {len(batch.weight) for batch in batches} <= {len(data.pairs) // 5, len(data.pairs) // 5 + 1}


def test_items_of_one_content_are_one_item_and_their_pairs_with_each_other_are_left_out(tmp_path):
    texts = [f"text {item % 24}" for item in range(118)] + [None, None]
    same = [item % 24 if item < 118 else item for item in range(120)]
    vectors = pa.array([[float(item % 24), 1.0] for item in range(118)] + [None, None])
    source = write_planted_source(tmp_path / "source", text=pa.array(texts), precomputed=vectors)
    rows = pa.concat_tables(map(pq.read_table, sorted((source / "pairs").glob("*.parquet")))).to_pylist()

    data = open_packed(source)

    assert len(data.items) == 26  # two items without content are rejected, each for itself
    assert data.items.copies.tolist() == [5] * 22 + [4, 4, 1, 1]
    read = data.items.columns(np.arange(26))
    assert read["text"] == [*texts[:24], None, None]
    assert [row.tolist() for row in read["precomputed"][:24]] == [[float(item), 1.0] for item in range(24)]
    number = {item: item if item < 24 else item - 94 for item in set(same)}
    ends = {
        split: sorted(
            (number[same[row["trigger_index"]]], number[same[row["target_index"]]])
            for row in rows
            if row["split"] == split and same[row["trigger_index"]] != same[row["target_index"]]
        )
        for split in ("train", "valid")
    }
    assert sum(map(len, ends.values())) < len(rows)
    assert sorted(map(tuple, data.pairs.tolist())) == ends["train"]
    assert sorted(map(tuple, data.valid_pairs.tolist())) == ends["valid"]
    assert data.known.num_items == 26
    assert data.anchors(0, 0, number=10**6).tolist() == list(range(26))


def test_the_items_of_one_content_are_the_same_ones_whatever_the_order_of_rows_and_files(tmp_path, source):
    def duplicated(columns):
        texts = pa.array([f"text {item % 7}" for item in columns["item_index"].to_pylist()])
        return {"item_index": columns["item_index"], "text": texts}

    def turned(columns):
        order = np.random.default_rng(0).permutation(120)
        return {name: column.take(pa.array(order)) for name, column in duplicated(columns).items()}

    rewrite(source, "items", duplicated)
    straight = open_packed(source)
    texts, pairs = straight.items.columns(np.arange(7))["text"], straight.pairs.tolist()
    rewrite(source, "items", turned)
    other = open_packed(source)

    assert texts == [f"text {item}" for item in range(7)]
    assert other.items.columns(np.arange(7))["text"] == texts
    assert other.pairs.tolist() == pairs


def test_a_folder_whose_pairs_are_all_of_one_content_is_refused(source):
    rewrite(source, "items", lambda columns: {"item_index": columns["item_index"], "text": pa.array(["one"] * 120)})

    with pytest.raises(ValueError, match="pairs hold 0 train and 0 valid rows, must hold at least 2 and 1"):
        packed(source)


def test_batches_follow_seed_and_epoch_alone(source):
    def triggers(seed: int, epoch: int, first: int = 0) -> list[list[int]]:
        return [batch.trigger_index.tolist() for batch in open_packed(source, seed=seed).batches(epoch, first=first)]

    assert triggers(0, 0) == triggers(0, 0)
    assert triggers(0, 0)[3:] == triggers(0, 0, first=3)
    assert triggers(0, 0) != triggers(0, 1) != triggers(1, 1)


@pytest.mark.parametrize("world_size", [1, 2, 7, 100])
def test_shares_of_the_processes_make_up_the_batch(source, world_size):
    batch = next(open_packed(source).batches(0))

    shares = [batch.share(rank, world_size) for rank in range(world_size)]

    assert np.concatenate([share.target_index for share in shares]).tolist() == batch.target_index.tolist()
    assert max(len(share.weight) for share in shares) - min(len(share.weight) for share in shares) <= 1


def test_the_same_rows_in_other_parts_are_packed_alike(tmp_path):
    one = open_packed(write_planted_source(tmp_path / "one", parts=1))
    five = open_packed(write_planted_source(tmp_path / "five", parts=5))

    assert np.array_equal(one.pairs, five.pairs)
    assert np.array_equal(one.weights, five.weights)
    everything = np.arange(120)
    vectors = [np.stack(data.items.columns(everything)["precomputed"]) for data in (one, five)]
    assert np.array_equal(*vectors)


def test_the_popularity_is_the_share_among_triggers_and_among_targets(source):
    data = open_packed(source)

    trigger, target = data.log_popularity

    counts = np.bincount(data.pairs[:, 0], minlength=120)
    item = int(counts.argmax())
    assert trigger[item] == pytest.approx(np.log(counts[item] / len(data.pairs)), abs=1e-5)
    assert target[data.pairs[0, 1]] == pytest.approx(np.log((data.pairs[:, 1] == data.pairs[0, 1]).mean()), abs=1e-5)


def test_the_same_parts_are_packed_once(source):
    first = packed(source)
    written = (first / "items.arrow").stat().st_mtime_ns

    assert packed(source) == first
    assert (first / "items.arrow").stat().st_mtime_ns == written
    rewrite(source, "pairs", lambda columns: columns)
    assert packed(source) != first


def test_a_second_packer_leaves_the_folder_of_the_first(source, tmp_path):
    pack_training_data(source, tmp_path / "packed")
    written = (tmp_path / "packed" / "items.arrow").stat().st_mtime_ns

    pack_training_data(source, tmp_path / "packed")

    assert (tmp_path / "packed" / "items.arrow").stat().st_mtime_ns == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packed", "source"]


def column(name: str, values):
    """Returns a change of one column, by a function of its values as a numpy array."""
    return lambda columns: columns | {name: pa.array(values(columns[name].to_numpy().copy()))}


def first_is(value):
    def change(values):
        values[0] = value
        return values

    return change


@pytest.mark.parametrize(("name", "change", "message"), [
    ("items", lambda columns: {"item_index": columns["item_index"]},
     "has columns item_index, must have item_index and one of text, image"),
    ("items", column("item_index", lambda values: values + 1),
     "item_index of 120 items runs from 1 to 120 with gaps or repeats, must be 0 to 119, each once"),
    ("items", column("item_index", lambda values: [None, *values[1:]]),
     "1 values of item_index, trigger_index, target_index or weight are null, must be numbers"),
    ("pairs", lambda columns: {"trigger_index": columns["trigger_index"]},
     "has no column split, target_index, weight, must have trigger_index, target_index, weight, split"),
    ("pairs", column("target_index", first_is(120)),
     "target_index runs from . to 120, must be an item_index from 0 to 119"),
    ("pairs", lambda columns: columns | {"target_index": columns["trigger_index"]},
     "is paired with itself, must be paired with another"),
    ("pairs", column("weight", first_is(-1.0)), r"weight of a pair is -1\.0, must be above 0"),
    ("pairs", column("split", first_is("test")), "split of a pair is test, must be train or valid"),
    ("pairs", column("split", lambda values: ["train"] * len(values)),
     "pairs hold 600 train and 0 valid rows, must hold at least 2 and 1"),
])  # fmt: skip
def test_what_training_cannot_use_is_refused(tmp_path, name, change, message):
    source = write_planted_source(tmp_path / "source")
    rewrite(source, name, change)

    with pytest.raises(ValueError, match=message):
        packed(source)
    assert not list(source.glob("*packed*"))


def test_a_source_without_parts_is_refused(tmp_path):
    with pytest.raises(ValueError, match="items holds no Parquet file. Run: qarm align-encoder"):
        packed(tmp_path)
