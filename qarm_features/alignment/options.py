"""Define the options of ``align`` with their defaults and ranges."""

from dataclasses import dataclass
from typing import get_args

from qarm_features.settings.sections import Alignment, Precision

_SECTION = Alignment()  # The settings hold the defaults of all options that they name.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 1.0


@dataclass(frozen=True)
class AlignmentOptions:
    """Hold the options of aligning an item encoder.

    Args:
        batch_size: B, number of pairs in a batch over all processes, at least 2; the other pairs of a batch are negatives.
        micro_batch_size: Number of items that are encoded at once, at least 1; together with ``step_bytes`` it bounds the
            memory, whatever the ``batch_size``.
        epochs: Greatest number of passes over the training pairs, at least 1.
        patience: Number of epochs without a better held-out result after which training stops, at least 1.
        learning_rate: Highest learning rate of AdamW, above 0.
        warmup_share: Share of all steps over which the learning rate rises from 0, in [0, 1); it then falls by a cosine.
        weight_decay: Weight decay of AdamW, at least 0; norms, biases, queries, modality embeddings and the temperature have
            none.
        max_grad_norm: Greatest L2 norm of the gradient, above 0; a longer gradient is scaled down.
        temperature: Initial temperature of the contrastive loss, in [0.01, 1]; it is learned within these bounds.
        popularity_correction: True to subtract the log-probability of an item as a negative from its logit.
        popularity_power: Power, in [0, 1], of this correction, which then spares the positive of a row; None corrects the
            positive as well.
        uniform_negatives: Approximate number of items of the whole catalog, drawn anew for each batch, that are negatives
            beside the items of the batch, at least 0; None is 0.
        geometry_weight: Weight of the loss that keeps cosines of items near those of the frozen backbones, at least 0.
        num_anchors: Number of items of the catalog on which this loss is computed in each batch, at least 2.
        code_weight: Weight of the squared distance of the items of a batch to what their residual codes of the start of the
            epoch decode to, at least 0; None is 0.
        view_weight: Weight of the contrastive loss between two augmentations of an item, at least 0. It prevents that a
            backbone trained from scratch collapses: that all items get nearly the same embedding. Frozen backbones need 0.
        num_views: Number of items of a batch that are encoded a second time for this loss, over all processes, at least 2.
        weight_power: Exponent of the weight of a pair in the loss, at least 0; 0 weights all pairs equally.
        num_candidates: Number of items, sampled by ``seed``, among which held-out target items are searched, at least 1.
        max_valid_pairs: Greatest number of held-out pairs, sampled by ``seed``, at least 1.
        cache_bytes: Memory of a process for tokens of frozen backbones and decoded values, in bytes, at least 0.
        step_bytes: Memory of a process for the intermediate results of a step, in bytes, at least 0; items beyond it are
            encoded twice in each step.
        checkpoint_steps: Number of steps between checkpoints within an epoch, at least 1; each epoch ends with one too.
        seed: Seed of the initial weights, the order of the pairs and the dropout, at least 0.
        num_threads: Number of CPU threads of one process, at least 1.
        use_gpu: True to compute on a GPU, if there is one.
        precision: Precision of matrix products, ``float32`` or ``bfloat16``; None is bfloat16 on a GPU and float32 on a CPU.
            The loss and the weights are float32 in any case.

    Raises:
        ValueError: A number is out of its range.

    Example:
        >>> AlignmentOptions(batch_size=256, view_weight=1.0).view_weight
        1.0
    """

    batch_size: int = _SECTION.batch_size
    micro_batch_size: int = _SECTION.micro_batch_size
    epochs: int = _SECTION.epochs
    patience: int = _SECTION.patience
    learning_rate: float = _SECTION.learning_rate
    warmup_share: float = 0.05
    weight_decay: float = _SECTION.weight_decay
    max_grad_norm: float = 1.0
    temperature: float = _SECTION.temperature
    popularity_correction: bool = _SECTION.popularity_correction
    popularity_power: float | None = _SECTION.popularity_power
    uniform_negatives: int | None = _SECTION.uniform_negatives
    geometry_weight: float = _SECTION.geometry_weight
    code_weight: float | None = _SECTION.code_weight
    num_anchors: int = 512
    view_weight: float = 0.0
    num_views: int = 512
    weight_power: float = 0.0
    num_candidates: int = 10_000
    max_valid_pairs: int = 10_000
    cache_bytes: int = _SECTION.cache_bytes
    step_bytes: int = _SECTION.step_bytes
    checkpoint_steps: int = 500
    seed: int = 0
    num_threads: int = 2
    use_gpu: bool = True
    precision: Precision | None = _SECTION.precision

    def __post_init__(self) -> None:
        lowest = {
            "batch_size": 2, "micro_batch_size": 1, "epochs": 1, "patience": 1, "num_candidates": 1,
            "max_valid_pairs": 1, "checkpoint_steps": 1, "num_threads": 1, "weight_decay": 0, "weight_power": 0,
            "geometry_weight": 0, "num_anchors": 2, "view_weight": 0, "num_views": 2,
            "cache_bytes": 0, "step_bytes": 0, "seed": 0,
        }  # fmt: skip
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least {least}.")
        for name in ("learning_rate", "max_grad_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be above 0.")
        if self.popularity_power is not None and not 0 <= self.popularity_power <= 1:
            raise ValueError(f"popularity_power is {self.popularity_power}, must be from 0 to 1.")
        if self.precision not in (None, *get_args(Precision)):
            raise ValueError(f"precision is {self.precision!r}, must be float32 or bfloat16, or None.")
        for name in ("uniform_negatives", "code_weight"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 0.")
        if not 0 <= self.warmup_share < 1:
            raise ValueError(f"warmup_share is {self.warmup_share}, must be at least 0 and below 1.")
        if not LOWEST_TEMPERATURE <= self.temperature <= HIGHEST_TEMPERATURE:
            raise ValueError(
                f"temperature is {self.temperature}, must be from {LOWEST_TEMPERATURE} to {HIGHEST_TEMPERATURE}."
            )
