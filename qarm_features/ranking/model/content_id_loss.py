"""The Content-ID-Contrastive loss of a batch: over its distinct target items that have both an ID embedding and content.

In: target items (B,) and what was looked up of them. Out: a scalar.

Source: EM3, arXiv 2404.06078, Content-ID-Contrastive loss.
"""

import torch
from torch import Tensor

from qarm_features.ranking.model.item_representation import ItemRepresentation
from qarm_features.ranking.model.ranking_config import RankingConfig
from qarm_features.ranking.modules.content_id_contrastive import (
    ContentIDProjections,
    content_id_contrastive_loss,
    popularity_weights,
)
from qarm_features.ranking.modules.looked_up import LookedUp, distinct


def content_id_loss(
    config: RankingConfig,
    items: ItemRepresentation,
    projections: ContentIDProjections | None,
    item_index: Tensor,
    looked_up: LookedUp,
    *,
    train_positives: Tensor,
) -> Tensor:
    """Compares the content of distinct items with their ID embeddings.

    Args:
        config: Configuration of the model, with the options ``content_id_...``.
        items: Item features, with item IDs and content.
        projections: Projections of both sides; None maps content to the width of the item IDs.
        item_index: (B,) int64 target items.
        looked_up: What was looked up of the target items.
        train_positives: (num_items + 1,) int64 counts of the training rows, which tell cold items.

    Returns:
        () float32.
    """
    item_ids = items.item_ids
    assert item_ids is not None, "content_id_weight needs use_item_ids"
    item, inverse = distinct(item_index)
    row = torch.zeros_like(item).scatter_(0, inverse, looked_up.rows)
    content = looked_up.unique_content[row]
    both = (item > 0) & (item <= config.num_items) & (content != 0).any(dim=1)
    item, content = item[both], content[both]
    weight = popularity_weights(
        train_positives[item],
        cold_below=config.cold_below,
        popular_weight=config.popular_weight,
        cold_weight=config.cold_weight,
    )
    ids = item_ids(item)
    if config.content_id_stop_gradient == "content":
        content = content.detach()  # before its map, which has to train
    elif config.content_id_stop_gradient == "item_id":
        ids = ids.detach()
    if projections is None:
        content = items.content_as_id(content)
    else:
        content, ids = projections(content, ids)
    return content_id_contrastive_loss(
        content,
        ids,
        temperature=config.content_id_temperature,
        weight=weight,
        num_negatives=config.content_id_negatives,
    )
