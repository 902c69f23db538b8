"""Four random rows with every field, the item features that they need, and one configuration per switch."""

import numpy as np
import torch

from qarm_features.ranking import ItemFeatures, RankingBatch, TokensInMemory

CONFIG = {"num_items": 9, "num_levels": 2, "codebook_size": 4, "codebook_version": 3, "item_dim": 6, "code_dim": 5}
CONTENT = {"content_dim": 8, "num_heads": 2, "num_queries": 2}
VECTOR = {"use_frozen_vector": True, "vector_dim": 3}
FUSION = {"use_fusion": True, "token_dims": {"text": 4, "image": 3}, **CONTENT}
SWITCHES = {
    "item IDs": {"use_semantic_ids": False},
    "semantic IDs": {"use_item_ids": False},
    "prefixes": {"use_semantic_ids": False, "use_prefixes": True},
    "nearest items": {"use_nearest_items": True},
    "nearest items, shared": {"use_nearest_items": True, "share_nearest_items": True},
    "frozen vector": VECTOR,
    "fusion": FUSION,
    "fusion alone": {"use_item_ids": False, "use_semantic_ids": False, **FUSION},
    "match": {"use_match": True},
    "match, ages": {"use_match": True, "use_ages": True},
    "history": {"use_history": True},
    "history, ages": {"use_history": True, "use_ages": True},
    "counters": {"use_counters": True},
    "content match": {**VECTOR, "use_content_match": True, "use_history": True},
    "content match of fused content": {**FUSION, "use_content_match": True},
    "item rates, linear": {**VECTOR, "use_item_rates": True, "use_linear": True},
    "numbers of the history": {"use_history_vectors": False, "use_history": True, "use_match": True, "use_ages": True},
    "content interest": {**FUSION, "use_content_interest": True},
    "content interest of vectors": {**VECTOR, **CONTENT, "use_content_interest": True, "interest_rank": None},
    "content-ID loss": {**FUSION, "content_id_weight": 0.5, "new_items_from_content": True},
    "content-ID loss, projected": {
        **FUSION,
        "content_id_weight": 0.001,
        "content_id_dim": 8,
        "content_id_stop_gradient": "content",
        "content_id_negatives": 16,
    },
    "all": {
        "use_prefixes": True,
        "use_nearest_items": True,
        "use_match": True,
        "use_ages": True,
        "use_history": True,
        "use_counters": True,
        "use_content_interest": True,
        "use_content_match": True,
        "use_item_rates": True,
        "use_linear": True,
        "content_id_weight": 0.1,
        "new_items_from_content": True,
        **VECTOR,
        **FUSION,
    },
}


def random_rows(batch: int = 4, length: int = 5) -> RankingBatch:
    """Rows of items 0 to 11, of which 10 and 11 are beyond the vocabulary; the last user has no history."""
    torch.manual_seed(0)
    known = torch.tensor([length, 2, 3, 0])[:batch]
    mask = torch.arange(length) < known.unsqueeze(1)
    behavior_codes = torch.randint(-1, 2, (batch, length, 2))
    behavior_codes[0, :3] = torch.tensor([1, 0])  # more than one match of the first row
    return RankingBatch(
        item_index=torch.tensor([3, 10, 5, 1])[:batch],
        item_codes=torch.tensor([[1, 0], [-1, -1], [2, 3], [0, 1]])[:batch],
        behavior_index=torch.randint(0, 12, (batch, length)),
        behavior_codes=behavior_codes,
        behavior_mask=mask,
        label=torch.tensor([1.0, 0.0, 0.0, 1.0])[:batch],
        user_group=torch.arange(batch),
        behavior_age=torch.rand(batch, length) * 30 * mask,
        impression_index=torch.randint(0, 12, (batch, length)),
        impression_codes=torch.randint(-1, 2, (batch, length, 2)),
        impression_label=torch.randint(0, 2, (batch, length)),
        impression_age=torch.rand(batch, length) * 30,
        impression_mask=mask,
        counters=torch.randint(0, 50, (batch, 2)).repeat_interleave(2, dim=1) * torch.tensor([1.0, 3.0, 1.0, 3.0]),
    )


def item_features(num_items: int = 11) -> ItemFeatures:
    """Features of items 1 to 11; item 11 has no content, item 4 no image, item 3 no nearest items."""
    generator = np.random.default_rng(0)
    nearest = generator.integers(0, num_items + 1, (num_items + 1, 3))
    nearest[3] = 0
    text, image = generator.normal(size=(num_items, 6, 4)), generator.normal(size=(num_items, 2, 3))
    text_mask, image_mask = generator.random((num_items, 6)) < 0.7, np.ones((num_items, 2), bool)
    text_mask[:, 0], image_mask[4] = True, False
    vectors = generator.normal(size=(num_items + 1, 3)).astype(np.float32)
    vectors[[0, 11]] = 0
    return ItemFeatures(
        nearest_items=nearest,
        nearest_distances=generator.random((num_items + 1, 3)),
        vectors=vectors,
        content=TokensInMemory(
            {name: tuple(map(torch.from_numpy, pair)) for name, pair in
             {"text": (text, text_mask), "image": (image, image_mask)}.items()}
        ),
        content_rows=np.array([-1, *range(num_items - 1), -1]),
    )  # fmt: skip
