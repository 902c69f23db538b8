"""ContentFusion encodes each distinct row of the store once: values and gradients are those of encoding every item."""

import numpy as np
import torch

from qarm_features.ranking import TokensInMemory
from qarm_features.ranking.modules.content_fusion import ContentFusion


def some_store() -> TokensInMemory:
    """Five rows of up to three tokens; row 2 has none."""
    mask = torch.tensor([[True, True, False]] * 2 + [[False] * 3] + [[True] * 3] * 2)
    values = torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(0))
    return TokensInMemory({"text": (values, mask)})


def test_items_of_one_row_have_one_embedding_and_train_it_as_two_rows_with_equal_tokens_do():
    torch.manual_seed(0)
    fusion = ContentFusion({"text": 6}, dim=4, num_queries=2, num_layers=1, num_heads=2)
    torch.nn.init.normal_(fusion.q_former.head.weight)
    rows, weight = np.array([4, -1, 0, 4, 2, 0, 4]), torch.randn(7, 4)

    fused = fusion(some_store(), rows)

    one_by_one = torch.cat([fusion(some_store(), rows[[place]]) for place in range(len(rows))])
    torch.testing.assert_close(fused, one_by_one)
    assert not fused[[1, 4]].any() and torch.equal(fused[0], fused[6])
    found, expected = (
        torch.autograd.grad((one * weight).sum(), list(fusion.parameters())) for one in (fused, one_by_one)
    )
    torch.testing.assert_close(found, expected)


def test_items_without_any_content_are_zeros():
    fusion = ContentFusion({"text": 6}, dim=4, num_queries=2, num_layers=1, num_heads=2)

    assert fusion(some_store(), np.array([-1, -1])).tolist() == [[0.0] * 4] * 2
    assert fusion(some_store(), np.array([2, 2])).tolist() == [[0.0] * 4] * 2
