"""How an item encoder is aligned: the numbers :func:`~qarm_features.alignment.align` takes."""

from dataclasses import dataclass

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 1.0


@dataclass(frozen=True)
class AlignmentOptions:
    """How an item encoder is aligned.

    Args:
        batch_size: B, pairs in a batch over all processes, at least 2; the others of the batch are negatives.
        micro_batch_size: items encoded at once; memory follows this, not batch_size.
        epochs: at most this many passes over the training pairs.
        patience: stop after this many epochs without a better held-out result.
        learning_rate: the highest one, of AdamW, above 0.
        warmup_share: share of all steps over which the learning rate rises from 0, in [0, 1); then it falls by a cosine.
        weight_decay: of AdamW, at least 0; norms, biases, queries, modality embeddings and the temperature have none.
        max_grad_norm: gradients are scaled down to this L2 norm, above 0.
        temperature: the first one of the contrastive loss, in [0.01, 1]; it is learnt within these bounds.
        popularity_correction: whether to subtract the log-probability of an item as a negative from its logit.
        geometry_weight: of the term that keeps cosines of any items near those of the frozen backbones, at least 0.
        num_anchors: items of the whole data per batch that this term looks at, at least 2.
        view_weight: of the term that draws an item to itself under another augmentation, at least 0: keeps a backbone
            that is trained from nothing from making all items equal. An encoder of frozen backbones needs none.
        num_views: items of a batch that this term encodes a second time, over all processes, at least 2.
        weight_power: a pair counts in the loss with its weight to this power; 0: all pairs alike.
        num_candidates: items, drawn by seed, among which a held-out target is looked for.
        max_valid_pairs: held-out pairs used, drawn by seed.
        cache_bytes: memory of a process for what is computed once of an item: tokens of frozen backbones.
        checkpoint_steps: steps between checkpoints within an epoch; every epoch ends with one anyway.
        seed: of the initial weights, the order of the pairs and the dropout.
        num_threads: CPU threads of one process.
        use_gpu: whether to compute on a GPU where there is one, in bfloat16 with a float32 loss.

    Raises:
        ValueError: if a number is out of its range.
    """

    batch_size: int = 2048
    micro_batch_size: int = 512
    epochs: int = 12
    patience: int = 3
    learning_rate: float = 2e-3
    warmup_share: float = 0.05
    weight_decay: float = 0.05
    max_grad_norm: float = 1.0
    temperature: float = 0.07
    popularity_correction: bool = True
    geometry_weight: float = 0.0
    num_anchors: int = 512
    view_weight: float = 0.0
    num_views: int = 512
    weight_power: float = 0.0
    num_candidates: int = 10_000
    max_valid_pairs: int = 10_000
    cache_bytes: int = 2_000_000_000
    checkpoint_steps: int = 500
    seed: int = 0
    num_threads: int = 2
    use_gpu: bool = True

    def __post_init__(self) -> None:
        lowest = {
            "batch_size": 2, "micro_batch_size": 1, "epochs": 1, "patience": 1, "num_candidates": 1,
            "max_valid_pairs": 1, "checkpoint_steps": 1, "num_threads": 1, "weight_decay": 0, "weight_power": 0,
            "geometry_weight": 0, "num_anchors": 2, "view_weight": 0, "num_views": 2,
            "cache_bytes": 0, "seed": 0,
        }  # fmt: skip
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least {least}.")
        for name in ("learning_rate", "max_grad_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be above 0.")
        if not 0 <= self.warmup_share < 1:
            raise ValueError(f"warmup_share is {self.warmup_share}, must be at least 0 and below 1.")
        if not LOWEST_TEMPERATURE <= self.temperature <= HIGHEST_TEMPERATURE:
            raise ValueError(
                f"temperature is {self.temperature}, must be from {LOWEST_TEMPERATURE} to {HIGHEST_TEMPERATURE}."
            )
