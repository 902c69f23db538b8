"""Tables that start from centroids, and tables that move to new codebooks."""

import math

import numpy as np
import pytest
import torch

from qarm_features.ranking.modules.code_tables import centroid_table, remap, start_from_centroids
from qarm_features.ranking.modules.semantic_id_embedding import SemanticIDEmbedding

NAN = [math.nan, math.nan]


def random_codebooks(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def numbered_table(**options) -> SemanticIDEmbedding:
    """L = 1 level, K = 3 codes, D = 1, version 0; code c holds c, a missing item 9."""
    embedding = SemanticIDEmbedding(1, 3, 1, **({"codebook_version": 0} | options))
    with torch.no_grad():
        embedding.table.weight[:, 0] = torch.tensor([9.0, 0.0, 1.0, 2.0])
    return embedding


def test_rows_stand_along_the_principal_axis_of_their_level():
    codebooks = torch.tensor([[[10.0, 0.0], [10.0, 2.0], [10.0, 4.0]]])

    rows = centroid_table(codebooks, 1, std=math.sqrt(2 / 3))

    # less the mean -2, 0, 2; their root mean square is sqrt(8/3), twice std
    torch.testing.assert_close(rows[1:], torch.tensor([[-1.0], [0.0], [1.0]]))


def test_an_axis_points_to_where_its_largest_component_is_positive():
    codebooks = torch.tensor([[[0.0, 0.0], [1.0, -2.0], [2.0, -4.0]]])

    rows = centroid_table(codebooks, 1, std=math.sqrt(2 / 3))

    torch.testing.assert_close(rows[1:], torch.tensor([[1.0], [0.0], [-1.0]]))


def test_distances_within_a_level_are_those_of_the_centroids_but_for_a_factor():
    codebooks = random_codebooks(2, 20, 4)

    rows = centroid_table(codebooks, 4).unflatten(0, (2, 21))[:, 1:]

    ratio = torch.pdist(rows[1]) / torch.pdist(codebooks[1])
    torch.testing.assert_close(ratio, ratio[0].expand_as(ratio), rtol=1e-4, atol=0.0)
    torch.testing.assert_close(rows.square().mean(dim=(1, 2)).sqrt(), torch.tensor([0.05, 0.05]))


def test_a_row_of_nan_gets_zeros_and_moves_no_other():
    codebooks = torch.tensor([[[0.0, 0.0], [0.0, 2.0], [0.0, 4.0]]])
    padded = torch.cat([codebooks, torch.tensor([[NAN]])], dim=1)

    rows = centroid_table(padded, 2)

    assert rows[4].tolist() == [0.0, 0.0]
    assert torch.equal(rows[:4], centroid_table(codebooks, 2))


def test_dimensions_beyond_the_centroids_and_missing_rows_are_drawn_by_the_seed():
    codebooks = random_codebooks(2, 50, 3)

    rows, same, other = (centroid_table(codebooks, 40, seed=seed) for seed in (0, 0, 1))

    drawn = rows.unflatten(0, (2, 51))[:, 1:, 3:]
    assert torch.equal(rows, same)
    assert not (rows == other).unflatten(0, (2, 51))[:, 1:, 3:].any()
    assert torch.equal(rows.unflatten(0, (2, 51))[:, 1:, :3], other.unflatten(0, (2, 51))[:, 1:, :3])
    assert 0.045 < float(drawn.std()) < 0.055
    assert 0.03 < float(rows[0].std()) < 0.07


@pytest.mark.parametrize("size", [1, 3])
def test_centroids_in_one_point_get_the_same_row(size):
    codebooks = torch.full((1, size, 2), 0.1)

    rows = centroid_table(codebooks, 1)

    assert rows[1:].tolist() == [[0.0]] * size


def test_numpy_codebooks_are_read_as_tensors_are_and_the_global_seed_is_left_alone():
    codebooks = random_codebooks(2, 5, 3)
    read_only = codebooks.numpy().copy()
    read_only.flags.writeable = False
    state = torch.get_rng_state()

    rows = centroid_table(read_only, 2)

    assert torch.equal(rows, centroid_table(codebooks, 2))
    assert torch.equal(torch.get_rng_state(), state)


def test_start_from_centroids_writes_the_table():
    codebooks = random_codebooks(2, 5, 3)
    embedding = SemanticIDEmbedding(2, 5, 3)

    start_from_centroids(embedding, codebooks, seed=4, std=0.2)

    assert torch.equal(embedding.table.weight, centroid_table(codebooks, 3, seed=4, std=0.2))
    assert embedding.table.weight.requires_grad


def test_each_new_code_starts_from_the_row_of_the_nearest_old_centroid():
    old = torch.tensor([[[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]]])
    new = torch.tensor([[[19.0, 1.0], [1.0, 1.0], [11.0, 0.0], [21.0, 0.0]]])

    remapped = remap(numbered_table(), old, new, codebook_version=1)

    # missing, then codes 0..3
    assert remapped.table.weight.flatten().tolist() == [9.0, 2.0, 0.0, 1.0, 2.0]
    assert remapped.check_codebook_version(1) is None


def test_equally_near_old_centroids_give_the_lowest_code():
    old, new = torch.tensor([[[2.0], [0.0], [2.0]]]), torch.tensor([[[1.0], [2.0]]])

    remapped = remap(numbered_table(), old, new, codebook_version=1)

    assert remapped.table.weight.flatten().tolist() == [9.0, 0.0, 0.0]


def test_rows_of_nan_are_never_nearest_and_get_zeros():
    old, new = torch.tensor([[[5.0, 0.0], [0.0, 0.0], NAN]]), torch.tensor([[[1.0, 0.0], NAN]])

    remapped = remap(numbered_table(), old, new, codebook_version=1)

    assert remapped.table.weight.flatten().tolist() == [9.0, 1.0, 0.0]


@pytest.mark.parametrize("pooling", ["concat", "sum"])
def test_scores_do_not_change_where_the_codebooks_are_only_permuted(pooling):
    torch.manual_seed(0)
    old = random_codebooks(3, 50, 8)
    order = torch.stack([torch.randperm(50) for _ in range(3)])  # new code -> old code
    new = torch.stack([codebook[permuted] for codebook, permuted in zip(old, order)])
    new = torch.cat([new, torch.full((3, 7, 8), math.nan)], dim=1)
    embedding = SemanticIDEmbedding(3, 50, 4, codebook_version=2, pooling=pooling)
    score = torch.nn.Linear(embedding.output_dim, 1)
    old_codes = torch.randint(-1, 50, (40, 3))

    remapped = remap(embedding, old, new, codebook_version=3)

    new_code_of = order.argsort(dim=1)
    new_codes = torch.where(old_codes < 0, -1, new_code_of.T.gather(0, old_codes.clamp(min=0)))
    assert torch.equal(score(remapped(new_codes)), score(embedding(old_codes)))


def test_the_old_table_stays_as_it_was_and_the_new_one_is_like_it():
    embedding = numbered_table(pooling="sum").double().eval()
    embedding.table.weight.requires_grad_(False)
    codebooks = np.array([[[0.0], [1.0], [2.0]]], dtype=np.float32)

    remapped = remap(embedding, codebooks, codebooks[:, ::-1], codebook_version=1)

    assert embedding.table.weight.flatten().tolist() == [9.0, 0.0, 1.0, 2.0]
    assert int(embedding.codebook_version) == 0
    assert remapped.table.weight.flatten().tolist() == [9.0, 2.0, 1.0, 0.0]
    assert remapped.table.weight.dtype == torch.float64
    assert (remapped.pooling, remapped.training, remapped.table.weight.requires_grad) == ("sum", False, False)


@pytest.mark.parametrize(
    ("old", "new", "version", "message"),
    [
        ((1, 3, 2), (1, 3, 2), -1, "codebook_version is -1, must be at least 0"),
        ((1, 3, 2), (1, 3, 2), 0, "codebook_version is 0, must differ from the embedding's own"),
        ((1, 4, 2), (1, 3, 2), 1, r"old_codebooks have shape \(1, 4, 2\), must be \(1, 3, D\) as the embedding"),
        ((1, 3, 2), (2, 3, 2), 1, "new_codebooks have L = 2, must be old_codebooks' 1"),
        ((1, 3, 2), (1, 3, 4), 1, "new_codebooks have D = 4, must be old_codebooks' 2"),
    ],
)
def test_codebooks_that_do_not_follow_each_other_are_refused(old, new, version, message):
    with pytest.raises(ValueError, match=message):
        remap(numbered_table(), random_codebooks(*old), random_codebooks(*new), codebook_version=version)


def test_codebooks_of_another_size_than_the_embedding_are_refused():
    with pytest.raises(ValueError, match=r"codebooks have shape \(1, 4, 2\), must be \(1, 3, D\) as the embedding"):
        start_from_centroids(numbered_table(), random_codebooks(1, 4, 2))


@pytest.mark.parametrize(
    ("codebooks", "message"),
    [
        (torch.zeros(3, 2), r"codebooks have shape \(3, 2\), must be \(L, K, D\)"),
        (torch.zeros(1, 0, 2), r"codebooks have shape \(1, 0, 2\), must be \(L, K, D\), each at least 1"),
        (torch.tensor([[[0.0, math.nan], [math.inf, 0.0]]]), "codebooks have 2 rows with a NaN or infinite number"),
        (torch.tensor([[[0.0, 0.0]], [NAN]]), "codebooks have no centroid in level 1, must have at least one"),
    ],
)
def test_codebooks_that_are_none_are_refused(codebooks, message):
    with pytest.raises(ValueError, match=message):
        centroid_table(codebooks, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_dim": 0}, "embedding_dim is 0, must be at least 1"),
        ({"std": 0.0}, "std is 0.0, must be above 0"),
    ],
)
def test_numbers_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        centroid_table(random_codebooks(1, 3, 2), **({"embedding_dim": 1} | options))
