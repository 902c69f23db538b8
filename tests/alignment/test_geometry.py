"""The geometry loss keeps cosines of items near those of the frozen backbones, alone and in a training run."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from qarm_features.alignment.item_content import ItemContent
from qarm_features.alignment.packing import packed
from qarm_features.alignment.steps import geometry_loss
from qarm_features.alignment.training_data import PackedItems, TrainingData


def unit(*shape: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_it_is_the_variance_of_the_difference_of_cosines():
    embeddings, frozen = unit(5, 3, seed=0), unit(5, 4, seed=1)
    differences = [
        float(embeddings[i] @ embeddings[j] - frozen[i] @ frozen[j]) for i in range(5) for j in range(5) if i != j
    ]

    assert float(geometry_loss(embeddings, frozen)) == pytest.approx(np.var(differences), abs=1e-6)


def test_a_rotation_and_a_shift_of_all_cosines_cost_nothing():
    frozen = unit(6, 4, seed=0)
    turned = frozen @ torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]
    shifted = normalize(torch.cat([frozen, torch.ones(6, 1)], 1), dim=-1)  # every cosine c becomes (c + 1) / 2

    assert float(geometry_loss(turned, frozen)) == pytest.approx(0, abs=1e-6)
    assert float(geometry_loss(shifted, normalize(torch.cat([frozen, torch.zeros(6, 1)], 1), dim=-1))) > 0
    assert float(geometry_loss(2**0.5 * shifted, frozen)) == pytest.approx(0, abs=1e-6)


def test_rejected_items_and_those_no_frozen_backbone_reads_count_for_nothing():
    embeddings, frozen = unit(6, 3, seed=0), unit(6, 4, seed=1)
    without = float(geometry_loss(embeddings[:4], frozen[:4]))
    embeddings[4], frozen[5] = 0, 0

    assert float(geometry_loss(embeddings, frozen)) == pytest.approx(without, abs=1e-6)
    assert float(geometry_loss(torch.zeros(0, 3), torch.zeros(0, 4))) == 0


def test_anchors_are_drawn_from_all_items_by_seed_epoch_and_batch(planted_source):
    data = TrainingData(packed(planted_source), batch_size=64, seed=3)

    drawn = data.anchors(1, 2, number=10)

    assert drawn.tolist() == data.anchors(1, 2, number=10).tolist() == sorted(set(drawn.tolist()))
    assert drawn.tolist() != data.anchors(1, 3, number=10).tolist()
    assert data.anchors(0, 0, number=10**6).tolist() == list(range(len(data.items)))
    assert len(data.anchors(0, 0, number=0)) == 0


def test_the_frozen_geometry_is_the_pooled_content_of_unit_norm(planted_source):
    from tests.alignment.planted_pairs import planted_encoder

    content = ItemContent(planted_encoder(), PackedItems(packed(planted_source)), cache_bytes=10**8)

    found = content.frozen_geometry(np.array([5, 1]))

    raw = content.items.columns(np.array([5, 1]))["precomputed"]
    expected = normalize(torch.tensor(np.stack(raw)), dim=-1)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    assert content.frozen_geometry(np.array([], dtype=np.int64)).shape[0] == 0
