"""SemanticIDEmbedding: codes become trainable vectors."""

import pytest
import torch

from qarm_features.ranking import SemanticIDEmbedding


def numbered_table(**options) -> SemanticIDEmbedding:
    """L = 2 levels, K = 3 codes, D = 1; a row holds 10 * level + code, 10 * level + 9 for a missing item."""
    embedding = SemanticIDEmbedding(2, 3, 1, **options)
    with torch.no_grad():
        embedding.table.weight.copy_(torch.tensor([[9.0], [0.0], [1.0], [2.0], [19.0], [10.0], [11.0], [12.0]]))
    return embedding


def test_each_level_reads_its_own_table():
    codes = torch.tensor([[0, 0], [2, 1]])

    vectors = numbered_table()(codes)

    assert vectors.tolist() == [[0.0, 10.0], [2.0, 11.0]]


def test_a_missing_item_reads_a_row_of_its_own_on_every_level():
    codes = torch.tensor([[-1, -1]])

    vectors = numbered_table()(codes)

    assert vectors.tolist() == [[9.0, 19.0]]


def test_sum_pooling_adds_the_levels():
    codes = torch.tensor([[2, 1]])

    vectors = numbered_table(pooling="sum")(codes)

    assert vectors.tolist() == [[13.0]]


@pytest.mark.parametrize(("pooling", "shape"), [("concat", (4, 5, 6)), ("sum", (4, 5, 2))])
def test_leading_dimensions_are_kept(pooling, shape):
    codes = torch.zeros(4, 5, 3, dtype=torch.int64)

    vectors = SemanticIDEmbedding(3, 8, 2, pooling=pooling)(codes)

    assert vectors.shape == shape


def test_no_rows_in_no_rows_out():
    codes = torch.zeros(0, 2, dtype=torch.int64)

    vectors = numbered_table()(codes)

    assert vectors.shape == (0, 2)


def test_one_gradient_step_trains_the_rows_read_and_no_other():
    embedding = numbered_table()
    embedding(torch.tensor([[-1, -1], [2, 0]])).sum().backward()

    with torch.no_grad():
        embedding.table.weight -= 0.5 * embedding.table.weight.grad

    # level 0: missing, 0, 1, 2; level 1: missing, 0, 1, 2
    assert embedding.table.weight.flatten().tolist() == [8.5, 0.0, 1.0, 1.5, 18.5, 9.5, 11.0, 12.0]


@pytest.mark.parametrize("code", [-2, 3])
def test_a_code_outside_the_codebook_is_refused(code):
    with pytest.raises(ValueError, match=rf"codes hold {code}, must be in \[-1, 3\)"):
        numbered_table()(torch.tensor([[0, 0], [0, code]]))


def test_a_code_outside_the_codebook_never_reads_a_neighboring_level():
    """On a GPU nothing checks the codes; the gather itself must fail."""
    rows = numbered_table().rows(torch.tensor([[3, 0], [-2, 0]]))

    assert rows.tolist() == [[8, 5], [8, 5]]  # the table's rows are 0..7


def test_codes_of_another_number_of_levels_are_refused():
    with pytest.raises(ValueError, match="codes have 3 levels, must have num_levels = 2"):
        numbered_table()(torch.tensor([[0, 0, 0]]))


def test_codes_of_the_own_codebook_version_are_read():
    assert numbered_table(codebook_version=4).check_codebook_version(4) is None


def test_codes_of_another_codebook_version_are_refused_with_the_way_out():
    message = (
        r"Codes are of codebook version 1, this table was trained on version 0\. "
        r"Retrain the model on version 1, its tables warm-started by remap, or read the pinned view item_semantic_id__cb0\."
    )
    with pytest.raises(ValueError, match=message):
        numbered_table(codebook_version=0).check_codebook_version(1)


def test_a_table_without_a_version_cannot_vouch_for_codes():
    with pytest.raises(ValueError, match=r"This table has no codebook_version, but the codes are of version 2"):
        numbered_table().check_codebook_version(2)


def test_the_codebook_version_travels_with_the_weights():
    trained = numbered_table(codebook_version=7)
    loaded = SemanticIDEmbedding(2, 3, 1)

    loaded.load_state_dict(trained.state_dict())

    assert int(loaded.codebook_version) == 7


@pytest.mark.parametrize("name", ["num_levels", "codebook_size", "embedding_dim"])
def test_sizes_below_one_are_refused(name):
    sizes = {"num_levels": 1, "codebook_size": 1, "embedding_dim": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} is 0, must be at least 1"):
        SemanticIDEmbedding(**sizes)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match='pooling is "mean", must be "concat" or "sum"'):
        SemanticIDEmbedding(1, 1, 1, pooling="mean")
