"""The nearness of the target to a user's past in content space, in so few numbers that they hardly overfit.

In: content of the target (B, D) and of the past (B, T, D), mask (B, T), with labels where they exist. Out: features (B, F)
float32. ``BehaviorMatch`` does the like with codes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.ranking.modules.looked_up import content_cosines
from qarm_features.ranking.modules.ranking_input import Reading, Rows

_FAR = 0.3  # cosine of the pseudo-behaviors


class ContentMatch(nn.Module):
    """Describes how similar the target is to a user's past, by cosine and by Gaussian-like kernels.

    The features are the mean cosine, the largest cosine, and for each sharpness s the log of the mean of
    exp(s (cosine - 1)). With ``use_labels`` there is one more feature for each sharpness: by how much the kernel-weighted
    positive rate exceeds the user's own. Pseudo-behaviors at a cosine of 0.3 pull this difference toward 0. A user or a
    target without content gets zeros.

    Args:
        use_labels: True if ``forward`` takes labels.
        sharpness: First values of s, each above 0; they are trained.
        smoothing: Number of pseudo-behaviors, above 0.

    Raises:
        ValueError: If sharpness is empty or not above 0, or smoothing is not above 0.

    Example:
        >>> past = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> features = ContentMatch()(torch.tensor([[1.0, 0.0]]), past, torch.ones(1, 2, dtype=torch.bool))
        >>> features[0, :2]  # mean and largest cosine
        tensor([0.5000, 1.0000], grad_fn=<SliceBackward0>)

    Source: Nadaraya-Watson kernel regression of the label on content.
    """

    def __init__(
        self, *, use_labels: bool = False, sharpness: Sequence[float] = (5.0, 10.0), smoothing: float = 3.0
    ) -> None:
        super().__init__()
        if not sharpness or min(sharpness) <= 0:
            raise ValueError(f"sharpness is {tuple(sharpness)}, must be one or more numbers above 0.")
        if not smoothing > 0:
            raise ValueError(f"smoothing is {smoothing}, must be above 0.")
        self.use_labels, self.smoothing = use_labels, smoothing
        self.log_sharpness = nn.Parameter(torch.tensor(list(sharpness)).log())
        self.num_features = 2 + len(sharpness) * (2 if use_labels else 1)

    def forward(self, target: Tensor, past: Tensor, mask: Tensor, *, label: Tensor | None = None) -> Tensor:
        """Compares the target with the past.

        Args:
            target: (B, D) float32 content of the target; zeros where it has none.
            past: (B or 1, T, D) float32 content of the past; zeros where an item has none.
            mask: (B or 1, T) bool, True where there is a behavior.
            label: (B or 1, T) in {0, 1}; given exactly with use_labels.

        Returns:
            (B, F) float32.

        Raises:
            ValueError: If label is missing or superfluous.
        """
        target, past = functional.normalize(target, dim=-1), functional.normalize(past, dim=-1)
        cosine = torch.einsum("bd,btd->bt", target, past.expand(len(target), -1, -1))
        seen = mask & past.any(dim=-1) & target.any(dim=-1, keepdim=True)
        return self.of_cosines(cosine, seen, mask, label=label)

    def of_cosines(self, cosine: Tensor, seen: Tensor, mask: Tensor, *, label: Tensor | None = None) -> Tensor:
        """Compares the target with the past by cosines that are known already.

        Args:
            cosine: (B, T) float32 of target and past.
            seen: (B, T) bool, True where there is a behavior and both have content.
            mask: (B or 1, T) bool, True where there is a behavior.
            label: (B or 1, T) in {0, 1}; given exactly with use_labels.

        Returns:
            (B, F) float32.

        Raises:
            ValueError: If label is missing or superfluous.
        """
        if (label is not None) != self.use_labels:
            is_, must = ("missing", "given") if self.use_labels else ("given", "left out")
            raise ValueError(f"label is {is_}, must be {must}. Build ContentMatch with another use_labels.")
        count = seen.sum(dim=1).clamp(min=1)  # (B,)
        kernel = (self.log_sharpness.exp() * (cosine.unsqueeze(2) - 1)).exp() * seen.unsqueeze(2)  # (B, T, S)
        mass = kernel.sum(dim=1)  # (B, S)
        nothing = ~seen.any(dim=1, keepdim=True)
        nearness = (mass / count.unsqueeze(1)).clamp(min=1e-8).log().masked_fill(nothing, 0)
        largest = functional.pad(cosine.masked_fill(~seen, -1), (0, 1), value=-1).amax(dim=1, keepdim=True)
        mean = (cosine * seen).sum(dim=1, keepdim=True) / count.unsqueeze(1)
        parts = [mean, largest.masked_fill(nothing, 0), nearness]
        if label is not None:
            parts.append(self._rate_above_own(kernel, mass, label.float() * mask, mask))
        return torch.cat(parts, dim=1)

    def _rate_above_own(self, kernel: Tensor, mass: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        own = label.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        above = torch.einsum("bts,bt->bs", kernel, ((label - own) * mask).expand(len(kernel), -1))
        pseudo = self.smoothing * (self.log_sharpness.exp() * (_FAR - 1)).exp()
        return above / (mass + pseudo)


class BehaviorContentMatch(Reading, ContentMatch):
    """Reads how near the target's content is to the content of the behaviors."""

    def __init__(self) -> None:
        super().__init__()
        self.output_dim = self.num_features

    def read(self, rows: Rows) -> Tensor:
        """Compares the content of targets and behaviors, (B, F) float32."""
        mask = rows.batch.behavior_mask
        cosine, both = content_cosines(rows.looked_up[0], rows.looked_up[1])
        return self.of_cosines(cosine, both & mask, mask)


class ImpressionContentMatch(Reading, ContentMatch):
    """Reads how near the target's content is to the content of the impressions, by label."""

    needs = frozenset({"impression_index", "impression_label", "impression_mask"})

    def __init__(self) -> None:
        super().__init__(use_labels=True)
        self.output_dim = self.num_features

    def read(self, rows: Rows) -> Tensor:
        """Compares the content of targets and impressions, (B, F) float32."""
        label, mask = rows.field("impression_label"), rows.field("impression_mask")
        cosine, both = content_cosines(rows.looked_up[0], rows.looked_up[2])
        return self.of_cosines(cosine, both & mask, mask, label=label)
