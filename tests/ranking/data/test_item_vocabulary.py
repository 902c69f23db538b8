"""ItemVocabulary: item IDs become rows of an embedding table."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qarm_features.ranking import ItemVocabulary, item_vocabulary


def write_rows(file, item_ids, behavior_item_ids, *, id_type=pa.string(), rows_per_group=2):  # noqa: B008
    columns = {
        "item_id": pa.array(item_ids, type=id_type),
        "behavior_item_ids": pa.array(behavior_item_ids, type=pa.list_(id_type)),
    }
    pq.write_table(pa.table(columns), file, row_group_size=rows_per_group)
    return str(file)


def test_ids_are_numbered_from_one_in_ascending_order():
    vocabulary = ItemVocabulary(["film_b", "film_a", "film_b"])

    index = vocabulary.index(pa.array(["film_a", "film_b", "film_new", None, "film_a"]))

    assert len(vocabulary) == 2
    assert index.tolist() == [1, 2, 0, 0, 1]


def test_integer_ids_are_compared_as_numbers():
    vocabulary = ItemVocabulary([100, 9])

    index = vocabulary.index(pa.array([9, 100, 1], type=pa.int32()))

    assert index.tolist() == [1, 2, 0]


def test_an_empty_vocabulary_knows_no_item():
    assert ItemVocabulary([]).index(pa.array(["film_a"])).tolist() == [0]


@pytest.mark.parametrize(("ids", "query"), [(["b", "a"], ["b"]), ([7, 5], [7])])
def test_saved_and_loaded_it_gives_the_same_indexes(tmp_path, ids, query):
    ItemVocabulary(ids).save(tmp_path / "item_vocabulary.parquet")

    loaded = ItemVocabulary.load(tmp_path / "item_vocabulary.parquet")

    assert loaded.index(pa.array(query)).tolist() == [2]
    assert pq.read_table(tmp_path / "item_vocabulary.parquet").to_pydict() == {"item_id": sorted(ids)}


@pytest.mark.parametrize(("trained", "catalog", "ids"), [
    ([7, 3], [9, 3, 1], [3, 7, 1, 9]),
    (["d", "b"], ["a", "b", "c"], ["b", "d", "a", "c"]),
    ([], [2, 1], [1, 2]),
])  # fmt: skip
def test_items_unknown_to_training_get_the_indexes_behind_the_known_ones(tmp_path, trained, catalog, ids):
    extended = ItemVocabulary(trained).extended(pa.array(catalog))
    extended.save(tmp_path / "item_vocabulary.parquet")

    loaded = ItemVocabulary.load(tmp_path / "item_vocabulary.parquet")

    assert loaded.ids.tolist() == extended.ids.tolist() == ids
    assert loaded.num_known == extended.num_known == len(trained)
    assert loaded.index(pa.array(ids)).tolist() == list(range(1, len(ids) + 1))


def test_extended_twice_no_index_moves():
    extended = ItemVocabulary([5]).extended([9]).extended([1, 9, 5])

    assert extended.ids.tolist() == [5, 9, 1]
    assert extended.num_known == 1


def test_extending_by_ids_of_another_type_is_refused():
    with pytest.raises(ValueError, match="ids are of type string, must be int64 as in the item vocabulary"):
        ItemVocabulary([1]).extended(["a"])


def test_targets_and_behaviors_of_all_files_are_counted(tmp_path):
    files = [
        write_rows(tmp_path / "0.parquet", ["a", "b", "b"], [None, ["c"], ["c", "d"]]),
        write_rows(tmp_path / "1.parquet", ["a"], [["c"]]),
    ]

    vocabulary = item_vocabulary(files)

    assert vocabulary.ids.tolist() == ["a", "b", "c", "d"]


def test_the_most_frequent_items_are_kept_and_ties_go_to_the_smaller_id(tmp_path):
    files = [
        write_rows(tmp_path / "0.parquet", [30, 20], [[10, 20], [40, None]], id_type=pa.int64()),
        write_rows(tmp_path / "1.parquet", [30], [None], id_type=pa.int64()),
    ]

    vocabulary = item_vocabulary(files, max_items=3)

    assert vocabulary.ids.tolist() == [10, 20, 30]  # 20 and 30 twice, 10 and 40 once


def test_counting_many_record_batches_folds_their_counts(tmp_path):
    item_ids = [f"film_{row % 50}" for row in range(100)]
    file = write_rows(tmp_path / "0.parquet", item_ids, [None] * 100, rows_per_group=1)

    vocabulary = item_vocabulary([file])

    assert len(vocabulary) == 50


def test_ids_that_are_neither_integers_nor_strings_are_refused():
    with pytest.raises(ValueError, match="ids are of type double, must be all str or all int"):
        ItemVocabulary(pa.array([0.5]))


def test_ids_of_mixed_types_are_refused():
    with pytest.raises(ValueError, match="ids are of type int, str, must be all str or all int"):
        ItemVocabulary(["a", 1])


@pytest.mark.parametrize(("known", "asked", "message"), [
    (["1"], pa.array([1]), "ids are of type int64, must be string as in the item vocabulary"),
    ([1], pa.array(["1"]), "ids are of type string, must be int64 as in the item vocabulary"),
])  # fmt: skip
def test_ids_of_another_type_than_the_vocabularys_are_refused(known, asked, message):
    with pytest.raises(ValueError, match=message):
        ItemVocabulary(known).index(asked)


def test_keeping_no_item_is_refused():
    with pytest.raises(ValueError, match="max_items is 0, must be at least 1"):
        item_vocabulary([], max_items=0)
