"""Match features: the behaviors that share the target's code prefix, counted and pooled per prefix depth.

In: target codes (B, L), behavior codes (B, T, L), mask (B, T). Out: features (B, F) and pooled (B, L, D) float32.

Source: QARM, arXiv 2411.11739, section 3.3.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.ranking.modules.masked_softmax import masked_softmax
from qarm_features.ranking.modules.ranking_input import SECONDS_PER_DAY, Reading, Rows

LONGEST_AGE = 365 * 24 * 3600.0  # seconds; a match of this age has a recency of 0


class BehaviorMatches(NamedTuple):
    """Match features.

    Attributes:
        features: (B, F) float32, depth 1's features first.
        pooled: (B, L, D) float32, the matching behaviors pooled per depth; D = 0 without ``dim``.

    Example:
        >>> matches = BehaviorMatch(1)(torch.tensor([[3]]), torch.tensor([[[3], [5]]]), torch.tensor([[True, True]]))
        >>> matches.pooled.shape
        torch.Size([1, 1, 0])
    """

    features: Tensor
    pooled: Tensor


class BehaviorMatch(nn.Module):
    """Describes the behaviors that share the target's first 1, 2, ..., L codes.

    The features per depth are log1p of the number of matches, their share of the behaviors, and the recency of the latest
    match in [0, 1], which is 0 without a match. With ``use_labels``, log1p of the number of positive matches and their rate
    follow; the rate is smoothed toward the user's own. Recency is 1 / (1 + number of later behaviors); with ``use_ages`` it
    is 1 - log1p(age) / log1p(one year), at least 0.

    Args:
        num_levels: L, at least 1.
        use_ages: True if ``forward`` takes ages.
        use_labels: True if ``forward`` takes labels.
        dim: D of the behavior embeddings to pool, at least 1; None pools nothing.
        smoothing: Number of behaviors at the user's own rate that are added to each rate, above 0.

    Raises:
        ValueError: If num_levels or dim is below 1 or smoothing is not above 0.

    Example:
        >>> target, behaviors = torch.tensor([[3, 0]]), torch.tensor([[[3, 0], [3, 7], [5, 0]]])
        >>> matches = BehaviorMatch(2)(target, behaviors, torch.ones(1, 3, dtype=torch.bool))
        >>> matches.features.expm1()[0, [0, 3]].round()  # number of matches at depths 1 and 2
        tensor([2., 1.])

    Source: QARM, arXiv 2411.11739, section 3.3.
    """

    def __init__(
        self,
        num_levels: int,
        *,
        use_ages: bool = False,
        use_labels: bool = False,
        dim: int | None = None,
        smoothing: float = 1.0,
    ) -> None:
        super().__init__()
        for name, size in {"num_levels": num_levels, "dim": dim}.items():
            if size is not None and size < 1:
                raise ValueError(f"{name} is {size}, must be at least 1.")
        if not smoothing > 0:
            raise ValueError(f"smoothing is {smoothing}, must be above 0.")
        self.num_levels, self.use_ages, self.use_labels = num_levels, use_ages, use_labels
        self.dim, self.smoothing = dim, smoothing
        self.num_features = num_levels * (5 if use_labels else 3)
        if dim is not None:
            self.query = nn.Parameter(torch.zeros(num_levels, dim))  # zero: starts as the mean of the matches

    def forward(
        self,
        target_codes: Tensor,
        behavior_codes: Tensor,
        mask: Tensor,
        *,
        age: Tensor | None = None,
        label: Tensor | None = None,
        behavior: Tensor | None = None,
    ) -> BehaviorMatches:
        """Matches behaviors with the target.

        Args:
            target_codes: (B, L) int64, -1 = missing. A missing code matches nothing.
            behavior_codes: (B, T, L) int64, most recent last.
            mask: (B, T) bool, True where there is a behavior.
            age: (B, T) float32 seconds, at least 0; given exactly with use_ages.
            label: (B, T) float32 in {0, 1}; given exactly with use_labels.
            behavior: (B, T, D) float32, finite also where masked; given exactly with dim.

        Returns:
            Features (B, F) and pooled behaviors (B, L, D); exactly 0 for a user without behaviors.

        Raises:
            ValueError: If an input is missing or superfluous, the codes do not have L levels or, on a CPU, an age is
                below 0.
        """
        self._check(target_codes, behavior_codes, given={"age": age, "label": label, "behavior": behavior})
        match = prefix_match(target_codes, behavior_codes) & mask.unsqueeze(2)  # (B, T, L)
        count = match.sum(dim=1).float()  # (B, L)
        length = mask.sum(dim=1, keepdim=True)  # (B, 1)
        if age is None:
            recency = 1 / (1 + length - mask.cumsum(dim=1)).float()
        else:
            recency = _recency_of_age(age.masked_fill(~mask, LONGEST_AGE))
        # One more column, of zeros: the maximum over no behaviors is not defined.
        recency = functional.pad(recency.unsqueeze(2) * match, (0, 0, 1, 0)).amax(dim=1)
        parts = [count.log1p(), count / length.clamp(min=1), recency]
        if label is not None:
            label = label.float().masked_fill(~mask, 0)
            user_rate = label.sum(dim=1, keepdim=True) / length.clamp(min=1)
            positives = torch.einsum("btl,bt->bl", match.float(), label)
            parts += [positives.log1p(), (positives + self.smoothing * user_rate) / (count + self.smoothing)]
        return BehaviorMatches(torch.stack(parts, dim=2).flatten(1), self._pool(match, behavior))

    def _pool(self, match: Tensor, behavior: Tensor | None) -> Tensor:
        if behavior is None:
            return match.new_zeros(len(match), self.num_levels, 0, dtype=torch.float32)
        score = behavior @ self.query.T / math.sqrt(behavior.shape[2])  # (B, T, L)
        return torch.einsum("btl,btd->bld", masked_softmax(score, match, dim=1), behavior)

    def _check(self, target_codes: Tensor, behavior_codes: Tensor, *, given: dict[str, Tensor | None]) -> None:
        wanted = {"age": self.use_ages, "label": self.use_labels, "behavior": self.dim is not None}
        options = {"age": "use_ages", "label": "use_labels", "behavior": "dim"}
        for name, tensor in given.items():
            if (tensor is not None) != wanted[name]:
                is_, must = ("missing", "given") if wanted[name] else ("given", "left out")
                raise ValueError(f"{name} is {is_}, must be {must}. Build BehaviorMatch with another {options[name]}.")
        for name, codes in {"target_codes": target_codes, "behavior_codes": behavior_codes}.items():
            if codes.shape[-1] != self.num_levels:
                raise ValueError(
                    f"{name} have {codes.shape[-1]} levels, must have num_levels = {self.num_levels}. "
                    "Build BehaviorMatch with the codebooks' number of levels."
                )


class BehaviorMatchReading(Reading, BehaviorMatch):
    """Reads the match features of the behaviors, and the matching behaviors pooled per depth.

    Args:
        num_levels: L, at least 1.
        use_ages: True if recency is told from the ages of the behaviors.
        dim: D of an item's representation; None pools nothing.
    """

    def __init__(self, num_levels: int, *, use_ages: bool, dim: int | None) -> None:
        super().__init__(num_levels, use_ages=use_ages, dim=dim)
        self.output_dim = self.num_features + num_levels * (dim or 0)
        ages = {"behavior_age"} if use_ages else set()
        self.needs = frozenset({"item_codes", "behavior_codes"} | ages)

    def read(self, rows: Rows) -> Tensor:
        """Matches behaviors with the target, (B, F + L*D) float32."""
        batch = rows.batch
        age = rows.field("behavior_age") * SECONDS_PER_DAY if self.use_ages else None
        behavior = None if self.dim is None else rows.behavior
        matches = self(batch.item_codes, batch.behavior_codes, batch.behavior_mask, age=age, behavior=behavior)
        return torch.cat([matches.features, matches.pooled.flatten(1)], dim=1)


class ImpressionMatchReading(Reading, BehaviorMatch):
    """Reads the match features of the labeled impressions.

    Args:
        num_levels: L, at least 1.
        use_ages: True if recency is told from the ages of the impressions.
    """

    def __init__(self, num_levels: int, *, use_ages: bool) -> None:
        super().__init__(num_levels, use_ages=use_ages, use_labels=True)
        self.output_dim = self.num_features
        ages = {"impression_age"} if use_ages else set()
        self.needs = frozenset({"item_codes", "impression_codes", "impression_label", "impression_mask"} | ages)

    def read(self, rows: Rows) -> Tensor:
        """Matches impressions with the target, (B, F) float32."""
        mask, label = rows.field("impression_mask"), rows.field("impression_label")
        age = rows.field("impression_age") * SECONDS_PER_DAY if self.use_ages else None
        return self(rows.batch.item_codes, rows.field("impression_codes"), mask, age=age, label=label).features


def prefix_match(target_codes: Tensor, behavior_codes: Tensor) -> Tensor:
    """Finds the behaviors that share the target's first 1, 2, ..., L codes.

    Args:
        target_codes: (B, L) int64, -1 = missing.
        behavior_codes: (B, T, L) int64, -1 = missing.

    Returns:
        (B, T, L) bool; level l is True where codes 0 to l are equal and none is missing.
    """
    equal = (behavior_codes == target_codes.unsqueeze(1)) & (behavior_codes >= 0)
    return equal.to(torch.int8).cumprod(dim=2).bool()


def _recency_of_age(age: Tensor) -> Tensor:
    if age.device.type == "cpu" and not torch.compiler.is_compiling() and bool((age < 0).any()):
        raise ValueError(
            f"age holds {float(age.min())}, must be at least 0. Leave out behaviors that are later than the row."
        )
    return (1 - age.float().log1p() / math.log1p(LONGEST_AGE)).clamp(min=0)
