"""Rows of another artifact that had the same number are refused, by the log of the table alone."""

from __future__ import annotations

from unittest import mock

import pytest

from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.known_values import largest, parts, values
from qarm_features.storage.origins import OriginError, require_embeddings, require_embeddings_of, require_same_origin
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS
from qarm_features.storage.warehouse import TableError, Warehouse
from tests.storage.test_artifacts import write_number

CODES = "item_id int, rq_codes array<int>, codebook_version int, encoder_version int, codebook_fingerprint string"
EMBEDDINGS = (
    "item_id int, embedding array<double>, content_hash string, encoder_version int, encoder_fingerprint string"
)


def test_rows_of_other_codebooks_are_refused_and_old_rows_pass_with_a_warning(tmp_path, spark, caplog):
    warehouse = Warehouse(str(tmp_path / "data"), item_id_type="integer", user_id_type="string", spark=spark)
    without_spark = Warehouse(str(tmp_path / "data"), item_id_type="integer", user_id_type="string")
    codebooks = Artifacts(tmp_path, "codebooks")
    made = [codebooks.publish(write_number(n)) for n in range(5)]
    origins = {
        0: [made[0].fingerprint],
        1: ["0123"],
        2: [None],
        3: [made[3].fingerprint, None],
        4: [made[4].fingerprint, "4567"],
    }
    rows = [
        (item, [0], version, 7, fingerprint)
        for version, fingerprints in origins.items()
        for item, fingerprint in enumerate(fingerprints)
    ]
    require_same_origin(warehouse, ITEM_SEMANTIC_IDS, made[0])  # there is no table yet
    time = "timestamp_seconds(0) AS event_timestamp"
    warehouse.append(ITEM_SEMANTIC_IDS, spark.createDataFrame(rows, CODES).repartition(4).selectExpr("*", time))

    with mock.patch.object(Warehouse, "read", side_effect=AssertionError("rows were read")):
        require_same_origin(warehouse, ITEM_SEMANTIC_IDS, made[0])
    with pytest.raises(
        OriginError,
        match=rf"item_semantic_ids holds codes of codebooks v1 with the fingerprint 0123, but .*/codebooks/v1 has "
        rf"{made[1].fingerprint}: .* Restore the folder .* qarm fit-codebooks --fresh",
    ):
        require_same_origin(warehouse, ITEM_SEMANTIC_IDS, made[1])
    with pytest.raises(OriginError, match="fingerprint 4567"):
        require_same_origin(without_spark, ITEM_SEMANTIC_IDS, made[4])
    assert caplog.text == ""
    require_same_origin(warehouse, ITEM_SEMANTIC_IDS, made[2])
    require_same_origin(warehouse, ITEM_SEMANTIC_IDS, made[3])
    assert [
        line.split(" ")[6] for line in caplog.messages if "without a fingerprint, written by an earlier" in line
    ] == ["v2", "v3"]
    found = [
        {
            version: values(one, ITEM_SEMANTIC_IDS, "codebook_fingerprint", part={"codebook_version": version})
            for version in origins
        }
        for one in (warehouse, without_spark)
    ]
    assert found == [{version: set(fingerprints) for version, fingerprints in origins.items()}] * 2
    assert largest(warehouse, ITEM_SEMANTIC_IDS, "encoder_version") == 7
    assert largest(warehouse, ITEM_SEMANTIC_IDS, "codebook_version") == 4
    assert parts(warehouse, ITEM_SEMANTIC_IDS, "codebook_version") == set("01234")


def test_embeddings_of_another_encoder_or_of_another_number_are_refused(tmp_path, spark):
    warehouse = Warehouse(str(tmp_path / "data"), item_id_type="integer", user_id_type="string", spark=spark)
    encoders = Artifacts(tmp_path, "encoders")
    made = [encoders.publish(write_number(n)) for n in range(3)]
    rows = [(1, [0.5], "a", 0, "0123"), (1, [0.5], "a", 1, made[1].fingerprint)]
    warehouse.append(ITEM_EMBEDDINGS, spark.createDataFrame(rows, EMBEDDINGS))
    of = {number: {"encoder_version": 0, "encoder_fingerprint": number} for number in ("0123", "4567")}
    codebooks = {
        number: Artifacts(tmp_path, "codebooks").publish(write_number(1), **about) for number, about in of.items()
    }

    require_embeddings(warehouse, made[1])
    require_embeddings_of(warehouse, codebooks["0123"])
    with pytest.raises(
        OriginError, match=r"item_embeddings holds embeddings of encoders v0 with the fingerprint 0123, .* move"
    ):
        require_embeddings(warehouse, made[0])
    with pytest.raises(
        TableError, match=r"has no row with encoder_version = 2\. Present: 0, 1\. Run: qarm embed-items"
    ):
        require_embeddings(warehouse, made[2])
    with pytest.raises(
        OriginError, match=r"Codebooks v1 were fitted on embeddings of encoder v0 with the fingerprint 4567"
    ):
        require_embeddings_of(warehouse, codebooks["4567"])
