"""Bags of items: jagged tensors become one vector per bag, with PrefixEmbedding and SemanticIDEmbedding."""

import pytest
import torch
from torch import nn

from qarm_features.ranking.modules.prefix_embedding import PrefixEmbedding
from qarm_features.ranking.modules.semantic_id_embedding import SemanticIDEmbedding


def random_codes(*shape: int, codebook_size: int = 4096) -> torch.Tensor:
    return torch.randint(0, codebook_size, shape, generator=torch.Generator().manual_seed(0))


def embeddings(pooling: str) -> list[nn.Module]:
    torch.manual_seed(0)
    return [SemanticIDEmbedding(3, 5, 2, pooling=pooling), PrefixEmbedding(3, 5, 2, num_rows=30, pooling=pooling)]


EVERY_TABLE = pytest.mark.parametrize(
    "embedding",
    [*embeddings("concat"), *embeddings("sum")],
    ids=lambda table: f"{type(table).__name__}-{table.pooling}",
)


def test_a_bag_of_semantic_ids_is_the_mean_of_its_items():
    embedding = SemanticIDEmbedding(2, 2, 1)
    with torch.no_grad():
        embedding.table.weight[:, 0] = torch.tensor([9.0, 0.0, 1.0, 90.0, 0.0, 10.0])

    vectors = embedding.forward_bags(torch.tensor([[1, 1], [0, 0], [-1, -1]]), torch.tensor([0, 2]))

    assert vectors.tolist() == [[0.5, 5.0], [9.0, 90.0]]


def test_a_bag_of_prefixes_is_the_sum_of_its_items():
    embedding = PrefixEmbedding(2, 2, 1, pooling="concat")
    with torch.no_grad():
        embedding.table.weight[:, 0] = torch.tensor([9.0, 0.0, 1.0, 90.0, 0.0, 10.0, 20.0, 30.0])
    values, offsets = torch.tensor([[1, 0], [1, 1], [0, 1]]), torch.tensor([0, 2])

    vectors = embedding.forward_bags(values, offsets, mode="sum")

    assert vectors.tolist() == [[2.0, 50.0], [0.0, 10.0]]


@EVERY_TABLE
@pytest.mark.parametrize("mode", ["mean", "sum"])
def test_bags_equal_the_dense_path(embedding, mode):
    values = random_codes(7, 3, codebook_size=6) - 1  # some are missing
    offsets = torch.tensor([0, 0, 3, 3, 4, 7])  # bags of 0, 3, 0, 1, 3, 0 items

    vectors = embedding.forward_bags(values, offsets, mode=mode)

    join = torch.mean if mode == "mean" else torch.sum
    dense = [join(embedding(values[start:end]), dim=0) for start, end in [(0, 3), (3, 4), (4, 7)]]
    torch.testing.assert_close(vectors[[1, 3, 4]], torch.stack(dense))
    assert vectors[[0, 2, 5]].tolist() == [[0.0] * embedding.output_dim] * 3


@pytest.mark.parametrize("mode", ["mean", "sum"])
def test_bags_of_one_level_equal_an_embedding_bag_and_train_it_alike(mode):
    embedding = SemanticIDEmbedding(1, 5, 2)
    bag = nn.EmbeddingBag.from_pretrained(embedding.table.weight.detach().clone(), freeze=False, mode=mode)
    values, offsets = random_codes(7, 1, codebook_size=5), torch.tensor([0, 3, 3])

    vectors = embedding.forward_bags(values, offsets, mode=mode)

    expected = bag(values.flatten() + 1, offsets)
    torch.testing.assert_close(vectors, expected)
    vectors.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(embedding.table.weight.grad, bag.weight.grad)


@EVERY_TABLE
def test_bags_may_all_be_empty_and_there_may_be_none(embedding):
    no_items = torch.zeros(0, 3, dtype=torch.int64)

    two, none = (embedding.forward_bags(no_items, torch.zeros(bags, dtype=torch.int64)) for bags in (2, 0))

    assert two.tolist() == [[0.0] * embedding.output_dim] * 2
    assert none.shape == (0, embedding.output_dim)


@EVERY_TABLE
def test_int32_bags_equal_int64_bags(embedding):
    values, offsets = random_codes(4, 3, codebook_size=5), torch.tensor([0, 1])

    vectors = embedding.forward_bags(values.int(), offsets.int())

    assert torch.equal(vectors, embedding.forward_bags(values, offsets))


@EVERY_TABLE
@pytest.mark.parametrize(
    ("values", "offsets", "mode", "message"),
    [
        ([[0, 0, 0]], [0], "max", 'mode is "max", must be "mean" or "sum"'),
        ([0, 0, 0], [0], "mean", r"values have shape \(3,\), must be \(N, L\)"),
        ([[0, 0, 0]], [[0]], "mean", r"offsets have shape \(1, 1\), must be \(B,\)"),
        ([[0, 0, 0]], [1], "mean", "offsets run from 1 to 1, must ascend from 0 to at most N = 1"),
        ([[0, 0, 0]], [0, 2], "mean", "offsets run from 0 to 2, must ascend from 0 to at most N = 1"),
        ([[0, 0, 0]], [0, 1, 0], "mean", "offsets run from 0 to 0, must ascend from 0 to at most N = 1"),
        ([[0, 0]], [0], "mean", "codes have 2 levels, must have num_levels = 3"),
        ([[0, 0, 5]], [0], "mean", r"codes hold 5, must be in \[-1, 5\)"),
    ],
)
def test_bags_that_are_none_are_refused(embedding, values, offsets, mode, message):
    with pytest.raises(ValueError, match=message):
        embedding.forward_bags(torch.tensor(values), torch.tensor(offsets), mode=mode)
