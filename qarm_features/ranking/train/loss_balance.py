"""How strongly the Content-ID-Contrastive loss pulls at the table of item IDs, beside the loss that ranks.

In: a model and a batch. Out: a number. Above 1 the table follows content more than clicks.
"""

import torch

from qarm_features.ranking.data.ranking_batch import RankingBatch
from qarm_features.ranking.model.ranking_model import RankingModel


def id_gradient_ratio(model: RankingModel, batch: RankingBatch) -> float:
    """Divides the L2 norms of two gradients on the table of item IDs.

    They are that of the Content-ID-Contrastive loss, times its weight, and that of the log loss. The model and torch's random
    numbers stay as they are.

    Args:
        model: Model with item IDs and content_id_weight above 0.
        batch: B rows with their labels, on the device of the model.

    Returns:
        The ratio, at least 0: 0 where the loss is 0 or does not train the table, infinite where only the log loss does not
        train it.
    """
    item_ids = model.items.item_ids
    assert item_ids is not None, "content_id_weight needs use_item_ids"
    devices = [batch.item_index.device] if batch.item_index.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        losses = model.losses(batch)
        weighted = model.config.content_id_weight * losses.content_id
        norms = []
        for loss in (weighted, losses.log_loss):
            gradient = None
            if loss.requires_grad:
                (gradient,) = torch.autograd.grad(loss, [item_ids.weight], retain_graph=True, allow_unused=True)
            norms.append(0.0 if gradient is None else float(torch.linalg.vector_norm(gradient)))
    ours, other = norms
    return ours / other if other else (float("inf") if ours else 0.0)
