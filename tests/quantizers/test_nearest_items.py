"""``NearestItems`` on Spark, compared with scikit-learn; its approximate search is compared with the exact one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from sklearn.neighbors import NearestNeighbors

from qarm_features.quantizers import NearestItems, NearestItemsModel

SCHEMA = "item_id long, embedding array<float>"


def rows_of(embeddings, item_ids=None):
    item_ids = range(len(embeddings)) if item_ids is None else item_ids
    return [(item_id, np.asarray(row, np.float32).tolist()) for item_id, row in zip(item_ids, embeddings)]


def found_by(model, rows):
    return {row["item_id"]: (row["vq_codes"], row["vq_similarities"]) for row in model.transform(rows).collect()}


@pytest.fixture(scope="module")
def embeddings():
    """900 rows (D = 16) of unit norm in 30 clusters."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(30, 16))[generator.integers(0, 30, 900)] + 0.4 * generator.normal(size=(900, 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def catalog(spark, embeddings):
    return spark.createDataFrame(rows_of(embeddings), SCHEMA).repartition(2).persist()


@pytest.fixture(scope="module")
def model(catalog):
    return NearestItems(k=10, shardRows=250).fit(catalog)


def test_the_exact_search_equals_scikit_learn(model, catalog, embeddings):
    brute = NearestNeighbors(n_neighbors=11, metric="cosine", algorithm="brute").fit(embeddings.astype(np.float64))
    distances, expected = brute.kneighbors(embeddings.astype(np.float64))

    found = found_by(model, catalog)

    assert expected[:, 0].tolist() == list(range(900))  # each row finds itself first, which our search leaves out
    assert [found[item][0] for item in range(900)] == expected[:, 1:].tolist()
    np.testing.assert_allclose([found[item][1] for item in range(900)], 1 - distances[:, 1:], atol=1e-5)


def test_the_bank_lies_in_shards_and_is_described(model):
    assert model.training_summary["rows"] == 900
    assert (model.training_summary["shards"], model.training_summary["exact"]) == (4, True)
    assert [shard["rows"] for shard in model.bank.manifest["shards"]] == [250, 250, 250, 150]
    assert model.bank.verify() is model.bank


def test_new_items_find_neighbors_in_the_frozen_bank(spark, model, embeddings, catalog):
    new = spark.createDataFrame(rows_of(embeddings[[3, 4]], [3, 7000]), SCHEMA)

    found = found_by(model, new)

    known = found_by(model, catalog)
    assert found[3] == known[3]  # an item of the bank is never its own neighbor
    assert found[7000][0] == [4, *known[4][0][:9]]  # the new item has the embedding of item 4
    assert 7000 not in found[7000][0]


def test_the_approximate_search_reports_its_recall_of_the_exact_one(catalog, model):
    lists = NearestItems(k=10, shardRows=300, exactUpTo=899, numProbes=2).fit(catalog)

    found, exact = found_by(lists, catalog), found_by(model, catalog)
    measured = np.mean([len(set(found[item][0]) & set(exact[item][0])) / 10 for item in range(900)])

    assert not lists.bank.manifest["exact"]
    assert lists.training_summary["recall"] == pytest.approx(measured)  # the sample is all 900 items
    assert 0.5 < measured < 1


def test_similarities_of_the_approximate_search_are_exact(catalog, model):
    lists = NearestItems(k=10, shardRows=450, exactUpTo=0, numProbes=1000).fit(catalog)

    assert lists.training_summary["recall"] == 1.0
    assert found_by(lists, catalog) == found_by(model, catalog)


def test_a_bank_of_fewer_items_than_k_gives_them_all(spark):
    rows = spark.createDataFrame(rows_of([[0.6, 0.8], [0, 1], [-1, 0]], [7, 8, 9]), SCHEMA)

    found = found_by(NearestItems().fit(rows), rows)

    assert {item: codes for item, (codes, _) in found.items()} == {7: [8, 9], 8: [7, 9], 9: [8, 7]}
    np.testing.assert_allclose(found[7][1], [0.8, -0.6])


def test_a_bank_of_one_item_gives_it_no_neighbor(spark):
    rows = spark.createDataFrame(rows_of([[1.0]]), SCHEMA)

    assert found_by(NearestItems().fit(rows), rows) == {0: ([], [])}


def test_equal_and_zero_embeddings_are_ordered_by_item_id(spark):
    zero_and_equal = [[0, 0], [1, 0], [1, 0], [1, 0], [0, 0]]
    rows = spark.createDataFrame(rows_of(zero_and_equal, [5, 4, 3, 2, 1]), SCHEMA)

    found = found_by(NearestItems(k=3, shardRows=2).fit(rows), rows)

    assert {item: codes for item, (codes, _) in found.items()} == {
        1: [2, 3, 4], 2: [3, 4, 1], 3: [2, 4, 1], 4: [2, 3, 1], 5: [1, 2, 3],
    }  # fmt: skip


def test_item_ids_may_be_strings(spark, embeddings, model, catalog):
    names = [f"é{item:03d}" if item % 2 else f"a{item:03d}" for item in range(900)]
    rows = spark.createDataFrame(rows_of(embeddings, names), "item_id string, embedding array<float>")

    named = NearestItems(k=10, shardRows=250).fit(rows)

    expected = {names[item]: [names[other] for other in codes] for item, (codes, _) in found_by(model, catalog).items()}
    assert {item: codes for item, (codes, _) in found_by(named, rows).items()} == expected
    assert named.transform(rows).schema["vq_codes"].dataType.simpleString() == "array<string>"


def test_columns_and_k_can_be_named(spark):
    rows = spark.createDataFrame([(1, [1.0, 0.0]), (2, [0.0, 1.0])], "id int, e array<double>")
    estimator = NearestItems().setItemCol("id").setInputCol("e").setOutputCol("near").setSimilarityCol("how")
    estimator.setK(1).setNumProbes(2).setExactUpTo(5).setShardRows(3).setSeed(4).setBankPath("").setParams(k=2)

    transformed = estimator.fit(rows).transform(rows)

    assert transformed.columns == ["id", "e", "near", "how"]
    assert transformed.schema["near"].dataType.simpleString() == "array<int>"
    assert sorted(row["near"] for row in transformed.collect()) == [[1], [2]]


def test_a_pipeline_model_survives_saving_with_its_bank(tmp_path, model, catalog):
    PipelineModel([model]).save(f"{tmp_path}/pipeline")

    loaded = PipelineModel.load(f"{tmp_path}/pipeline").stages[0]

    assert (loaded.uid, loaded.training_summary) == (model.uid, model.training_summary)
    assert Path(loaded.bank.folder).is_relative_to(tmp_path)
    assert found_by(loaded, catalog) == found_by(model, catalog)


def test_a_bank_holds_no_pickle_and_lies_where_bank_path_says(tmp_path, catalog, model):
    fitted = NearestItems(bankPath=f"file:{tmp_path}/bank", exactUpTo=0).fit(catalog)

    assert sorted(path.name for path in (tmp_path / "bank").iterdir()) == [
        "bank.json", "shard-00000.arrow", "shard-00000.faiss",
    ]  # fmt: skip
    assert json.loads((tmp_path / "bank" / "bank.json").read_text()) == fitted.bank.manifest
    assert NearestItemsModel.from_bank(tmp_path / "bank", k=3).getK() == 3
