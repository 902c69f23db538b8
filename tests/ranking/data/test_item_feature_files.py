"""Item features: from Parquet files of a catalog to memory-mapped arrays by item index."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qarm_features.ranking import (
    ItemSources,
    ItemVocabulary,
    open_item_features,
    write_item_content,
    write_item_features,
)
from qarm_features.storage.artifacts import Artifacts

TRAINED = ItemVocabulary([30, 10])  # 10 is 1, 30 is 2; 20 and 40 are new: 3 and 4


def write(file, *, row_group_size=2, **columns):
    pq.write_table(pa.table(columns), file, row_group_size=row_group_size)
    return str(file)


def embeddings(file, item_ids, values, **options):
    return write(file, item_id=item_ids, embedding=pa.array(values, pa.list_(pa.float32())), **options)


def nearest(file, item_ids, codes, similarities, **options):
    similarities = pa.array(similarities, pa.list_(pa.float32()))
    return write(file, item_id=item_ids, vq_codes=codes, vq_similarities=similarities, **options)


def test_vectors_stand_in_the_order_of_the_vocabulary_and_new_items_behind(tmp_path):
    files = [
        embeddings(tmp_path / "0.parquet", [40, 30, 20], [[4.0, 0.0], [3.0, 0.0], [2.0, 0.5]]),
        embeddings(tmp_path / "1.parquet", [50], [None]),
    ]

    write_item_features(tmp_path / "features", TRAINED, ItemSources(embedding_files=files))
    vocabulary, features = open_item_features(tmp_path / "features")

    assert vocabulary.ids.tolist() == [10, 30, 20, 40, 50]
    assert (vocabulary.num_known, features.num_items) == (2, 5)
    assert features.vectors.tolist() == [[0, 0], [0, 0], [3, 0], [2, 0.5], [4, 0], [0, 0]]
    assert isinstance(features.vectors, np.memmap)
    assert features.nearest_items is None
    assert features.content is None


def test_nearest_items_become_indexes_and_similarities_distances(tmp_path):
    file = nearest(tmp_path / "0.parquet", [30, 40, 10], [[20, 10], [30], [99, 40]], [[0.75, 0.5], [1.0], [0.5, 0.25]])

    write_item_features(tmp_path / "features", TRAINED, ItemSources(nearest_item_files=[file]))
    vocabulary, features = open_item_features(tmp_path / "features")

    assert vocabulary.ids.tolist() == [10, 30, 40]
    assert features.nearest_items.tolist() == [[0, 0], [0, 3], [0, 1], [2, 0]]  # 20 and 99 are in no source
    assert features.nearest_distances.tolist() == [[0, 0], [0.5, 0.75], [0.25, 0.5], [0, 0]]


@pytest.mark.parametrize(("trained", "ids"), [([30, 10], [20, 30]), (["c", "a"], ["bb", "c"])])
def test_content_rows_name_the_rows_of_the_store(tmp_path, trained, ids):
    tokens = {"text": (np.ones((2, 1, 3)), np.ones((2, 1), bool))}
    write_item_content(tmp_path / "content", ids, tokens)
    sources = ItemSources(content_folder=tmp_path / "content")

    write_item_features(tmp_path / "features", ItemVocabulary(trained), sources)
    vocabulary, features = open_item_features(tmp_path / "features")

    assert vocabulary.ids.tolist() == [*sorted(trained), ids[0]]
    assert features.content_rows.tolist() == [-1, -1, 1, 0]
    assert features.content.token_dims == {"text": 3}


def test_content_that_moved_is_found_where_it_lies_now_and_left_out_where_it_is_gone(tmp_path):
    tokens = {"text": (np.ones((1, 1, 3)), np.ones((1, 1), bool))}
    write_item_content(tmp_path / "content", [20], tokens)
    write_item_features(tmp_path / "features", TRAINED, ItemSources(content_folder=tmp_path / "content"))

    (tmp_path / "content").rename(tmp_path / "moved")

    assert open_item_features(tmp_path / "features")[1].content is None
    _, features = open_item_features(tmp_path / "features", content_folder=tmp_path / "moved")
    assert features.content_rows.tolist() == [-1, -1, -1, 0]


def test_content_in_an_object_store_is_fetched_where_features_are_opened_and_left_out_with_a_warning_where_it_is_gone(
    bucket, tmp_path, monkeypatch, caplog
):
    tokens = {"text": (np.ones((1, 1, 3)), np.ones((1, 1), bool))}
    content = Artifacts(bucket, "item_content").publish(lambda folder: write_item_content(folder, [20], tokens))
    sources = ItemSources(content_folder=str(content.place))
    features = Artifacts(bucket, "item_features").publish(lambda folder: write_item_features(folder, TRAINED, sources))

    monkeypatch.setenv("QARM_CACHE_DIR", str(tmp_path / "another_machine"))
    _, opened = open_item_features(str(features.place))
    monkeypatch.setenv("QARM_CACHE_DIR", str(tmp_path / "a_third_machine"))
    (content.place / "manifest.json").unlink()
    _, without = open_item_features(str(features.place))

    assert opened.content_rows.tolist() == [-1, -1, -1, 0]
    assert opened.content.folder.is_relative_to(tmp_path / "another_machine")
    assert (without.content, without.content_rows) == (None, None)
    assert [record.getMessage().partition(": s3://")[0] for record in caplog.records] == [
        "WARNING: The item features have no content tokens"
    ]


def test_written_anew_a_folder_keeps_nothing_of_before(tmp_path):
    file = embeddings(tmp_path / "0.parquet", [10], [[1.0]])
    write_item_features(tmp_path / "features", TRAINED, ItemSources(embedding_files=[file]))

    write_item_features(tmp_path / "features", TRAINED, ItemSources())

    assert open_item_features(tmp_path / "features")[1].vectors is None


def test_many_small_row_groups_give_what_one_gives(tmp_path):
    ids = np.random.default_rng(0).permutation(5000)
    values = np.random.default_rng(1).normal(size=(5000, 4)).astype(np.float32)
    files = [
        embeddings(tmp_path / f"{size}.parquet", ids, values.tolist(), row_group_size=size) for size in (700, 9000)
    ]

    for size, file in zip(("small", "large"), files):
        write_item_features(tmp_path / size, ItemVocabulary(range(4000)), ItemSources(embedding_files=[file]))

    small, large = (open_item_features(tmp_path / size)[1].vectors for size in ("small", "large"))
    np.testing.assert_array_equal(small, large)
    np.testing.assert_array_equal(small[1:][ids], values)


def test_embeddings_of_two_widths_are_refused(tmp_path):
    file = embeddings(tmp_path / "0.parquet", [10, 20, 30], [[1.0], [1.0], [1.0, 2.0]])

    with pytest.raises(ValueError, match="embedding holds 2 numbers, must hold 1 as the first does"):
        write_item_features(tmp_path / "features", TRAINED, ItemSources(embedding_files=[file]))


def test_similarities_of_other_lengths_are_refused(tmp_path):
    file = nearest(tmp_path / "0.parquet", [10], [[20, 30]], [[1.0]])

    with pytest.raises(ValueError, match="vq_similarities and vq_codes differ in length"):
        write_item_features(tmp_path / "features", TRAINED, ItemSources(nearest_item_files=[file]))


def test_files_without_a_column_are_refused(tmp_path):
    file = write(tmp_path / "0.parquet", item_id=[10])

    with pytest.raises(ValueError, match="has no column embedding, must have item_id, embedding"):
        write_item_features(tmp_path / "features", TRAINED, ItemSources(embedding_files=[file]))


def test_ids_of_two_types_are_refused(tmp_path):
    files = [embeddings(tmp_path / "0.parquet", [10], [[1.0]]), embeddings(tmp_path / "1.parquet", ["10"], [[1.0]])]

    with pytest.raises(ValueError, match="item_id is int64 in one source and string in another"):
        write_item_features(tmp_path / "features", TRAINED, ItemSources(embedding_files=files))
    with pytest.raises(ValueError, match="ids are of type string, must be int64 as in the item vocabulary"):
        write_item_features(tmp_path / "features", TRAINED, ItemSources(embedding_files=files[1:]))


def test_a_folder_without_features_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no item_features.json. Write it with write_item_features"):
        open_item_features(tmp_path)
