"""New items get codes, and an item with codes keeps them."""

import numpy as np

from qarm_features.evaluation.balance import semantic_id_quality
from qarm_features.quantizers import ResidualKMeansModel
from qarm_features.semantic_ids.assign import assign_semantic_ids, load_codebooks, save_codebooks
from qarm_features.storage.artifacts import Artifacts

CODEBOOKS = np.array([[[0, 0], [10, 10]], [[0, 1], [1, 0]]], dtype=np.float32)  # L = 2, K = 2, D = 2


def model():
    return ResidualKMeansModel.from_codebooks(CODEBOOKS, inputCol="embedding", outputCol="rq_codes")


def test_items_without_codes_get_them_and_assigned_ones_do_not_move(spark):
    embeddings = spark.createDataFrame(
        [(1, [0.0, 1.0], 0), (2, [11.0, 10.0], 0), (3, [11.0, 10.0], 0), (4, [0.0, 1.0], 5)],
        "item_id long, embedding array<float>, encoder_version int",
    )
    assigned = spark.createDataFrame(
        [(3, [1, 1], 0, 0), (1, [0, 0], 9, 0)],
        "item_id long, rq_codes array<int>, codebook_version int, collision_index int",
    )

    rows = assign_semantic_ids(embeddings, assigned, model=model(), codebook_version=0, encoder_version=0)

    names = ("rq_codes", "codebook_version", "encoder_version", "collision_index")
    found = {r["item_id"]: tuple(r[name] for name in names) for r in rows.collect()}
    assert found == {1: ([0, 0], 0, 0, 0), 2: ([1, 1], 0, 0, 1)}  # item 3 was in the bucket of item 2 before


def test_codebooks_come_back_from_their_artifact_bit_by_bit(tmp_path, spark):
    artifact = Artifacts(tmp_path, "codebooks").publish(lambda folder: save_codebooks(CODEBOOKS, folder))

    loaded = load_codebooks(artifact)

    assert loaded.codebooks.dtype == np.float32
    assert (loaded.codebooks == CODEBOOKS).all()


def test_quality_counts_collisions_and_usage_over_all_items(spark):
    ids = spark.createDataFrame([([0, 1],), ([0, 1],), ([0, 0],), ([1, 0],)], "rq_codes array<int>")

    quality = semantic_id_quality(ids, num_levels=2, codebook_size=4)

    assert (quality["items"], quality["semantic_ids"], quality["largest_bucket"]) == (4, 3, 2)
    assert (quality["collision_rate"], quality["unique_share"]) == (0.5, 0.5)
    assert [(lv["level"], lv["codes_in_use"], lv["code_usage"]) for lv in quality["levels"]] == [
        (0, 2, 0.5),
        (1, 2, 0.5),
    ]
    # level 0: shares 3/4 and 1/4, entropy .5623 nats; level 1: 1/2 and 1/2
    np.testing.assert_allclose([lv["perplexity"] for lv in quality["levels"]], [1.7548, 2.0], atol=1e-4)
