"""ItemContentStore: content tokens in memory-mapped files, compared with numpy arrays."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from qarm_features.fusion.q_former import FusionQFormer
from qarm_features.ranking.data.item_content_store import ItemContentStore, write_item_content

TOKENS = np.arange(3 * 2 * 4, dtype=np.float32).reshape(3, 2, 4)
MASK = np.array([[True, True], [True, False], [True, True]])


def test_the_tokens_of_asked_items_come_in_the_order_asked_and_an_unknown_one_has_none(tmp_path):
    store = write_item_content(tmp_path, [30, 10, 20], {"text": (TOKENS, MASK)})

    rows = store.rows([20, 999, 30])

    assert rows.tolist() == [1, -1, 2]
    values, mask = store.gather(rows)
    assert values.dtype == torch.float32
    assert values.tolist() == [TOKENS[2].tolist(), np.zeros((2, 4)).tolist(), TOKENS[0].tolist()]
    assert mask.tolist() == [[True, True], [False, False], [True, True]]
    assert (len(store), store.dim) == (3, 4)


def test_a_masked_token_is_stored_as_zeros(tmp_path):
    store = write_item_content(tmp_path, [1, 2, 3], {"text": (np.where(MASK[..., None], TOKENS, np.nan), MASK)})

    assert store.gather(store.rows([2])).values.tolist() == [[TOKENS[1, 0].tolist(), [0.0] * 4]]


def test_items_may_be_named_by_strings_of_any_length(tmp_path):
    store = write_item_content(tmp_path, ["b", "ä", "a10", "a9"], {"text": (np.ones((4, 1, 1)), np.ones((4, 1), bool))})

    assert store.rows(["a10", "a9", "b", "ä", "a", "a10000", ""]).tolist() == [0, 1, 2, 3, -1, -1, -1]
    assert store.rows([]).tolist() == []


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_batch_is_what_numpy_takes_from_the_whole(tmp_path, dtype):
    random = np.random.default_rng(0)
    values, mask = random.normal(size=(500, 6, 8)).astype(dtype), random.random((500, 6)) < 0.7
    store = write_item_content(tmp_path, np.arange(500), {"text": (values, mask)}, dtype=dtype)
    asked = random.permutation(500)[:200]

    got = store.gather(asked)

    assert got.values.numpy().tolist() == np.where(mask[..., None], values, 0)[asked].astype(np.float32).tolist()
    assert got.mask.numpy().tolist() == mask[asked].tolist()


def test_every_modality_has_its_own_shape_and_a_q_former_takes_them_as_they_come(tmp_path):
    image = (np.ones((3, 5, 7), np.float32), np.array([[True] * 5, [False] * 5, [True] * 5]))
    store = write_item_content(tmp_path, [1, 2, 3], {"text": (TOKENS, MASK), "image": image})
    tokens = store.gather_modalities(store.rows([3, 2]))

    fused = FusionQFormer(store.token_dims, num_queries=2, dim=8)(tokens)

    assert store.token_dims == {"text": 4, "image": 7}
    assert tokens["image"].mask.any(1).tolist() == [True, False]
    assert fused.queries.shape == (2, 2, 8)
    with pytest.raises(ValueError, match="holds more than one modality: text, image. Use gather_modalities"):
        store.gather(store.rows([3]))


def test_a_worker_gets_the_folder_not_a_copy_of_the_tokens(tmp_path):
    big = (np.zeros((1000, 16, 64), np.float32), np.ones((1000, 16), bool))
    store = write_item_content(tmp_path, np.arange(1000), {"text": big})

    sent = pickle.dumps(store)

    assert len(sent) < 1000
    assert pickle.loads(sent).gather(np.array([5])).mask.tolist() == [[True] * 16]


def test_wrong_ids_folders_and_shapes_are_refused(tmp_path):
    store = write_item_content(tmp_path, [1, 2, 3], {"text": (TOKENS, MASK)})
    with pytest.raises(ValueError, match="item_ids are strings, must be integers as in"):
        store.rows(["1"])
    with pytest.raises(ValueError, match="holds no content.json. Run: qarm write-content-tokens"):
        ItemContentStore.open(tmp_path / "none")
    with pytest.raises(ValueError, match="item_ids holds an ID twice, must hold each ID once"):
        write_item_content(tmp_path / "twice", [1, 2, 1], {"text": (TOKENS, MASK)})
    with pytest.raises(ValueError, match=r"Tokens of text are \(3, 2, 4\) .* must be \(2, N, D\)"):
        write_item_content(tmp_path / "short", [1, 2], {"text": (TOKENS, MASK)})
