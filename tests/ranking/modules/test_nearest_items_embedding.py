"""NearestItemsEmbedding: an item is the weighted mean of its nearest items."""

import math

import pytest
import torch
from torch import nn

from qarm_features.ranking.modules.nearest_items_embedding import NearestItemsEmbedding


def numbered_table(**options) -> NearestItemsEmbedding:
    """3 items, D = 1; item i holds 10**i, the unknown item 7."""
    embedding = NearestItemsEmbedding(3, 1, **options)
    with torch.no_grad():
        embedding.table.weight[:, 0] = torch.tensor([7.0, 10.0, 100.0, 1000.0])
    return embedding


def test_without_distances_all_known_items_weigh_the_same():
    nearest = torch.tensor([[1, 2, 0], [3, 0, 0]])

    vectors = numbered_table()(nearest)

    assert vectors.tolist() == [[55.0], [1000.0]]


def test_weights_are_a_softmax_of_minus_distance_over_temperature():
    nearest, distances = torch.tensor([[1, 2]]), torch.tensor([[0.0, math.log(3.0)]])

    vectors = numbered_table(temperature=1.0)(nearest, distances=distances)

    # weights 3/4 and 1/4
    torch.testing.assert_close(vectors, torch.tensor([[32.5]]))


def test_a_lower_temperature_favors_the_nearest_item():
    nearest, distances = torch.tensor([[1, 2]]), torch.tensor([[0.0, math.log(3.0)]])

    vectors = numbered_table(temperature=0.5)(nearest, distances=distances)

    # weights 9/10 and 1/10
    torch.testing.assert_close(vectors, torch.tensor([[19.0]]))


def test_similarities_are_distances_of_the_other_sign():
    nearest, similarities = torch.tensor([[1, 2, 3]]), torch.tensor([[0.9, 0.8, 0.1]])
    embedding = numbered_table()

    vectors = embedding(nearest, similarities=similarities)

    assert torch.equal(vectors, embedding(nearest, distances=-similarities))
    assert not torch.equal(vectors, embedding(nearest, distances=similarities))


@pytest.mark.parametrize("distances", [None, torch.tensor([[math.nan, math.inf]])])
def test_an_item_without_known_neighbors_is_exactly_zero_and_its_gradient_finite(distances):
    embedding = numbered_table()

    vectors = embedding(torch.tensor([[0, 0]]), distances=distances)
    vectors.sum().backward()

    assert vectors.tolist() == [[0.0]]
    assert embedding.table.weight.grad.flatten().tolist() == [0.0] * 4
    assert embedding.temperature_logit.grad.tolist() == [0.0]


def test_padding_changes_nothing_wherever_it_stands_and_whatever_its_distance_is():
    nearest, distances = torch.tensor([[1, 2]]), torch.tensor([[0.1, 0.2]])
    padded, padded_distances = torch.tensor([[0, 1, 0, 2]]), torch.tensor([[math.nan, 0.1, -99.0, 0.2]])
    embedding = numbered_table()

    vectors = embedding(padded, distances=padded_distances)
    vectors.sum().backward()

    torch.testing.assert_close(vectors, embedding(nearest, distances=distances))
    assert torch.isfinite(embedding.temperature_logit.grad).all()


def test_the_order_of_the_nearest_items_changes_nothing():
    nearest, distances = torch.tensor([[1, 2, 3]]), torch.tensor([[0.1, 0.2, 0.15]])
    embedding = numbered_table()

    vectors = embedding(nearest.flip(1), distances=distances.flip(1))

    torch.testing.assert_close(vectors, embedding(nearest, distances=distances))


def test_very_large_distances_do_not_overflow():
    vectors = numbered_table()(torch.tensor([[1, 2]]), distances=torch.tensor([[60000.0, 60001.0]]).half())

    assert torch.isfinite(vectors).all()


def test_leading_dimensions_are_kept_and_no_neighbors_at_all_give_zero():
    embedding = NearestItemsEmbedding(9, 4)

    some, none = embedding(torch.ones(2, 3, 5, dtype=torch.int64)), embedding(torch.ones(2, 0, dtype=torch.int64))

    assert some.shape == (2, 3, 4)
    assert none.tolist() == [[0.0] * 4] * 2


def test_the_temperature_starts_where_told_and_is_learnt():
    embedding = numbered_table(temperature=0.3)

    embedding(torch.tensor([[1, 2]]), distances=torch.tensor([[0.1, 0.2]])).sum().backward()

    torch.testing.assert_close(embedding.temperature.detach(), torch.tensor([0.3]))
    # A higher temperature gives item 2, the farther and the larger one, more weight.
    assert float(embedding.temperature_logit.grad) > 0


@pytest.mark.parametrize(("logit", "temperature"), [(-100.0, 0.01), (100.0, 10.0)])
def test_the_temperature_never_leaves_its_bounds(logit, temperature):
    embedding = numbered_table()

    nn.init.constant_(embedding.temperature_logit, logit)

    torch.testing.assert_close(embedding.temperature.detach(), torch.tensor([temperature]))


def test_the_temperature_gets_a_gradient_even_without_distances():
    """Else DistributedDataParallel would wait for it forever."""
    embedding = numbered_table()

    embedding(torch.tensor([[1, 2]])).sum().backward()

    assert embedding.temperature_logit.grad.tolist() == [0.0]


def test_a_shared_table_is_read_and_trained_as_the_models_own():
    item_ids = nn.Embedding(4, 2, padding_idx=0)
    embedding = NearestItemsEmbedding(3, 2, item_ids=item_ids)

    embedding(torch.tensor([[2, 0]])).sum().backward()

    assert embedding.table is item_ids
    assert item_ids.weight.grad.tolist() == [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]


def test_distances_and_similarities_together_are_refused():
    scores = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="Both distances and similarities are given. Leave one of them out"):
        numbered_table()(torch.tensor([[1, 2]]), distances=scores, similarities=scores)


@pytest.mark.parametrize("name", ["distances", "similarities"])
def test_scores_of_another_shape_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name} have shape \(2,\), must be item_index's \(1, 2\)"):
        numbered_table()(torch.tensor([[1, 2]]), **{name: torch.zeros(2)})


@pytest.mark.parametrize("index", [-1, 4])
def test_an_index_outside_the_vocabulary_is_refused(index):
    with pytest.raises(ValueError, match=rf"item_index holds {index}, must be in \[0, 3\]"):
        numbered_table()(torch.tensor([[1, index]]))


def test_a_shared_table_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"item_ids is a table of shape \(3, 1\), must be \(4, 1\)"):
        NearestItemsEmbedding(3, 1, item_ids=nn.Embedding(3, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_items": -1}, "num_items is -1, must be at least 0"),
        ({"embedding_dim": 0}, "embedding_dim is 0, must be at least 1"),
        ({"temperature": 0.01}, r"temperature is 0.01, must be inside \(0.01, 10\)"),
        ({"temperature": 10.0}, r"temperature is 10.0, must be inside \(0.01, 10\)"),
    ],
)
def test_numbers_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NearestItemsEmbedding(**({"num_items": 3, "embedding_dim": 1} | options))
