"""content_id_contrastive_loss: the loss that brings an item's content and its ID embedding together."""

import numpy as np
import pytest
import torch

from qarm_features.ranking.modules.content_id_contrastive import content_id_contrastive_loss, popularity_weights


def random_sides(batch: int = 4):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 3, generator=generator, requires_grad=True) for _ in range(2)]


def written_out(content, item_id, *, index, weight, temperature):
    c, e = (side.detach().double().numpy() for side in (content, item_id))
    c, e = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (c, e))
    total = 0.0
    for i in range(len(c)):
        rows = [j for j in range(len(c)) if j == i or index[j] != index[i]]
        for one, other in ((c, e), (e, c)):
            share = np.exp(one[i] @ other[i] / temperature) / np.exp(other[rows] @ one[i] / temperature).sum()
            total += -weight[i] * np.log(share) / 2
    return total / sum(weight)


@pytest.mark.parametrize("index", [[0, 1, 2, 3], [5, 7, 5, 8]])
@pytest.mark.parametrize("weight", [[1.0, 1.0, 1.0, 1.0], [1.0, 3.0, 0.0, 0.5]])
def test_it_equals_the_softmax_written_out_in_numpy(index, weight):
    sides = random_sides()

    loss = content_id_contrastive_loss(
        *sides, temperature=0.5, item_index=torch.tensor(index), weight=torch.tensor(weight)
    )

    expected = written_out(*sides, index=index, weight=weight, temperature=0.5)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-5)


def test_two_opposite_items_are_checked_by_hand():
    sides = torch.tensor([[2.0], [-3.0]])

    loss = content_id_contrastive_loss(sides, sides, temperature=1.0)

    np.testing.assert_allclose(loss.item(), np.log(1 + np.exp(-2)), rtol=1e-6)  # cosines 1 and -1


def test_one_row_gives_exactly_zero_and_zero_gradients():
    content, item_id = random_sides(1)

    loss = content_id_contrastive_loss(content, item_id)
    loss.backward()

    assert loss.item() == 0.0
    assert content.grad.tolist() == item_id.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_the_gradient_of_both_sides_and_of_the_temperature_equals_finite_differences():
    sides = [side.detach().double().requires_grad_() for side in random_sides()]
    temperature = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def loss(content, item_id, temperature):
        return content_id_contrastive_loss(content, item_id, temperature=temperature)

    assert torch.autograd.gradcheck(loss, (*sides, temperature))


@pytest.mark.parametrize(
    ("stop", "trained"), [(None, [True, True]), ("content", [False, True]), ("item_id", [True, False])]
)
def test_the_stopped_side_gets_no_gradient(stop, trained):
    sides = random_sides()

    content_id_contrastive_loss(*sides, stop_gradient=stop).backward()

    assert [side.grad is not None and bool(side.grad.abs().sum() > 0) for side in sides] == trained


def test_as_many_sampled_negatives_as_rows_are_the_whole_batch():
    sides = random_sides()

    loss = content_id_contrastive_loss(*sides, num_negatives=4)

    torch.testing.assert_close(loss, content_id_contrastive_loss(*sides))


def test_sampled_negatives_follow_the_generator():
    sides = random_sides()
    column = torch.randperm(4, generator=torch.Generator().manual_seed(3))[:1]

    loss = content_id_contrastive_loss(
        *sides, temperature=1.0, num_negatives=1, generator=torch.Generator().manual_seed(3)
    )

    c, e = (torch.nn.functional.normalize(side) for side in sides)
    positive, other = (c * e).sum(1), torch.arange(4) != column
    gaps = torch.stack([(c @ e[column].T).squeeze(1) - positive, (e @ c[column].T).squeeze(1) - positive])
    torch.testing.assert_close(loss, (gaps.exp().log1p() * other).mean())  # the drawn row has no negative: 0


def test_a_zero_row_keeps_the_gradient_finite_and_small():
    content, item_id = random_sides()
    with torch.no_grad():
        item_id[0] = 0

    content_id_contrastive_loss(content, item_id).backward()

    assert item_id.grad.abs().max() < 100


def test_weights_of_zero_give_zero():
    loss = content_id_contrastive_loss(*random_sides(), weight=torch.zeros(4))

    assert loss.item() == 0.0


def test_cold_and_popular_items_are_weighted_separately():
    weights = popularity_weights(torch.tensor([0, 4, 5, 99]), cold_below=5, popular_weight=1.0, cold_weight=0.25)

    assert weights.tolist() == [0.25, 0.25, 1.0, 1.0]


@pytest.mark.parametrize("name", ["cold_below", "popular_weight", "cold_weight"])
def test_popularity_options_below_zero_are_refused(name):
    options = {"cold_below": 1, "popular_weight": 1, "cold_weight": 1} | {name: -1}
    with pytest.raises(ValueError, match=f"{name} is -1, must be at least 0"):
        popularity_weights(torch.ones(1), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature is 0, must be above 0"),
        ({"stop_gradient": "both"}, 'stop_gradient is "both", must be "content", "item_id" or None'),
        ({"num_negatives": 0}, "num_negatives is 0, must be at least 1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        content_id_contrastive_loss(*random_sides(), **options)


def test_sides_of_different_shape_are_refused():
    with pytest.raises(ValueError, match=r"content is \(4, 3\) and item_id_embedding \(4, 2\), must both be \(B, D\)"):
        content_id_contrastive_loss(torch.ones(4, 3), torch.ones(4, 2))
