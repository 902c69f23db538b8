"""Proposed sizes are the numbers of clusters where there are any, and say that they are conventions where there are none."""

from __future__ import annotations

import numpy as np
import pytest

from qarm_features.evaluation.size_advice import advise
from qarm_features.evaluation.size_rules import Tried, choose_size, pair_evidence, sizes_to_try
from qarm_features.evaluation.size_sample import size_sample
from qarm_features.quantizers.sample_fits import fit_sample, mean_error
from qarm_features.report.size_advice_text import advice_lines, advice_values, yaml_lines

DIM = 24


def directions(number: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((number, DIM))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def clustered(sizes: list[int], number: int, *, noise: float = 0.03) -> np.ndarray:
    """Return rows that are a sum of one of ``sizes[l]`` directions at each level l, four times shorter at each, and noise."""
    random = np.random.default_rng(1)
    rows = noise * random.standard_normal((number, DIM)) / DIM**0.5
    for level, size in enumerate(sizes):
        rows = rows + 0.25**level * directions(size, 10 + level)[random.integers(0, size, number)]
    return rows.astype(np.float32)


@pytest.mark.parametrize("sizes", [[16, 8], [8, 32], [32, 8]])
def test_planted_numbers_of_clusters_are_found_at_each_level(sizes):
    advice = advise(clustered(sizes, 4000), items=4000)

    assert [(level.size, level.rule) for level in advice.levels[:2]] == [(size, "clusters") for size in sizes]
    assert advice.levels[1].tried[0].error > 5 * advice.error
    assert [level.rule for level in advice.levels[2:]] == ["apart"]  # 4,000 items have 256 or fewer IDs before
    assert advice.collisions_sample < 0.6  # all items share without the last level


def test_without_clusters_the_size_is_a_convention_and_says_so():
    cloud = np.random.default_rng(0).standard_normal((3000, DIM)).astype(np.float32)

    advice = advise(cloud, items=3000)

    assert {level.rule for level in advice.levels} == {"items"}
    assert advice.levels[0].size == 128  # a power of two, at most a twentieth of 3,000 items
    assert any("is a convention, not a finding" in line for line in advice_lines(advice))


def test_where_there_are_no_clusters_the_size_follows_what_users_like():
    random = np.random.default_rng(0)
    cloud = random.standard_normal((3000, DIM)).astype(np.float32)
    # Users like two items that lie on the same side of the first three axes.
    cloud[:, :3] *= 6
    side = (cloud[:, :3] > 0) @ (4, 2, 1)
    trigger = random.integers(0, 3000, 2000)
    target = np.array([random.choice(np.flatnonzero(side == side[one])) for one in trigger])

    advice = advise(cloud, items=3000, pairs=np.stack([cloud[trigger], cloud[target]], axis=1))

    assert advice.levels[0].rule in ("pairs", "clusters")
    assert advice.levels[0].size == 8
    evidence = {one.size: one.evidence for one in advice.levels[0].tried}
    assert evidence[8] > evidence[4]
    assert evidence[8] > evidence[128]


def test_evidence_of_pairs_is_that_of_a_table_by_hand():
    ends = np.array([[[0.0], [0.1]], [[1.0], [1.1]]], np.float32)

    found = pair_evidence(ends, np.array([[0.0], [1.0]], np.float32))

    # All pairs share their code, and 1/2 of the combinations of different items do: log2(1 / (1/2)) = 1 bit.
    assert found == pytest.approx(1.0)
    assert pair_evidence(ends, np.array([[0.0]], np.float32)) == 0.0


def test_too_few_items_are_an_error_and_few_are_a_caution():
    with pytest.raises(ValueError, match="The sample has 79 items with an embedding, must have at least 80"):
        advise(clustered([4], 79), items=79)
    with pytest.raises(ValueError, match="All embeddings of the sample are equal"):
        advise(np.ones((100, 4), np.float32), items=100)

    advice = advise(clustered([4], 200), items=200, pairs=np.zeros((30, 2, DIM), np.float32))

    assert max(one.size for one in advice.levels[0].tried) == 16
    assert any("fewer than 1,000: sizes above 16 could not be tried" in caution for caution in advice.cautions)
    assert any("There are 30 pairs, fewer than 500: they were not used." in caution for caution in advice.cautions)


def test_the_sizes_that_are_tried_have_ten_rows_each():
    assert sizes_to_try(8000) == [4, 8, 16, 32, 64, 128, 256, 512]
    assert sizes_to_try(10**6)[-1] == 1024


def test_a_bend_needs_to_be_sharp():
    smooth = [Tried(4 * 2**step, 0.9 * 0.85**step, None) for step in range(6)]

    assert choose_size(smooth, items=10**6) == (128, "items")
    assert choose_size(smooth, items=700) == (32, "items")


@pytest.mark.slow
def test_collisions_lie_between_those_of_the_sample_and_the_bound():
    rows = clustered([16, 8], 8_000)

    advice, whole = advise(rows[:2000], items=8_000), advise(rows, items=8_000)

    assert [level.size for level in advice.levels[:2]] == [level.size for level in whole.levels[:2]]
    assert advice.collisions_even <= advice.collisions_at_most
    assert advice.collisions_sample <= advice.collisions_at_most
    assert whole.collisions_sample == whole.collisions_at_most


def test_equal_embeddings_are_not_blamed_on_the_sizes():
    rows = np.repeat(np.random.default_rng(0).standard_normal((1500, DIM)).astype(np.float32), 2, axis=0)

    advice = advise(np.random.default_rng(1).permutation(rows), items=3000)

    assert advice.collisions_duplicates == 1.0
    assert len(advice.levels) <= 3
    assert any("only 1,500 are distinct" in caution for caution in advice.cautions)


def test_the_lines_to_paste_are_settings_that_load():
    import yaml

    from qarm_features.settings.codes import Codebooks

    advice = advise(clustered([16, 8], 2000), items=2000)
    section = yaml.safe_load("\n".join(yaml_lines(advice)))["codebooks"]

    loaded = Codebooks(**section)

    assert loaded.num_levels == len(advice.levels)
    assert advice_values(advice)["yaml"] == "\n".join(yaml_lines(advice))
    assert advice.table_rows == sum(level.size for level in advice.levels)


def test_a_sample_is_the_same_for_any_partitions_and_order(spark):
    rows = [(item, [float(item), 1.0]) for item in range(50)]
    schema = "item_id long, embedding array<float>"
    options = {"until": None, "max_items": 20, "max_pairs": 0, "seed": 3}

    one = size_sample(spark.createDataFrame(rows, schema).repartition(1), None, **options)
    other = size_sample(spark.createDataFrame(rows[::-1], schema).repartition(7), None, **options)

    assert one.items == other.items == 50
    assert one.embeddings.tolist() == other.embeddings.tolist()
    assert one.embeddings[:, 0].tolist() != sorted(one.embeddings[:, 0].tolist())
    assert one.pairs.shape == (0, 2, 2)


def test_a_fit_of_a_sample_reaches_the_error_of_scikit_learn():
    from sklearn.cluster import KMeans

    rows = clustered([12, 4], 1000)

    own = mean_error(rows, fit_sample(rows, 12, seed=0))

    assert own <= 1.05 * KMeans(12, n_init=5, random_state=0).fit(rows).inertia_ / len(rows)
