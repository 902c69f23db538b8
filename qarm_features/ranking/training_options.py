"""How a ranking model is trained: the numbers :func:`~qarm_features.ranking.train_ranking_model` takes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingOptions:
    """How a ranking model is trained.

    Args:
        epochs: at most this many passes over the training rows.
        batch_size: B of one process.
        learning_rate: of AdamW, above 0.
        weight_decay: of AdamW, at least 0; embedding tables have none, most of their rows are not in a batch.
        patience: stop after this many epochs without a better valid AUC.
        seed: of the initial weights, the shuffle and the dropout.
        behavior_length: T, the latest behaviours read.
        max_items: item ids with a row of their own, the most frequent; None for all of the training split.
        shuffle_rows: size of the shuffle buffer of one reading process in rows; 0 keeps the order of the files.
        num_workers: reading processes beside each training process; 0 reads in the training process.
        num_threads: CPU threads of one training process.
        use_gpu: whether to compute on a GPU where there is one.

    Raises:
        ValueError: if a number is out of its range.
    """

    epochs: int = 10
    batch_size: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    patience: int = 2
    seed: int = 0
    behavior_length: int = 50
    max_items: int | None = None
    shuffle_rows: int = 65_536
    num_workers: int = 0
    num_threads: int = 2
    use_gpu: bool = True

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "behavior_length", "num_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1.")
        for name in ("weight_decay", "shuffle_rows", "num_workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 0.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}, must be above 0.")
