"""One training step: the gradient of a global batch of pairs, and what AdamW makes of it.

In: a batch of item indexes, the same in every process. Out: changed weights, the same in every process and, up to
rounding, the same whatever the number of processes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from qarm_features.alignment.gathering import gather_rows, sum_gradients
from qarm_features.alignment.gradient_cache import cached_gradients
from qarm_features.alignment.item_content import ItemContent
from qarm_features.alignment.known_pairs import KnownPairs
from qarm_features.alignment.loss import LogPopularity, bounded_temperature, contrastive_loss, false_negatives
from qarm_features.alignment.options import AlignmentOptions
from qarm_features.alignment.training_data import PairBatch, TrainingData
from qarm_features.torch_processes import Processes

LOG_TEMPERATURE = "log_temperature"
_FLOOR = 0.01  # share of the highest learning rate at the end of the cosine


def encode_items_of(content: ItemContent, index: np.ndarray) -> Tensor:
    """Encodes B items, in bfloat16 on a GPU, and returns (B, D) float32; all 0 where an item is rejected."""
    device = next(content.encoder.parameters()).device
    with torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext():
        return content.encode(index).float()


def pair_loss(
    trigger: Tensor,
    target: Tensor,
    batch: PairBatch,
    log_temperature: Tensor,
    *,
    data: TrainingData,
    known: KnownPairs,
    options: AlignmentOptions,
) -> Tensor:
    """Computes the contrastive loss of a batch in float32; pairs with a rejected item, all 0, are left out.

    Args:
        trigger: (B, D).
        target: (B, D).
        batch: the B pairs.
        log_temperature: of shape ().
        data: the training data, for the popularity.
        known: pairs that are no negatives.
        options: how to train.
    """
    device = trigger.device
    embedded = trigger.detach().any(1) & target.detach().any(1)
    weight = torch.from_numpy(batch.weight).to(device) ** options.weight_power * embedded
    popularity = None
    if options.popularity_correction:
        by_side = zip(data.log_popularity, (batch.trigger_index, batch.target_index))
        popularity = LogPopularity(*(torch.from_numpy(log[index]).to(device) for log, index in by_side))
    marks = false_negatives(batch.trigger_index, batch.target_index, known)
    return contrastive_loss(
        trigger,
        target,
        temperature=bounded_temperature(log_temperature),
        false_negatives=torch.from_numpy(marks).to(device),
        log_popularity=popularity,
        weight=weight,
    )


def view_loss(first: Tensor, second: Tensor, log_temperature: Tensor) -> Tensor:
    """Computes the contrastive loss of items with themselves under another augmentation.

    Pairs of items that users like together are alike in faint ways: a backbone that starts from nothing would rather
    make all items equal. Telling an item from the others by its own look keeps it from that.

    Args:
        first: (V, D) unit L2 norm; all 0 where an item is rejected.
        second: (V, D) of the same items.
        log_temperature: of shape ().

    Source: SLIP, arXiv 2112.12750.
    """
    weight = (first.detach().any(1) & second.detach().any(1)).float()
    return contrastive_loss(first, second, temperature=bounded_temperature(log_temperature), weight=weight)


def geometry_loss(embeddings: Tensor, frozen: Tensor) -> Tensor:
    """Computes how far the cosines of items are from those of the frozen backbones: the variance of the difference.

    Pairs teach nothing of items that are in none; without this term they drift wherever the others pull the weights. A
    shift of all cosines costs nothing: frozen backbones crowd into a cone, which alignment shall open.

    Args:
        embeddings: (A, D) unit L2 norm; all 0 where an item is rejected.
        frozen: (A, D) unit L2 norm; all 0 where no frozen backbone reads the item.
    """
    known = embeddings.detach().any(1) & frozen.any(1)
    both = (known[:, None] & known[None]).fill_diagonal_(False)
    count = both.sum().clamp(min=1)
    difference = (embeddings @ embeddings.T - frozen @ frozen.T) * both
    return (difference**2).sum() / count - (difference.sum() / count) ** 2


def add_gradients(
    content: ItemContent,
    batch: PairBatch,
    anchors: np.ndarray,
    weights: Mapping[str, nn.Parameter],
    *,
    data: TrainingData,
    options: AlignmentOptions,
    processes: Processes,
) -> float:
    """Gives the weights the gradient of a global batch, of which this process encodes its share, and returns the loss.

    Args:
        content: the encoder and the items' content.
        batch: the global batch; a trigger or target that stands in a share repeatedly is encoded once.
        anchors: (A,) items of the whole catalog whose geometry is kept near that of the frozen backbones.
        weights: all that learn, by name, among them ``log_temperature``.
        data: where the batch is from.
        options: how to train.
        processes: those that take part.
    """
    share = batch.share(processes.rank, processes.world_size)
    begin, end = (len(anchors) * rank // processes.world_size for rank in (processes.rank, processes.rank + 1))
    anchors = anchors[begin:end]
    stacked = np.concatenate([share.trigger_index, share.target_index, anchors])
    index, places = np.unique(stacked, return_inverse=True)
    rows = torch.from_numpy(places).to(processes.device)
    number, uniques = len(share.weight), len(index)
    # Rows of the items that are encoded a second time, under another augmentation: the order of the batch is random.
    again = np.unique(places[: options.num_views // processes.world_size]) if options.view_weight else places[:0]
    index = np.concatenate([index, index[again]])
    size = options.micro_batch_size
    frozen = gather_rows(content.frozen_geometry(anchors), processes) if options.geometry_weight else None

    def loss_of(embeddings: Tensor) -> Tensor:
        ends = embeddings[rows].split([number, number, len(anchors)])
        trigger, target, anchor = (gather_rows(part, processes) for part in ends)
        loss = pair_loss(trigger, target, batch, weights[LOG_TEMPERATURE], data=data, known=data.known, options=options)
        if len(again):
            views = (gather_rows(view, processes) for view in (embeddings[again], embeddings[uniques:]))
            loss = loss + options.view_weight * view_loss(*views, weights[LOG_TEMPERATURE])
        return loss if frozen is None else loss + options.geometry_weight * geometry_loss(anchor, frozen)

    loss = cached_gradients(
        lambda part: encode_items_of(content, part),
        [index[start : start + size] for start in range(0, max(len(index), 1), size)],
        loss_of,
        device=processes.device,
    )
    # Every process has the whole gradient of the temperature, but only its share of the others.
    if weights[LOG_TEMPERATURE].grad is not None:
        weights[LOG_TEMPERATURE].grad /= processes.world_size
    sum_gradients(weights.values(), processes)
    if not math.isfinite(float(loss)):
        raise ValueError(f"train loss is {float(loss)}, must be finite. Lower learning_rate or raise temperature.")
    return float(loss)


def learning_weights(encoder: nn.Module, temperature: float, device: torch.device) -> dict[str, nn.Parameter]:
    """Returns all that learns, by name: the encoder's weights that need a gradient, and ``log_temperature``."""
    weights = {name: weight for name, weight in encoder.named_parameters() if weight.requires_grad}
    return weights | {LOG_TEMPERATURE: nn.Parameter(torch.tensor(math.log(temperature), device=device))}


def adamw(weights: Mapping[str, nn.Parameter], options: AlignmentOptions) -> AdamW:
    """Returns the optimizer; vectors, queries and embeddings have no weight decay."""
    plain = {name for name, weight in weights.items() if weight.ndim < 2 or name.endswith(("queries", "_embedding"))}
    groups = [
        {"params": [w for name, w in weights.items() if name not in plain], "weight_decay": options.weight_decay},
        {"params": [w for name, w in weights.items() if name in plain], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=options.learning_rate)


def learning_rate(step: int, num_steps: int, options: AlignmentOptions) -> float:
    """Returns the learning rate of a step in [0, num_steps): linear from 0 up, then a cosine down."""
    warmup = round(num_steps * options.warmup_share)
    if step < warmup:
        return options.learning_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(num_steps - warmup, 1)
    return options.learning_rate * (_FLOOR + (1 - _FLOOR) * (1 + math.cos(math.pi * progress)) / 2)
