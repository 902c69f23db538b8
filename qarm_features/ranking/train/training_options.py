"""How a ranking model is trained: the numbers :func:`~qarm_features.ranking.train_ranking_model` takes."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainingOptions:
    """How a ranking model is trained.

    Args:
        epochs: at most this many passes over the training rows.
        batch_size: B of one process.
        learning_rate: of AdamW, above 0.
        weight_decay: of AdamW, at least 0; embedding tables, vectors and linear parts of a few numbers have none.
        patience: stop after this many epochs without a better valid metric.
        stop_metric: of the valid rows, the one whose best epoch is kept: "auc" or "user_auc".
        seed: of the initial weights, the shuffle and the dropout.
        behavior_length: T, the latest behaviors read.
        max_items: item ids with a row of their own, the most frequent; None for all of the training split.
        shuffle_rows: size of the shuffle buffer of one reading process in rows; 0 keeps the order of the files.
        num_workers: reading processes beside each training process; 0 reads in the training process.
        num_threads: CPU threads of one training process.
        use_gpu: whether to compute on a GPU where there is one.
        impression_length: T2, the latest labeled impressions read; None for behavior_length.

    Raises:
        ValueError: if a number is out of its range or stop_metric is unknown.
    """

    epochs: int = 10
    batch_size: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    patience: int = 2
    stop_metric: Literal["auc", "user_auc"] = "auc"
    seed: int = 0
    behavior_length: int = 50
    max_items: int | None = None
    shuffle_rows: int = 65_536
    num_workers: int = 0
    num_threads: int = 2
    use_gpu: bool = True
    impression_length: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "behavior_length", "num_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1.")
        for name in ("weight_decay", "shuffle_rows", "num_workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 0.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}, must be above 0.")
        if self.stop_metric not in ("auc", "user_auc"):
            raise ValueError(f'stop_metric is "{self.stop_metric}", must be "auc" or "user_auc".')
