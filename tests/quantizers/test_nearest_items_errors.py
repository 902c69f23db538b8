"""Every error of ``NearestItems`` and its model."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.errors import PythonException

from qarm_features.quantizers import NearestItems, NearestItemsModel
from qarm_features.quantizers.passes.item_bank import Bank, ShardFacts

SCHEMA = "item_id long, embedding array<float>"
ROWS = [(0, [1.0, 0.0]), (1, [0.0, 1.0])]


@pytest.fixture(scope="module")
def model(spark):
    return NearestItems(k=1).fit(spark.createDataFrame(ROWS, SCHEMA))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"k": 0}, r"k is 0, must be at least 1\."),
        ({"numProbes": 0}, r"numProbes is 0, must be at least 1\."),
        ({"shardRows": 0}, r"shardRows is 0, must be at least 1\."),
        ({"exactUpTo": -1}, r"exactUpTo is -1, must be at least 0\."),
        ({"itemCol": "id"}, r"itemCol is id, must be a column .* Present: item_id, embedding\."),
        (
            {"itemCol": "embedding"},
            r"itemCol embedding is array<float>, must be one of int, bigint, string\. Cast it\.",
        ),
        ({"inputCol": "vector"}, r"inputCol is vector, must be a column .* Present: item_id, embedding\."),
        (
            {"bankPath": "hdfs://name/bank"},
            r"bankPath is hdfs://name/bank, must be a folder that every executor mounts\.",
        ),
    ],
)
def test_params_that_do_not_fit_are_refused(spark, params, message):
    with pytest.raises(ValueError, match=message):
        NearestItems(**params).fit(spark.createDataFrame(ROWS, SCHEMA))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"DataFrame has 0 rows, must have at least 1\."),
        ([(None, [1.0]), (1, [1.0])], r"item_id is null in 1 of 2 rows, must be set\."),
        ([(0, [1.0]), (1, None)], r"embedding is null in 1 of 2 rows, must be set\."),
        ([(0, [1.0]), (1, [1.0, 2.0])], r"embedding has dimension 1 to 2, must be one dimension above 0\."),
        ([(0, [])], r"embedding has dimension 0, must be one dimension above 0\."),
        ([(0, [1.0]), (1, [float("nan")])], r"embedding is NaN or infinite in 1 of 2 rows, must be finite\."),
        ([(0, [1.0]), (1, [2.0]), (0, [3.0])], r"item_id repeats in 1 rows, must be unique\."),
    ],
)
def test_rows_that_make_no_bank_are_refused(spark, rows, message):
    with pytest.raises(ValueError, match=message):
        NearestItems().fit(spark.createDataFrame(rows, SCHEMA).coalesce(1))


def test_a_folder_that_holds_something_is_refused(spark, tmp_path):
    (tmp_path / "letter.txt").write_text("mine")

    with pytest.raises(
        ValueError, match=r"bankPath is .*, must be a new or empty folder, because a bank never changes\."
    ):
        NearestItems(bankPath=str(tmp_path)).fit(spark.createDataFrame(ROWS, SCHEMA))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((2, [1.0, 2.0, 3.0]), r"embedding has dimension 3, must be 2 as in the bank\."),
        ((2, None), r"embedding is null in 1 rows of a batch, must be set\."),
        ((2, [1.0, float("inf")]), r"embedding is NaN or infinite in 1 rows of a batch, must be finite\."),
        ((None, [1.0, 0.0]), r"item_id is null in 1 rows of a batch, must be set\."),
    ],
)
def test_rows_that_do_not_fit_the_bank_are_refused(spark, model, row, message):
    with pytest.raises(PythonException, match=message):
        model.transform(spark.createDataFrame([ROWS[0], row], SCHEMA).coalesce(1)).collect()


def test_item_ids_of_another_type_are_refused(spark, model):
    rows = spark.createDataFrame([("a", [1.0, 0.0])], "item_id string, embedding array<float>")

    with pytest.raises(ValueError, match=r"itemCol item_id is string, must be bigint as in the bank\. Cast it\."):
        model.transform(rows)


@pytest.mark.parametrize("param", ["outputCol", "similarityCol"])
def test_an_output_column_that_is_there_already_is_refused(spark, model, param):
    with pytest.raises(ValueError, match=rf"{param} is item_id, must be a new column\."):
        model.copy({getattr(model, param): "item_id"}).transform(spark.createDataFrame(ROWS, SCHEMA))


def test_a_folder_without_a_bank_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no bank\.json, so it is not the folder of a bank\."):
        NearestItemsModel.from_bank(tmp_path)


def test_a_model_is_saved_only_where_executors_can_map_it(model):
    with pytest.raises(ValueError, match=r"path is hdfs://x/y, must be a folder that every executor mounts\."):
        model.save("hdfs://x/y")


def test_a_shard_that_was_changed_is_refused(spark, tmp_path):
    NearestItems(bankPath=f"{tmp_path}/bank").fit(spark.createDataFrame(ROWS, SCHEMA)).save(f"{tmp_path}/model")
    with open(tmp_path / "model" / "bank" / "shard-00000.arrow", "ab") as file:
        file.write(b"!")

    with pytest.raises(ValueError, match=r"shard-00000\.arrow is missing or differs from bank\.json\."):
        NearestItemsModel.load(f"{tmp_path}/model")


def test_a_shard_that_an_executor_does_not_see_is_named(spark, tmp_path):
    rows = spark.createDataFrame(ROWS, SCHEMA).coalesce(1)
    model = NearestItems(bankPath=f"{tmp_path}/bank").fit(rows)
    Path(tmp_path, "bank", "shard-00000.arrow").unlink()

    with pytest.raises(
        PythonException, match=r"shard-00000\.arrow is not on this machine\. Mount the folder of the bank"
    ):
        model.transform(rows).collect()


def test_shards_that_were_written_on_other_machines_are_missed(tmp_path):
    elsewhere = ShardFacts(0, rows=2, repeated_ids=0, max_norm=1.0, sha256="0", lists_sha256=None)

    with pytest.raises(ValueError, match=r"1 of 1 shards are not in bankPath .*, because executors wrote them to"):
        Bank.create(str(tmp_path), [elsewhere], dim=2)
