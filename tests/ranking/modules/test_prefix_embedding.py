"""PrefixEmbedding: items that share a prefix share its vector."""

import itertools

import pytest
import torch

from qarm_features.ranking.modules.prefix_embedding import PrefixEmbedding, hash_prefixes


def numbered_table(**options) -> PrefixEmbedding:
    """L = 2 levels, K = 2 codes, D = 1; depth 1 holds 9 (missing), 0, 1; depth 2 holds 90, 0, 10, 20, 30."""
    embedding = PrefixEmbedding(2, 2, 1, **options)
    with torch.no_grad():
        embedding.table.weight[:, 0] = torch.tensor([9.0, 0.0, 1.0, 90.0, 0.0, 10.0, 20.0, 30.0])
    return embedding


def deep_table(**options) -> PrefixEmbedding:
    """L = 8, K = 4096: K**8 = 2**96 prefixes, far more than an int64 can count."""
    torch.manual_seed(0)
    return PrefixEmbedding(8, 4096, 2, **({"num_rows": 5000} | options))


def random_codes(*shape: int, codebook_size: int = 4096) -> torch.Tensor:
    return torch.randint(0, codebook_size, shape, generator=torch.Generator().manual_seed(0))


def test_each_depth_reads_the_row_of_its_prefix():
    codes = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])

    vectors = numbered_table(pooling="concat")(codes)

    assert vectors.tolist() == [[0.0, 0.0], [0.0, 10.0], [1.0, 20.0], [1.0, 30.0]]


def test_sum_pooling_adds_the_depths():
    codes = torch.tensor([[1, 0], [1, 1]])

    vectors = numbered_table()(codes)

    assert vectors.tolist() == [[21.0], [31.0]]


def test_a_missing_item_reads_a_row_of_its_own_at_every_depth():
    codes = torch.tensor([[-1, -1]])

    vectors = numbered_table(pooling="concat")(codes)

    assert vectors.tolist() == [[9.0, 90.0]]


def test_a_prefix_with_a_missing_code_is_missing_whatever_follows():
    codes = torch.tensor([[1, -1], [-1, 1]])

    vectors = numbered_table(pooling="concat")(codes)

    assert vectors.tolist() == [[1.0, 90.0], [9.0, 90.0]]


def test_levels_beyond_the_greatest_depth_are_not_read():
    embedding = PrefixEmbedding(3, 2, 1, max_depth=2, pooling="concat")

    vectors = embedding(torch.tensor([[1, 0, 0], [1, 0, 1]]))

    assert vectors.shape == (2, 2)
    assert vectors[0].tolist() == vectors[1].tolist()


def test_a_depth_of_just_as_many_prefixes_as_rows_is_exact():
    codes = torch.tensor(list(itertools.product(range(4), repeat=3)))

    rows = PrefixEmbedding(3, 4, 1, num_rows=64).rows(codes)

    # Depth 1 has 1 + 4 rows, depth 2 has 1 + 16, and the first of depth 3's is for missing items.
    assert rows[:, 2].tolist() == list(range(5 + 17 + 1, 5 + 17 + 1 + 64))


def test_deeper_prefixes_share_the_rows_of_their_own_depth_only():
    embedding = PrefixEmbedding(3, 4, 1, num_rows=16)

    rows = embedding.rows(torch.tensor(list(itertools.product(range(4), repeat=3))))

    assert embedding.table.num_embeddings == 5 + 17 + 17
    assert rows[:, 2].min() >= 5 + 17 + 1
    assert rows[:, 2].max() < 5 + 17 + 17


def test_a_codebook_larger_than_the_table_is_hashed_from_the_first_depth():
    embedding = PrefixEmbedding(2, 1000, 1, num_rows=10)

    rows = embedding.rows(random_codes(500, 2, codebook_size=1000))

    assert embedding.table.num_embeddings == 22
    assert rows[:, 0].unique().tolist() == list(range(1, 11))
    assert rows[:, 1].unique().tolist() == list(range(12, 22))


def test_the_hash_equals_its_formula_in_unbounded_integers():
    codes = [4095, 0, 17, 2**32 - 1, 1]

    hashes = hash_prefixes(torch.tensor(codes), seed=2**32 - 1)

    def mix(x: int) -> int:
        x = (x ^ (x >> 16)) * 0x21F0AAAD % 2**32
        x = (x ^ (x >> 15)) * 0x735A2D97 % 2**32
        return x ^ (x >> 15)

    state, expected = mix((2**32 - 1 + 0x9E3779B9) % 2**32), []
    for code in codes:
        state = mix(state ^ code)
        expected.append(state)
    assert hashes.tolist() == expected


def test_the_hash_never_changes_because_trained_weights_rest_on_it():
    hashes = hash_prefixes(torch.tensor([[1, 2, 3]]), seed=0)

    assert hashes.tolist() == [[598639744, 381053172, 2540243247]]


def test_the_hash_spreads_prefixes_evenly():
    codes = torch.tensor(list(itertools.product(range(32), repeat=3)))  # 32,768 close neighbors

    buckets = (hash_prefixes(codes, seed=0)[:, 2] % 1000).bincount(minlength=1000).double()

    # Chi-square of 999 degrees of freedom: mean 999, standard deviation 45.
    chi_square = ((buckets - 32.768) ** 2 / 32.768).sum()
    assert 999 - 5 * 45 < float(chi_square) < 999 + 5 * 45


def test_another_seed_hashes_otherwise():
    codes = random_codes(1000, 3)

    same = hash_prefixes(codes, seed=0) == hash_prefixes(codes, seed=1)

    assert not same.any()


def test_more_prefixes_than_an_int64_counts_still_read_rows_of_their_depth():
    embedding = deep_table()

    rows = embedding.rows(torch.full((1, 8), 4095))

    first = torch.tensor([4097, *[5001] * 7]).cumsum(0) - torch.tensor([4097, *[5001] * 7])
    assert ((rows > first) & (rows <= first + 5000)).all()


def test_items_share_the_rows_of_their_common_prefix_and_no_deeper_one():
    codes = torch.tensor([[5, 6, 7, 8, 1, 1, 1, 1], [5, 6, 7, 9, 1, 1, 1, 1]])

    rows = deep_table(num_rows=2**16).rows(codes)

    assert (rows[0] == rows[1]).tolist() == [True, True, True, False, False, False, False, False]


def test_batch_order_and_padding_change_nothing():
    codes = random_codes(6, 4, 8)
    embedding = deep_table()

    vectors = embedding(torch.cat([codes.flip(0), torch.full((6, 3, 8), -1)], dim=1))

    assert torch.equal(vectors[:, :4].flip(0), embedding(codes))


@pytest.mark.parametrize(("pooling", "width"), [("concat", 6), ("sum", 2)])
def test_leading_dimensions_are_kept_also_where_they_are_0(pooling, width):
    embedding = PrefixEmbedding(3, 8, 2, pooling=pooling, num_rows=20)

    vectors = embedding(torch.zeros(4, 0, 3, dtype=torch.int64))

    assert vectors.shape == (4, 0, width)
    assert embedding.output_dim == width


def test_the_seed_and_the_codebook_version_travel_with_the_weights():
    trained = deep_table(seed=3, codebook_version=7)
    loaded = deep_table()

    loaded.load_state_dict(trained.state_dict())

    codes = random_codes(5, 8)
    assert torch.equal(loaded(codes), trained(codes))
    assert loaded.check_codebook_version(7) is None


def test_codes_of_another_codebook_version_are_refused():
    with pytest.raises(ValueError, match="Codes are of codebook version 1, this table was trained on version 0"):
        numbered_table(codebook_version=0).check_codebook_version(1)


@pytest.mark.parametrize("code", [-2, 2])
def test_a_code_outside_the_codebook_is_refused(code):
    with pytest.raises(ValueError, match=rf"codes hold {code}, must be in \[-1, 2\)"):
        numbered_table()(torch.tensor([[0, 0], [0, code]]))


def test_a_code_outside_the_codebook_never_reads_another_prefix():
    """On a GPU nothing checks the codes; the gather itself must fail."""
    rows = numbered_table().rows(torch.tensor([[2, 0], [0, -2]]))

    assert rows.tolist() == [[8, 8], [1, 8]]  # the table's rows are 0..7


def test_codes_of_another_number_of_levels_are_refused():
    with pytest.raises(ValueError, match="codes have 3 levels, must have num_levels = 2"):
        numbered_table()(torch.tensor([[0, 0, 0]]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 0}, "num_levels is 0, must be at least 1"),
        ({"embedding_dim": 0}, "embedding_dim is 0, must be at least 1"),
        ({"codebook_size": 0}, r"codebook_size is 0, must be in \[1, 4294967296\]"),
        ({"max_depth": 0}, r"max_depth is 0, must be in \[1, 2\]"),
        ({"max_depth": 3}, r"max_depth is 3, must be in \[1, 2\]"),
        ({"num_rows": 0}, r"num_rows is 0, must be in \[1, 2147483648\]"),
        ({"seed": -1}, r"seed is -1, must be in \[0, 4294967295\]"),
        ({"pooling": "mean"}, 'pooling is "mean", must be "concat" or "sum"'),
    ],
)
def test_numbers_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PrefixEmbedding(**({"num_levels": 2, "codebook_size": 2, "embedding_dim": 1} | options))
