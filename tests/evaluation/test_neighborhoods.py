"""Neighbors by code are compared with neighbors by embedding, and checked against a loop over all items."""

import numpy as np
import pytest

from qarm_features.evaluation.neighborhoods import decode, jaccard, neighborhood_overlap, rank_biased_overlap
from qarm_features.quantizers.arrays.lloyd import assign_codes


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_jaccard_divides_the_common_items_by_all():
    assert jaccard([1, 2, 3], [3, 4, 1]) == 0.5


def test_rank_biased_overlap_weights_the_top():
    # overlap at depths 1, 2: 0, 1; weights 1, .5
    assert rank_biased_overlap([1, 2], [2, 1], persistence=0.5) == pytest.approx(1 / 3)
    assert rank_biased_overlap([1, 2], [1, 2]) == 1.0


@pytest.mark.parametrize("partitions", [1, 4])
def test_the_nearest_of_all_items_are_compared(spark, partitions):
    random = np.random.default_rng(0)
    embeddings = unit(random.normal(size=(60, 6))).astype(np.float32)
    codebooks = np.stack([embeddings[:8], embeddings[8:16] / 2])
    codes = assign_codes(embeddings, codebooks)
    rows = spark.createDataFrame(
        [(i, e.tolist(), c.tolist()) for i, (e, c) in enumerate(zip(embeddings, codes))],
        "item_id long, embedding array<float>, rq_codes array<int>",
    ).repartition(partitions)

    found = neighborhood_overlap(rows, codebooks, k=5, max_queries=100)

    lists = []
    for space in (embeddings, unit(decode(codes, codebooks))):
        scores = np.rint(2**20 * space @ space.T).astype(int)
        lists.append([[j for j in np.lexsort((range(60), -scores[i])) if j != i][:5] for i in range(60)])
    expected = np.mean([jaccard(a, b) for a, b in zip(*lists)])
    assert (found["k"], found["queries"]) == (5, 60)
    assert found["jaccard"] == pytest.approx(expected)
    assert found["rank_biased_overlap"] == pytest.approx(np.mean([rank_biased_overlap(a, b) for a, b in zip(*lists)]))


def test_codes_that_decode_exactly_keep_every_neighbor(spark):
    codebooks = unit(np.random.default_rng(1).normal(size=(1, 9, 4))).astype(np.float32)
    rows = spark.createDataFrame(
        [(str(i), row.tolist(), [i]) for i, row in enumerate(codebooks[0])],
        "item_id string, embedding array<float>, rq_codes array<int>",
    )

    found = neighborhood_overlap(rows, codebooks, k=3, max_queries=4)

    assert found == {"k": 3, "queries": 4, "jaccard": 1.0, "rank_biased_overlap": 1.0}


def test_one_item_has_no_neighbors(spark):
    rows = spark.createDataFrame([(1, [1.0], [0])], "item_id long, embedding array<float>, rq_codes array<int>")

    assert neighborhood_overlap(rows, np.ones((1, 1, 1), np.float32))["jaccard"] is None
