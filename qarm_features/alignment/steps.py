"""Compute one training step: the gradient of a global batch of pairs, and the optimizer with its learning rate.

In: a batch of item indexes, the same in every process. Out: gradients and weights that are the same in every process and, up
to rounding, do not depend on the number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from qarm_features.alignment.gathering import gather_rows, sum_gradients
from qarm_features.alignment.gradient_cache import cached_gradients
from qarm_features.alignment.item_content import ItemContent
from qarm_features.alignment.loss import (
    LogPopularity,
    UniformNegatives,
    bounded_temperature,
    contrastive_loss,
    false_negatives,
    no_negatives_of,
)
from qarm_features.alignment.options import AlignmentOptions
from qarm_features.alignment.residual_codes import ResidualCodes, code_loss
from qarm_features.alignment.training_data import PairBatch, TrainingData
from qarm_features.settings.sections import Precision
from qarm_features.torch_processes import Processes

LOG_TEMPERATURE = "log_temperature"
_FLOOR = 0.01  # learning rate at the end of the cosine, as a share of the highest one


def encode_content(content: ItemContent, index: np.ndarray, precision: Precision | None = None) -> Tensor:
    """Encode B items.

    Args:
        content: Encoder and content of the items.
        index: Item indexes (B,) int64.
        precision: Precision of matrix products; None is bfloat16 on a GPU and float32 on a CPU.

    Returns:
        Embeddings (B, D) float32; 0 for a rejected item.
    """
    device = content.encoder.device
    reduced = precision == "bfloat16" or (precision is None and device.type == "cuda")
    with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
        return content.encode(index).float()


def pair_loss(
    trigger: Tensor,
    target: Tensor,
    batch: PairBatch,
    log_temperature: Tensor,
    *,
    data: TrainingData,
    options: AlignmentOptions,
    drawn: tuple[np.ndarray, Tensor] | None = None,
) -> Tensor:
    """Compute the contrastive loss of a batch in float32, without pairs that have a rejected item.

    Args:
        trigger: Embeddings (B, D) of trigger items, of unit L2 norm; 0 for a rejected item.
        target: Embeddings (B, D) of target items, of unit L2 norm; 0 for a rejected item.
        batch: The B pairs.
        log_temperature: Natural logarithm of the temperature, of shape ().
        data: Packed training data, which holds the popularity of the items and the pairs that are not used as negatives.
        options: Options of the training run.
        drawn: Indexes (A,) and embeddings (A, D) of items of the whole catalog that are negatives as well; None for none.

    Returns:
        The loss, of shape (), in nats.
    """
    device = trigger.device
    embedded = trigger.detach().any(1) & target.detach().any(1)
    weight = torch.from_numpy(batch.weight).to(device) ** options.weight_power * embedded

    def popularity_of(trigger_index: np.ndarray, target_index: np.ndarray) -> LogPopularity | None:
        if not options.popularity_correction:
            return None
        log_trigger, log_target = data.log_popularity
        ends = log_trigger[trigger_index], log_target[target_index]
        return LogPopularity(*(torch.from_numpy(end).to(device) for end in ends))

    popularity, uniform = popularity_of(batch.trigger_index, batch.target_index), None
    if drawn is not None:
        index, embeddings = drawn
        of_trigger = no_negatives_of(batch.trigger_index, index, batch.target_index, data.known)
        of_target = no_negatives_of(batch.target_index, index, batch.trigger_index, data.known)
        uniform = UniformNegatives(
            embeddings,
            torch.from_numpy(of_trigger).to(device),
            torch.from_numpy(of_target).to(device),
            num_items=len(data.items),
            log_popularity=popularity_of(index, index),
        )
    marks = false_negatives(batch.trigger_index, batch.target_index, data.known)
    return contrastive_loss(
        trigger,
        target,
        temperature=bounded_temperature(log_temperature),
        false_negatives=torch.from_numpy(marks).to(device),
        log_popularity=popularity,
        popularity_power=options.popularity_power if popularity is not None else None,
        weight=weight,
        uniform=uniform,
    )


def view_loss(first: Tensor, second: Tensor, log_temperature: Tensor) -> Tensor:
    """Compute the contrastive loss between two augmentations of the same items.

    The items of a pair resemble each other only weakly. A backbone that is trained from scratch on pairs alone can collapse:
    all items get nearly the same embedding. This loss prevents it, because it requires that the encoder distinguishes items.

    Args:
        first: Embeddings (V, D) under one augmentation, of unit L2 norm; 0 for a rejected item.
        second: Embeddings (V, D) of the same items under another augmentation.
        log_temperature: Natural logarithm of the temperature, of shape ().

    Returns:
        The loss, of shape (), in nats.

    Source: SLIP, arXiv 2112.12750.
    """
    weight = (first.detach().any(1) & second.detach().any(1)).float()
    return contrastive_loss(first, second, temperature=bounded_temperature(log_temperature), weight=weight)


def geometry_loss(embeddings: Tensor, frozen: Tensor) -> Tensor:
    """Compute the variance of the difference between cosines of items and their cosines in the frozen backbones.

    Items without a pair get no training signal from pairs, so their embeddings would change at random with the weights. This
    loss preserves their neighbors. It ignores a shift that is the same for all cosines, because the embeddings of frozen
    backbones lie in a narrow cone and alignment should spread them.

    Args:
        embeddings: Embeddings (A, D) of unit L2 norm; 0 for a rejected item.
        frozen: Mean tokens (A, D) of the frozen backbones, of unit L2 norm; 0 for an item that no frozen backbone reads.

    Returns:
        The loss, of shape (), at least 0.
    """
    is_valid = embeddings.detach().any(1) & frozen.any(1)
    valid_pairs = (is_valid[:, None] & is_valid[None]).fill_diagonal_(False)
    count = valid_pairs.sum().clamp(min=1)
    difference = (embeddings @ embeddings.T - frozen @ frozen.T) * valid_pairs
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
    codes: ResidualCodes | None = None,
) -> float:
    """Add the gradient of a global batch to the weights; each process encodes its share of the batch.

    Args:
        content: Encoder and content of the items.
        batch: Global batch; an item that occurs several times in a share is encoded once.
        anchors: Indexes (A,) of items of the whole catalog, whose cosines are kept near those of the frozen backbones with
            ``geometry_weight``, and which are negatives with ``uniform_negatives``.
        weights: Trained weights by name, with ``log_temperature`` among them; their ``grad`` is changed in place.
        data: Packed training data.
        options: Options of the training run.
        processes: Processes that train together.
        codes: Residual codes, to which all these items are pulled with ``code_weight``.

    Returns:
        The loss of the global batch.

    Raises:
        ValueError: The loss is not finite.
    """
    share = batch.share(processes.rank, processes.world_size)
    begin, end = (len(anchors) * rank // processes.world_size for rank in (processes.rank, processes.rank + 1))
    drawn, anchors = anchors, anchors[begin:end]
    stacked = np.concatenate([share.trigger_index, share.target_index, anchors])
    index, places = np.unique(stacked, return_inverse=True)
    rows = torch.from_numpy(places).to(processes.device)
    number, uniques = len(share.weight), len(index)
    # These items are encoded a second time, under another augmentation. The order of the batch is random, so the first
    # items of a batch are a random sample.
    again = np.unique(places[: options.num_views // processes.world_size]) if options.view_weight else places[:0]
    index = np.concatenate([index, index[again]])
    size = options.micro_batch_size
    frozen = gather_rows(content.frozen_geometry(anchors), processes) if options.geometry_weight else None

    def compute_loss(embeddings: Tensor) -> Tensor:
        ends = embeddings[rows].split([number, number, len(anchors)])
        trigger, target, anchor = (gather_rows(part, processes) for part in ends)
        more = (drawn, anchor) if options.uniform_negatives else None
        loss = pair_loss(trigger, target, batch, weights[LOG_TEMPERATURE], data=data, options=options, drawn=more)
        if len(again):
            first, second = (gather_rows(view, processes) for view in (embeddings[again], embeddings[uniques:]))
            loss = loss + options.view_weight * view_loss(first, second, weights[LOG_TEMPERATURE])
        if options.code_weight and codes is not None:
            everything = np.concatenate([batch.trigger_index, batch.target_index, drawn])
            loss = loss + options.code_weight * code_loss(torch.cat([trigger, target, anchor]), everything, codes)
        return loss if frozen is None else loss + options.geometry_weight * geometry_loss(anchor, frozen)

    loss = cached_gradients(
        lambda part: encode_content(content, part, options.precision),
        [index[start : start + size] for start in range(0, max(len(index), 1), size)],
        compute_loss,
        device=processes.device,
        step_bytes=options.step_bytes,
    )
    # Each process has the whole gradient of the temperature, but only its share of the gradients of all other weights.
    temperature_gradient = weights[LOG_TEMPERATURE].grad
    if temperature_gradient is not None:
        temperature_gradient /= processes.world_size
    sum_gradients(weights.values(), processes)
    if not math.isfinite(float(loss)):
        raise ValueError(f"train loss is {float(loss)}, must be finite. Lower learning_rate or raise temperature.")
    return float(loss)


def learning_weights(encoder: nn.Module, temperature: float, device: torch.device) -> dict[str, nn.Parameter]:
    """Return the trained weights by name: the weights of the encoder that need a gradient, and ``log_temperature``.

    Args:
        encoder: Encoder that is trained.
        temperature: Initial temperature, above 0.
        device: Device of the temperature.

    Returns:
        Weights by name.
    """
    weights = {name: weight for name, weight in encoder.named_parameters() if weight.requires_grad}
    return weights | {LOG_TEMPERATURE: nn.Parameter(torch.tensor(math.log(temperature), device=device))}


def adamw(weights: Mapping[str, nn.Parameter], *, learning_rate: float, weight_decay: float) -> AdamW:
    """Return an AdamW optimizer; vectors, queries and modality embeddings have no weight decay.

    Args:
        weights: Trained weights by name.
        learning_rate: Highest learning rate, above 0.
        weight_decay: Weight decay of matrices, at least 0.

    Returns:
        The optimizer.
    """
    plain = {name for name, weight in weights.items() if weight.ndim < 2 or name.endswith(("queries", "_embedding"))}
    groups = [
        {
            "params": [weight for name, weight in weights.items() if name not in plain],
            "weight_decay": weight_decay,
        },
        {"params": [weight for name, weight in weights.items() if name in plain], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=learning_rate)


def scheduled_learning_rate(step: int, num_steps: int, *, highest: float, warmup_share: float) -> float:
    """Return the learning rate of a step: it rises linearly from 0, then falls by a cosine.

    Args:
        step: Number of the step, in [0, num_steps).
        num_steps: Number of steps of the whole training run.
        highest: Highest learning rate, above 0.
        warmup_share: Share of all steps over which the learning rate rises, in [0, 1).

    Returns:
        The learning rate, above 0.
    """
    warmup = round(num_steps * warmup_share)
    if step < warmup:
        return highest * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(num_steps - warmup, 1)
    return highest * (_FLOOR + (1 - _FLOOR) * (1 + math.cos(math.pi * progress)) / 2)
