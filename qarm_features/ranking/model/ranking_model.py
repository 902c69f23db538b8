"""The reference ranking model, composed of item features and readings.

In: a ``RankingBatch``. Out: one logit per row. Target items, behaviors and impressions share the tables. The behavior
sequence is read by target attention (DIN), as a mean and as a count. Every further reading is a switch of ``RankingConfig``.

Source: QARM, arXiv 2411.11739, section 3.3; EM3, arXiv 2404.06078; DIN, arXiv 1706.06978, section 4.
"""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin, constants, hf_hub_download
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from qarm_features.ranking.data.item_features import ItemFeatures
from qarm_features.ranking.data.ranking_batch import COLUMNS_OF_FIELD, RankingBatch
from qarm_features.ranking.model.content_id_loss import content_id_loss
from qarm_features.ranking.model.item_representation import ItemRepresentation
from qarm_features.ranking.model.parts import CODES, INPUT_ORDER, ITEM_ARRAYS, item_features_of, needs_of, readings_of
from qarm_features.ranking.model.ranking_config import RankingConfig
from qarm_features.ranking.model.user_history import UserHistory
from qarm_features.ranking.modules.codebook_version import CodebookVersioned
from qarm_features.ranking.modules.content_id_contrastive import ContentIDProjections
from qarm_features.ranking.modules.frozen_vector import scaled_vectors
from qarm_features.ranking.modules.looked_up import LookedUp
from qarm_features.ranking.modules.ranking_input import ItemCounts, Rows


class Losses(NamedTuple):
    """The losses of a batch.

    Attributes:
        total: () float32, log_loss + content_id_weight * content_id, which training minimizes.
        log_loss: () float32, nats per row.
        content_id: () float32, the Content-ID-Contrastive loss; 0 for a model without it.
    """

    total: Tensor
    log_loss: Tensor
    content_id: Tensor


class RankingModel(CodebookVersioned, PyTorchModelHubMixin):
    """Scores (target item, user) pairs.

    Args:
        switches: Fields of ``RankingConfig``: switches and sizes.

    Attributes:
        config: Configuration of the model.
        items: Item features, whose outputs stand side by side as the representation of an item.
        history: Readings of the user and the target.
        needs: Names of all that item features and readings read.
        item_features: Features of items beside IDs and codes; None until ``set_item_features``.

    Raises:
        ValueError: If ``RankingConfig`` refuses the switches, or an input is not registered.

    Example:
        >>> import torch
        >>> model = RankingModel(num_items=3, num_levels=2, codebook_size=4, hidden_dims=[8])
        >>> behaviors = torch.tensor([[1, 2], [3, 0]])
        >>> batch = RankingBatch(
        ...     item_index=torch.tensor([3, 1]), item_codes=torch.tensor([[0, 1], [2, 3]]),
        ...     behavior_index=behaviors, behavior_codes=torch.zeros(2, 2, 2, dtype=torch.int64),
        ...     behavior_mask=behaviors > 0, label=torch.tensor([1.0, 0.0]), user_group=torch.tensor([7, 8]),
        ... )
        >>> model(batch).shape
        torch.Size([2])
    """

    train_positives: Tensor  # (num_items + 1,) int64
    train_impressions: Tensor  # (num_items + 1,) int64
    positive_rate: Tensor  # () float32

    def __init__(self, **switches: Any) -> None:
        super().__init__(switches.get("codebook_version"))
        self.config = config = RankingConfig(**switches)
        self._hub_mixin_config = asdict(config)  # includes the defaults, so that they are saved as they are now
        self.item_features: ItemFeatures | None = None
        self.items = ItemRepresentation(config, item_features_of(config))
        readings = readings_of(config, dim=self.items.output_dim, content_dim=self.items.content_dim)
        self.history = UserHistory(readings, order=INPUT_ORDER)
        self.needs = needs_of([*self.items.features.values(), *readings.values()])
        width = self.items.output_dim + self.history.output_dim
        self.mlp = _mlp([width, *config.hidden_dims], dropout=config.dropout)
        self.linear = _zeros(width) if config.use_linear else None
        self.vector_linear = None
        if config.use_linear and self.items.vector is not None:
            self.vector_linear = _zeros(self.items.vector.looked_up_dim)
        self.content_id_projections = None
        if config.content_id_weight and config.content_id_dim is not None:
            self.content_id_projections = ContentIDProjections(
                content_dim=self.items.content_dim, item_dim=config.item_dim, dim=config.content_id_dim
            )
        # Counts of the training rows by item index: slices of metrics, cold_below and smoothed rates read them.
        self.register_buffer("train_positives", torch.zeros(config.num_items + 1, dtype=torch.int64))
        self.register_buffer("train_impressions", torch.zeros(config.num_items + 1, dtype=torch.int64))
        self.register_buffer("positive_rate", torch.tensor(0.5))

    @property
    def optional_fields(self) -> tuple[str, ...]:
        """The optional fields of a batch that the model reads, in the order of ``RankingBatch``."""
        return tuple(name for name in COLUMNS_OF_FIELD if name in self.needs)

    @property
    def reads_codes(self) -> bool:
        """True for a model that reads codes."""
        return not self.needs.isdisjoint(CODES)

    @property
    def reads_item_features(self) -> bool:
        """True for a model that reads what is known of items beside their IDs and codes."""
        return not self.needs.isdisjoint(ITEM_ARRAYS)

    def set_item_features(self, features: ItemFeatures) -> None:
        """Gives the model what it reads of items beside IDs and codes; this is not saved with the weights.

        Args:
            features: Features of at least the items whose index a batch may hold.

        Raises:
            ValueError: If they lack what the model reads.
        """
        config = self.config
        features.check(
            nearest_items=self.items.nearest_items is not None,
            vector_dim=config.vector_dim if self.items.vector is not None else None,
            token_dims=config.token_dims if self.items.fusion is not None else None,
        )
        missing = [name for name in ITEM_ARRAYS if name in self.needs and getattr(features, name) is None]
        if features.fused is not None and self.items.fusion is not None:
            missing = [name for name in missing if name != "content"]
        if missing:
            raise ValueError(f"The item features lack {', '.join(missing)}, which the model's inputs read.")
        self.item_features = features
        self.items.center_vectors(features)

    def set_item_counts(self, positives: np.ndarray | Tensor, impressions: np.ndarray | Tensor) -> None:
        """Sets how often each item was liked and shown in the training rows.

        Args:
            positives: (num_items + 1,) int64 by item index.
            impressions: (num_items + 1,) int64 by item index.
        """
        self.train_positives.copy_(torch.as_tensor(positives))
        self.train_impressions.copy_(torch.as_tensor(impressions))
        total, liked = int(self.train_impressions.sum()), int(self.train_positives.sum())
        self.positive_rate.fill_((liked + 1) / (total + 2))

    def check_codebook_version(self, version: int) -> None:
        """Refuses codes of another codebook than the model was trained on. A model without codes takes any version.

        Args:
            version: Codebook version of a batch, from 0.

        Raises:
            ValueError: If it is not the model's version, or the model reads codes and has no version.
        """
        if self.reads_codes:
            super().check_codebook_version(version)

    def forward(self, batch: RankingBatch) -> Tensor:
        """Scores B rows.

        The label is read only in training and only with use_item_rates, which leaves a row out of its own item's rate.

        Args:
            batch: Item fields of B rows; user fields of B rows, or of one row if all B rows are of one user.

        Returns:
            (B,) float32 logits.

        Raises:
            ValueError: If the batch or the item features lack something that the model reads.
        """
        return self._score(batch, self._look_up(batch))

    def losses(self, batch: RankingBatch) -> Losses:
        """Scores B labeled rows and returns the losses.

        Args:
            batch: B rows with their labels.
        """
        assert batch.label is not None, "a loss needs labels"
        known = self._look_up(batch)
        log_loss = binary_cross_entropy_with_logits(self._score(batch, known), batch.label)
        content_id = torch.zeros_like(log_loss)
        if self.config.content_id_weight:
            content_id = content_id_loss(
                self.config,
                self.items,
                self.content_id_projections,
                batch.item_index,
                known[0],
                train_positives=self.train_positives,
            )
        return Losses(log_loss + self.config.content_id_weight * content_id, log_loss, content_id)

    def item_embedding(self, item_index: Tensor, item_codes: Tensor) -> Tensor:
        """Represents items.

        Args:
            item_index: (...) int64, at least 0.
            item_codes: (..., L) int64 in [-1, K).

        Returns:
            (..., D) float32.
        """
        (known,) = self.items.look_up([item_index], self.item_features)
        return self.items(item_index, item_codes, known)

    def linear_weights(self) -> list[Tensor]:
        """Returns the weights of the linear parts of the logit that read numbers, not those that read a vector."""
        own: list[Tensor] = [] if self.linear is None else [self.linear.weight]
        return own + self.history.linear_weights()

    @torch.no_grad()
    def fuse_all(self, *, chunk_items: int = 1024) -> None:
        """Fuses the content of all items once and keeps it in the item features, for scoring in eval mode.

        Args:
            chunk_items: Number of items that are fused at a time, at least 1.
        """
        fusion, features = self.items.fusion, self.item_features
        if fusion is None:
            return
        assert features is not None, "a model with a fusion has item features"
        content, content_rows = features.content_and_rows()
        features.fused, was_training = None, self.training
        self.eval()
        chunks = np.array_split(content_rows, max(1, len(content_rows) // chunk_items))
        fused = torch.cat([fusion(content, rows) for rows in chunks])
        fused[0] = 0.0
        features.fused = fused
        self.train(was_training)

    def _check(self, batch: RankingBatch) -> None:
        """Refuses a batch without what the model reads, and, on a CPU, one that holds the future."""
        for name in self.optional_fields:
            if getattr(batch, name) is None:
                raise ValueError(
                    f"The batch has no {name}, which the model reads. "
                    "Read training rows that have its columns: qarm build-training-set"
                )
        ages = ("behavior_age", "impression_age")
        reads_ages = self.config.use_ages or not self.needs.isdisjoint(ages)
        if not reads_ages or batch.behavior_mask.device.type != "cpu" or torch.compiler.is_compiling():
            return
        for name in ages:
            age = getattr(batch, name)
            if age is not None and age.numel() and bool((age < 0).any()):
                raise ValueError(
                    f"{name} holds {float(age.min())}, must be at least 0. "
                    "Leave out behaviors and impressions that are later than the row."
                )

    def _look_up(self, batch: RankingBatch) -> list[LookedUp]:
        """Returns what is looked up of targets, behaviors and, if a reading needs them, impressions."""
        self._check(batch)
        indexes = [batch.item_index, batch.behavior_index.masked_fill(~batch.behavior_mask, 0)]
        if (
            batch.impression_index is not None
            and batch.impression_mask is not None
            and "impression_index" in self.needs
        ):
            indexes.append(batch.impression_index.masked_fill(~batch.impression_mask, 0))
        return self.items.look_up(indexes, self.item_features)

    def _score(self, batch: RankingBatch, looked_up: list[LookedUp]) -> Tensor:
        target = self.items(batch.item_index, batch.item_codes, looked_up[0])
        counts = ItemCounts(self.train_positives, self.train_impressions, self.positive_rate)
        history, linear = self.history(Rows(batch, target, looked_up, counts, represent=self.items))
        inputs = torch.cat([target, history], dim=1)
        logit = self.mlp(inputs).squeeze(1) + linear
        if self.linear is not None:
            logit = logit + self.linear(inputs).squeeze(1)
        if self.vector_linear is not None:
            logit = logit + self.vector_linear(scaled_vectors(looked_up[0].of("vector"))).squeeze(1)
        return logit

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, map_location: str = "cpu", strict: bool = True, **kwargs: Any
    ) -> "RankingModel":
        """Loads safetensors only. The method of the mixin would fall back to a pickle and ignore missing weights."""
        hub = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        hub_arguments = {name: kwargs.pop(name) for name in hub}
        if Path(model_id).is_dir():
            file = Path(model_id) / constants.SAFETENSORS_SINGLE_FILE
            if not file.exists():
                raise FileNotFoundError(
                    f"{model_id} has no {file.name}, and pickles are not loaded. "
                    "Write the weights with RankingModel.save_pretrained."
                )
        else:
            file = hf_hub_download(model_id, constants.SAFETENSORS_SINGLE_FILE, **hub_arguments)
        return cls._load_as_safetensor(cls(**kwargs), str(file), map_location, strict)


def _zeros(width: int) -> nn.Linear:
    linear = nn.Linear(width, 1, bias=False)
    nn.init.zeros_(linear.weight)  # starts without influence on the logit
    return linear


def _mlp(dims: Sequence[int], *, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Dropout(dropout)]
    for fan_in, fan_out in pairwise(dims):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(dims[-1], 1))
