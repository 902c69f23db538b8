"""VQ codes reach their table. New items find neighbors in the frozen bank, and an item with a code keeps it."""

from __future__ import annotations

import numpy as np
import pytest

from qarm_features.codebooks.banks import find_nearest_items, load_bank, publish_bank
from qarm_features.jobs.embed_items import embed_items
from qarm_features.jobs.find_nearest_items import find_nearest_items as job
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.quantizers import NearestItems
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS

SCHEMA = "item_id long, embedding array<float>"


def test_items_without_a_vq_code_get_one_and_those_with_one_keep_it(tmp_path, spark):
    bank = spark.createDataFrame([(1, [1.0, 0.0]), (2, [0.6, 0.8]), (3, [0.0, 1.0])], SCHEMA)
    settings = {"k": 2, "num_probes": 1}
    artifact = publish_bank(Artifacts(tmp_path, "banks"), bank, NearestItems(k=2), **settings)
    now = spark.createDataFrame([(1, [0.0, 1.0]), (2, [0.6, 0.8]), (9, [0.8, 0.6])], SCHEMA)
    found = spark.createDataFrame([(1, artifact.version), (2, 7)], "item_id long, bank_version int")

    rows = find_nearest_items(now, found, model=load_bank(artifact), bank_version=0, encoder_version=4).collect()

    assert {row["item_id"]: row["vq_codes"] for row in rows} == {2: [3, 1], 9: [2, 1]}
    assert {(row["bank_version"], row["encoder_version"], row["event_timestamp"].year) for row in rows} == {
        (0, 4, 1970)
    }


def test_a_bank_is_an_artifact_whose_files_are_checked(tmp_path, spark):
    rows = spark.createDataFrame([(1, [1.0]), (2, [-1.0])], SCHEMA)

    artifact = publish_bank(Artifacts(tmp_path, "banks"), rows, NearestItems(exactUpTo=1), k=1, num_probes=1)

    files = ["bank/bank.json", "bank/shard-00000.arrow", "bank/shard-00000.faiss"]
    assert sorted(artifact.manifest["files"]) == files
    assert (artifact.manifest["rows"], artifact.manifest["recall"]) == (2, 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["banks"]
    (artifact.path / "bank" / "shard-00000.faiss").write_bytes(b"")
    with pytest.raises(ValueError, match=r"shard-00000\.faiss is missing or differs from its manifest\."):
        load_bank(artifact)


def test_executors_write_and_read_a_bank_in_an_object_store_without_a_folder_of_the_driver(
    reached_by_executors, tmp_path, spark, monkeypatch
):
    rows = spark.createDataFrame([(1, [1.0, 0.0]), (2, [0.6, 0.8]), (3, [0.0, 1.0])], SCHEMA)
    banks = Artifacts(reached_by_executors, "banks")

    artifact = publish_bank(banks, rows, NearestItems(exactUpTo=1), k=1, num_probes=1)
    monkeypatch.setenv("QARM_CACHE_DIR", str(tmp_path / "another_driver"))
    found = load_bank(banks.get(0)).transform(rows).select("item_id", "vq_codes").collect()

    assert {row["item_id"]: row["vq_codes"] for row in found} == {1: [2], 2: [3], 3: [2]}
    names = ["bank/bank.json", "bank/shard-00000.arrow", "bank/shard-00000.faiss"]
    assert sorted(artifact.manifest["files"]) == names
    assert sorted(one.name for one in banks.folder.objects()) == [
        ".numbers/0", *(f"v0/{name}" for name in [*names, "manifest.json"]),
    ]  # fmt: skip
    assert list((tmp_path / "another_driver").rglob("*.arrow")) == []
    assert list((tmp_path / "cache").rglob("*.draft-*")) == []
    with pytest.raises(ValueError, match="bankPath is s3://.*/v0/bank, must be a new or empty folder"):
        NearestItems(bankPath=f"{artifact.place}/bank").fit(rows)


@pytest.mark.slow
def test_the_job_finds_what_is_new_and_refits_when_asked(fresh_project):
    ingest_catalog(fresh_project)
    embed_items(fresh_project)

    remarks = [job(fresh_project, refit=refit).remark for refit in (False, False, True)]

    assert remarks == [
        "64 VQ codes found in bank v0, exactly",
        "0 VQ codes found in bank v0, exactly",
        "64 VQ codes found in bank v1, exactly",
    ]
    rows = fresh_project.warehouse.read(ITEM_NEAREST_ITEMS)
    assert rows.count() == 128
    embeddings = fresh_project.warehouse.read(ITEM_EMBEDDINGS).orderBy("item_id").collect()
    matrix = np.array([row["embedding"] for row in embeddings])
    similarities = matrix @ matrix.T - 2 * np.eye(64)
    for row in rows.where("bank_version = 1").collect():
        expected = np.sort(similarities[row["item_id"]])[::-1][:25]
        np.testing.assert_allclose(row["vq_similarities"], expected, atol=1e-6)
        np.testing.assert_allclose(similarities[row["item_id"]][row["vq_codes"]], expected, atol=1e-6)
