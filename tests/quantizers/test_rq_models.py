"""Both residual quantizers have the same methods. These tests build the models by hand, without Spark."""

from __future__ import annotations

import numpy as np
import pytest

from qarm_features.quantizers import ResidualKMeansFiniteScalarModel, ResidualKMeansModel
from qarm_features.quantizers.arrays.codebooks import pad_levels
from qarm_features.quantizers.arrays.scalar_rounding import ScalarRounding

FIRST = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]], np.float32)
SECOND = np.array([[-1.0, 0.0], [1.0, 0.0]], np.float32)
ROUNDING = ScalarRounding(
    np.zeros(2, np.float32), np.eye(2, dtype=np.float32)[:1], [np.zeros(1)], [np.array([-1.0, 1.0])]
)
NAMES = ("k-means", "fsq")


def model(name):
    """Return a model of two levels, of 3 and 2 codes, which decode to FIRST and SECOND."""
    if name == "k-means":
        return ResidualKMeansModel(pad_levels([FIRST, SECOND]), [{"level": 0, "sse": 2.0}, {"level": 1, "sse": 1.0}])
    summary = {"levels": [{"level": 0, "sse": 2.0}], "last": {"rows": 5, "levels": [2], "seconds": 0.1}}
    return ResidualKMeansFiniteScalarModel(FIRST[None], ROUNDING, summary)


class Means:
    """Returns simple new values for each level, and records the calls."""

    def __init__(self):
        self.asked = []

    def centroids(self, codebooks, level):
        self.asked.append(("centroids", level))
        renewed = codebooks.copy()
        renewed[level] += 1
        return renewed

    def scalars(self, codebooks, rounding):
        self.asked.append(("scalars", codebooks.shape))
        return rounding._replace(scalars=[rounding.scalars[0] * 3])


@pytest.mark.parametrize("name", NAMES)
def test_both_models_decode_to_padded_codebooks(name):
    assert model(name).level_sizes == [3, 2]
    np.testing.assert_array_equal(model(name).codebooks, pad_levels([FIRST, SECOND]))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_comes_back_from_its_arrays(name):
    before = model(name)

    after = type(before).from_arrays(before.to_arrays(), inputCol="vector", outputCol="codes")

    np.testing.assert_array_equal(after.codebooks, before.codebooks)
    assert (after.getInputCol(), after.getOutputCol(), after.level_figures()) == ("vector", "codes", [])


@pytest.mark.parametrize(("name", "sizes"), [("k-means", [3, 2]), ("fsq", [3])])
def test_the_codes_of_k_means_levels_can_be_relabeled(name, sizes):
    labels = [np.array([1, 2, 0]), np.array([1, 0])][: len(sizes)]

    permuted = model(name).permuted(labels)

    assert model(name).permutable_sizes == sizes
    second = SECOND[::-1] if name == "k-means" else SECOND
    np.testing.assert_array_equal(permuted.codebooks, pad_levels([FIRST[[2, 0, 1]], second]))


@pytest.mark.parametrize("name", NAMES)
def test_the_first_level_is_renewed_by_centroids(name):
    means = Means()

    renewed = model(name).renewed(0, means)

    assert means.asked == [("centroids", 0)]
    np.testing.assert_array_equal(renewed.codebooks, pad_levels([FIRST + 1, SECOND]))


def test_an_fsq_level_is_renewed_by_scalars_and_keeps_its_axes():
    means = Means()

    renewed = model("fsq").renewed(1, means)

    assert means.asked == [("scalars", (2, 3, 2))]
    assert renewed.rounding.projection.tolist() == [[1, 0]]
    np.testing.assert_array_equal(renewed.codebooks, pad_levels([FIRST, SECOND * 3]))


def test_figures_of_a_level_whose_fit_counts_no_error_lack_it():
    assert [level["sse"] for level in model("k-means").level_figures()] == [2.0, 1.0]
    first, last = model("fsq").level_figures()
    assert first == {"level": 0, "sse": 2.0}
    assert last == {"level": 1, "iterations": 0, "rows": 5, "seconds": 0.1, "fsq_levels": [2], "codebook_size": 2}
