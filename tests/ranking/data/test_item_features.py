"""ItemFeatures: look-ups by item index, once for each distinct item of a batch."""

import numpy as np
import pytest
import torch

from qarm_features.ranking import ItemFeatures, RankingModel, TokensInMemory, write_item_content
from qarm_features.ranking.modules import looked_up
from qarm_features.ranking.modules.looked_up import LookedUp, content_cosines
from tests.ranking.ranking_rows import CONFIG, FUSION, SWITCHES, VECTOR, item_features, random_rows


class CountingStore(TokensInMemory):
    """Remembers which rows were asked for."""

    def __init__(self, tokens):
        super().__init__(tokens)
        self.asked = []

    def gather_modalities(self, rows):
        self.asked += rows.tolist()
        return super().gather_modalities(rows)


def test_each_unique_item_of_a_batch_is_encoded_once():
    features = item_features()
    features.content = CountingStore(features.content.tokens)
    model = RankingModel(**CONFIG | FUSION)
    model.set_item_features(features)
    rows = random_rows()

    model(rows)

    read = {*rows.item_index.tolist(), *rows.behavior_index[rows.behavior_mask].tolist()} - {0, 11}
    assert sorted(features.content.asked) == sorted(item - 1 for item in read)  # row 0 is item 1


def test_tokens_in_memory_and_in_mapped_files_give_the_same_scores(tmp_path):
    in_memory = item_features()
    tokens = {name: (values.numpy(), mask.numpy()) for name, (values, mask) in in_memory.content.tokens.items()}
    store = write_item_content(tmp_path, np.arange(11) + 100, tokens, dtype="float32")
    mapped = ItemFeatures(content=store, content_rows=np.append(store.rows([99, *range(100, 110)]), -1))
    model = RankingModel(**CONFIG | FUSION).eval()

    model.set_item_features(in_memory)
    expected = model(random_rows())
    model.set_item_features(mapped)

    torch.testing.assert_close(model(random_rows()), expected)


def test_content_fused_ahead_gives_the_same_scores():
    model = RankingModel(**CONFIG | SWITCHES["all"]).eval()
    model.set_item_features(item_features())
    expected = model(random_rows())

    model.fuse_all(chunk_items=4)

    assert model.item_features.fused.shape == (12, 8)
    torch.testing.assert_close(model(random_rows()), expected)


def test_an_item_without_content_and_one_beyond_the_features_say_nothing():
    model = RankingModel(**CONFIG | FUSION).eval()
    model.set_item_features(item_features())

    content = model.item_embedding(torch.tensor([0, 11, 99, 1]), torch.zeros(4, 2, dtype=torch.int64))[:, 16:]

    assert content[:3].abs().sum() == 0
    assert content[3].norm().item() == pytest.approx(1.0, abs=1e-5)


def test_an_item_beyond_the_vocabulary_has_content_but_no_id():
    model = RankingModel(**CONFIG | FUSION).eval()
    model.set_item_features(item_features())

    embedding = model.item_embedding(torch.tensor([10]), torch.zeros(1, 2, dtype=torch.int64))[0]

    assert embedding[:6].tolist() == [0.0] * 6
    assert embedding[16:].norm().item() == pytest.approx(1.0, abs=1e-5)


def test_with_new_items_from_content_an_item_without_id_stands_where_its_content_is():
    model = RankingModel(**CONFIG | SWITCHES["content-ID loss"]).eval()
    model.set_item_features(item_features())

    embedding = model.item_embedding(torch.tensor([10, 1, 11]), torch.zeros(3, 2, dtype=torch.int64))

    content = embedding[0, 16:] @ model.items.content_to_id.weight.T
    torch.testing.assert_close(embedding[0, :6], content / content.norm() * 0.05 * 6**0.5)
    assert torch.equal(embedding[1, :6], model.items.item_ids.weight[1])
    assert embedding[2, :6].tolist() == [0.0] * 6  # neither ID nor content


def test_id_dropout_takes_items_as_unknown_in_training_only():
    model = RankingModel(**CONFIG, id_dropout=0.5)
    index, codes = torch.full((1000,), 3), torch.zeros(1000, 2, dtype=torch.int64)

    dropped = (model.train().item_embedding(index, codes)[:, :6] == 0).all(dim=1)

    assert 400 < dropped.sum() < 600
    assert not (model.eval().item_embedding(index, codes)[:, :6] == 0).all(dim=1).any()


@pytest.mark.parametrize(("switches", "lacks", "message"), [
    ({"use_nearest_items": True}, "nearest_items", "use_nearest_items needs nearest_items. Give them to ItemFeatures"),
    (VECTOR, "vectors", "vectors have D = None, must be vector_dim = 3"),
    (FUSION, "content", r"content has token_dims = None, must be \{'text': 4, 'image': 3\}"),
])  # fmt: skip
def test_features_that_lack_what_a_switch_reads_are_refused(switches, lacks, message):
    features = item_features()
    setattr(features, lacks, None)

    with pytest.raises(ValueError, match=message):
        RankingModel(**CONFIG | switches).set_item_features(features)


def test_arrays_of_different_items_are_refused():
    with pytest.raises(
        ValueError, match=r"different numbers of rows \(nearest_items 3, vectors 4\)\. Give each of them one row"
    ):
        ItemFeatures(nearest_items=np.zeros((3, 2)), vectors=np.zeros((4, 2)))


def test_a_store_without_rows_is_refused():
    with pytest.raises(ValueError, match="content_rows is missing. Give content and content_rows together"):
        ItemFeatures(content=TokensInMemory({}))


def test_frozen_vectors_are_centered_by_a_mean_that_is_saved_with_the_weights(tmp_path):
    torch.manual_seed(0)
    vectors = torch.cat([torch.zeros(1, 3), torch.randn(10, 3) + 5.0, torch.zeros(1, 3)])
    model = RankingModel(**CONFIG | VECTOR)
    model.set_item_features(ItemFeatures(vectors=vectors))

    (known,) = model.items.look_up([torch.tensor([1, 10, 11, 0])], model.item_features)

    mean = vectors[1:11].mean(dim=0)  # rows of zeros say nothing, and still do
    torch.testing.assert_close(known.content, torch.stack([vectors[1] - mean, vectors[10] - mean, *torch.zeros(2, 3)]))
    model.save_pretrained(tmp_path)
    later = RankingModel.from_pretrained(tmp_path)
    later.set_item_features(ItemFeatures(vectors=vectors + 100.0))
    torch.testing.assert_close(later.items.vector_mean, mean)


def test_the_mean_of_many_vectors_is_that_of_evenly_spaced_ones():
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)

    assert ItemFeatures(vectors=vectors).mean_vector(most_rows=3).tolist() == vectors[::2].mean(0).tolist()
    assert ItemFeatures(vectors=np.zeros((3, 2), np.float32)).mean_vector().tolist() == [0, 0]


SIZES = {"codes": 2, "vector": 4, "fusion": 3}


@pytest.mark.parametrize("content_names", [("fusion",), ("vector", "fusion")])
def test_cosines_are_the_same_from_one_table_and_pair_by_pair(monkeypatch, content_names):
    torch.manual_seed(0)
    parts = {name: torch.randn(7, dim).index_fill(0, torch.tensor([3]), 0.0) for name, dim in SIZES.items()}
    rows = (torch.tensor([0, 3, 6]), torch.randint(0, 7, (3, 5)))
    target, past = (LookedUp(parts, places, content_names) for places in rows)

    from_table = content_cosines(target, past)
    monkeypatch.setattr(looked_up, "_MAX_UNIQUE_PER_BEHAVIOR", 0)
    pair_by_pair = content_cosines(target, past)

    one = torch.nn.functional.cosine_similarity(target.content.unsqueeze(1), past.content, dim=2)
    for found in (from_table, pair_by_pair):
        torch.testing.assert_close(found[0], one)
        assert found[1].tolist() == ((target.rows != 3).unsqueeze(1) & (past.rows != 3)).tolist()
