"""What a user did, seen from the target: every reading of behaviors, impressions and counters that the config names.

In: a batch, and the representations of its items. Out: inputs of the MLP (B, F) and a linear part of the logit (B,).
User-side tensors may have one row for all B targets: what does not depend on the target is computed once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qarm_features.ranking.data.batches import RankingBatch
from qarm_features.ranking.model.item_representation import LookedUp, content_cosines
from qarm_features.ranking.model.ranking_config import RankingConfig
from qarm_features.ranking.modules.behavior_match import BehaviorMatch
from qarm_features.ranking.modules.content_interest import ContentInterest
from qarm_features.ranking.modules.content_match import ContentMatch
from qarm_features.ranking.modules.history_features import Counters, LabeledHistory
from qarm_features.ranking.modules.target_attention import TargetAttention

_DAY = 86_400.0  # seconds


class UserHistory(nn.Module):
    """Reads the history of B rows.

    Args:
        config: of the ranking model.
        dim: D of an item's representation.
        content_dim: width of an item's content, as looked up.
    """

    def __init__(self, config: RankingConfig, dim: int, content_dim: int) -> None:
        super().__init__()
        self.config = config
        self.attention = self.match = self.impression_match = self.labelled = self.counters = self.interest = None
        self.content_match = self.impression_content_match = None
        self.output_dim = 1
        pooled_dim = dim if config.use_history_vectors else None
        if config.use_history_vectors:
            self.attention = TargetAttention(dim, hidden_dim=config.attention_dim)
            self.output_dim += 2 * dim
        if config.use_match:
            self.match = BehaviorMatch(config.num_levels, use_ages=config.use_ages, dim=pooled_dim)
            self.output_dim += self.match.num_features + config.num_levels * (pooled_dim or 0)
            if config.use_history:
                self.impression_match = BehaviorMatch(config.num_levels, use_ages=config.use_ages, use_labels=True)
                self.output_dim += self.impression_match.num_features
        if config.use_content_match:
            self.content_match = ContentMatch()
            self.output_dim += self.content_match.num_features
            if config.use_history:
                self.impression_content_match = ContentMatch(use_labels=True)
                self.output_dim += self.impression_content_match.num_features
        if config.use_history:
            self.labelled = LabeledHistory(
                dim, hidden_dim=config.attention_dim, use_ages=config.use_ages, attend=config.use_history_vectors
            )
            self.output_dim += self.labelled.output_dim
        if config.use_counters:
            self.counters = Counters()
            self.output_dim += self.counters.num_features
        if config.use_content_interest:
            self.interest = ContentInterest(
                content_dim, config.content_dim, num_heads=config.num_heads, rank=config.interest_rank
            )
            self.output_dim += config.content_dim

    def check(self, batch: RankingBatch) -> None:
        """Refuses a batch without what the switches read, and, on a CPU, one that holds the future.

        Raises:
            ValueError: in these cases.
        """
        config = self.config
        for name in config.optional_fields:
            if getattr(batch, name) is None:
                raise ValueError(
                    f"{name} of the batch is missing, must be given for the model's switches. "
                    "Read training rows that have its columns: qarm build-training-set"
                )
        if config.use_ages and batch.behavior_mask.device.type == "cpu" and not torch.compiler.is_compiling():
            for name in ("behavior_age", "impression_age"):
                age = getattr(batch, name)
                if age is not None and age.numel() and bool((age < 0).any()):
                    raise ValueError(
                        f"{name} holds {float(age.min())}, must be at least 0. "
                        "Leave out what is later than the row's own time."
                    )

    def forward(
        self,
        batch: RankingBatch,
        *,
        target: Tensor,
        behavior: Tensor | None,
        impression: Tensor | None,
        known: Sequence[LookedUp],
        positive_rate: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Reads the history; U is B, or 1 where one user's row stands for all.

        Args:
            batch: the codes, masks, labels, ages and counters.
            target: (B, D) float32.
            behavior: (U, T, D) float32 with use_history_vectors.
            impression: (U, T2, D) float32 with use_history and use_history_vectors.
            known: what is known of targets (B,), behaviors (U, T) and, with use_history, impressions (U, T2).
            positive_rate: () float32 in (0, 1).

        Returns:
            (B, F) float32 and the linear part of the logit, (B,) float32 or 0.
        """
        mask = batch.behavior_mask
        counted = mask.to(target.dtype)  # (U, T)
        length = counted.sum(dim=1, keepdim=True)  # (U, 1)
        parts = [length.log1p()]
        if self.attention is not None:
            mean = torch.einsum("bt,btd->bd", counted / length.clamp(min=1), behavior)
            parts += [self.attention(target, behavior, mask), mean]
        if self.match is not None:
            age = batch.behavior_age * _DAY if self.config.use_ages else None
            matches = self.match(batch.item_codes, batch.behavior_codes, mask, age=age, behavior=behavior)
            parts += [matches.features, matches.pooled.flatten(1)]
        if self.labelled is not None:
            parts += self._read_impressions(batch, target, impression)
        if self.content_match is not None:
            cosine, both = content_cosines(known[0], known[1])
            parts.append(self.content_match.of_cosines(cosine, both & mask, mask))
        if self.impression_content_match is not None:
            label, shown = batch.impression_label, batch.impression_mask
            cosine, both = content_cosines(known[0], known[2])
            parts.append(self.impression_content_match.of_cosines(cosine, both & shown, shown, label=label))
        if self.interest is not None:
            parts.append(self.interest(known[0].content, known[1].content, mask))
        linear = target.new_zeros(())
        if self.counters is not None:
            counters = self.counters(batch.counters, positive_rate)
            parts.append(counters.features)
            linear = counters.logit
        return torch.cat([part.expand(len(target), -1) for part in parts], dim=1), linear

    def _read_impressions(self, batch: RankingBatch, target: Tensor, impression: Tensor | None) -> list[Tensor]:
        label, mask = batch.impression_label, batch.impression_mask
        age = batch.impression_age if self.config.use_ages else None
        parts = [self.labelled(target, impression, label, mask, age=age)]
        if self.impression_match is not None:
            seconds = None if age is None else age * _DAY
            codes = batch.impression_codes
            parts.append(self.impression_match(batch.item_codes, codes, mask, age=seconds, label=label).features)
        return parts
