"""The options of training: the numbers that ``train_ranking_model`` and ``fit`` take.

In: numbers. Out: ``TrainingOptions`` that have been checked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SPARSE_FROM = 1_000_000


@dataclass(frozen=True)
class TrainingOptions:
    """Holds the options of training a ranking model.

    The defaults are those of the section ``ranking`` of qarm.yaml; a test compares them.

    Args:
        epochs: Largest number of passes over the training rows, at least 1.
        batch_size: B of one process, at least 1.
        learning_rate: Learning rate of AdamW, above 0.
        weight_decay: Weight decay of AdamW, at least 0. Embedding tables, one-dimensional weights and linear parts of a few
            numbers have none.
        patience: Number of epochs without a better valid metric after which training stops, at least 1.
        stop_metric: Metric of the valid rows whose best epoch is kept: "auc" or "user_auc".
        seed: Seed of the first weights, the shuffle and the dropout.
        behavior_length: T, the number of latest behaviors that are read, at least 1.
        max_items: Number of item IDs with an embedding, the most frequent ones; None for all of the training split.
        shuffle_rows: Size of the shuffle buffer of one reading process in rows; 0 keeps the order of the files.
        num_workers: Number of reading processes beside each training process; 0 reads in the training process.
        num_threads: Number of CPU threads of one training process, at least 1.
        use_gpu: True to compute on a GPU if there is one.
        part_learning_rates: Learning rates by the name of an item feature or a reading, above 0, instead of learning_rate,
            for example {"fusion": 5e-4, "interest": 5e-4, "content_match": 5e-4}. A part that the model lacks is left out.
        warm_up_steps: Number of first steps over which all learning rates rise linearly from 0, at least 0.
        impression_length: T2, the number of latest labeled impressions that are read; None for behavior_length.
        sparse_ids: True to update in each batch only the rows of the item IDs that it names, by SparseAdam; False to update
            all rows, by AdamW, which takes time in proportion to the catalog; None updates only these rows from
            ``SPARSE_FROM`` item IDs on, where one process trains.

    Raises:
        ValueError: If a number is out of its range or stop_metric is unknown.

    Example:
        >>> TrainingOptions(epochs=3).learning_rate
        0.002
    """

    epochs: int = 10
    batch_size: int = 1024
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
    part_learning_rates: Mapping[str, float] | None = None
    warm_up_steps: int = 0
    sparse_ids: bool | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "behavior_length", "num_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1.")
        for name in ("weight_decay", "shuffle_rows", "num_workers", "warm_up_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 0.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}, must be above 0.")
        for name, rate in (self.part_learning_rates or {}).items():
            if not rate > 0:
                raise ValueError(f"part_learning_rates of {name} is {rate}, must be above 0.")
        if self.stop_metric not in ("auc", "user_auc"):
            raise ValueError(f'stop_metric is "{self.stop_metric}", must be "auc" or "user_auc".')
