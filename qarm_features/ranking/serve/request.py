"""The types of a ranking request: the codes of one user's behavior and of the candidates to score.

In: nothing. Out: the types that ``Scorer`` takes and that ``SemanticIDReader`` of the feature store returns. They can also
be built by hand from plain tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor


class Behavior(NamedTuple):
    """Behavior sequences of B users with their codes. The latest item stands last, padding stands at the end.

    A ranking request has one user: B = 1.

    Attributes:
        item_ids: (B, T) array of item IDs of the catalog's type, undefined where ``mask`` is False.
        codes: (B, T, L) int64, -1 where an item has no semantic ID and where ``mask`` is False.
        mask: (B, T) bool, True where a behavior stands. T is the longest sequence of the batch.
        codebook_version: Codebook version of all codes.
        timestamps: (B, T) int64, seconds since 1970 at which each behavior happened, 0 where ``mask`` is False. Models
            with ``use_ages`` read it. A reader always sets it.

    Example:
        >>> import numpy as np, torch
        >>> ids, mask = np.array([[50, 181]]), torch.tensor([[True, True]])
        >>> behavior = Behavior(item_ids=ids, codes=torch.tensor([[[3, 0], [3, 7]]]), mask=mask, codebook_version=0)
        >>> behavior.codes.shape
        torch.Size([1, 2, 2])
    """

    item_ids: np.ndarray
    codes: Tensor
    mask: Tensor
    codebook_version: int
    timestamps: Tensor | None = None


class Impressions(NamedTuple):
    """Items that one user was shown, with either label. The latest item stands last, padding stands at the end.

    Attributes:
        item_ids: (1, T2) array of item IDs of the catalog's type.
        codes: (1, T2, L) int64, -1 where an item has no semantic ID.
        labels: (1, T2) int64, 1 = positive, 0 = negative.
        mask: (1, T2) bool, True where an impression stands. A reader returns a mask without padding.
        codebook_version: Codebook version of all codes.
        timestamps: (1, T2) int64, seconds since 1970 at which each item was shown. Models with ``use_ages`` read it. A
            reader always sets it.

    Example:
        >>> import numpy as np, torch
        >>> ids, codes = np.array([[50, 181]]), torch.tensor([[[3, 0], [3, 7]]])
        >>> labels, mask = torch.tensor([[1, 0]]), torch.tensor([[True, True]])
        >>> Impressions(item_ids=ids, codes=codes, labels=labels, mask=mask, codebook_version=0).labels.sum()
        tensor(1)
    """

    item_ids: np.ndarray
    codes: Tensor
    labels: Tensor
    mask: Tensor
    codebook_version: int
    timestamps: Tensor | None = None


class Candidates(NamedTuple):
    """Codes of B items, such as the candidates of a request.

    Attributes:
        codes: (B, L) int64, -1 on every level of an item that was not found.
        found: (B,) bool, True where the item has a semantic ID.
        codebook_version: Codebook version of all codes.
        codebook_fingerprint: Fingerprint of these codebooks; None if unknown.

    Example:
        >>> import torch
        >>> candidates = Candidates.from_codes(torch.tensor([[3, 0], [-1, -1]]), codebook_version=0)
        >>> candidates.found
        tensor([ True, False])
    """

    codes: Tensor
    found: Tensor
    codebook_version: int
    codebook_fingerprint: str | None = None

    @classmethod
    def from_codes(cls, codes: Tensor, codebook_version: int) -> Candidates:
        """Build candidates by hand: an item is found where none of its codes is -1.

        Args:
            codes: (B, L) int64, -1 on every level of an item without a semantic ID.
            codebook_version: Codebook version of the codes.
        """
        return cls(codes=codes, found=(codes >= 0).all(dim=1), codebook_version=codebook_version)


class UserAndCandidates(NamedTuple):
    """All that a ranking request reads from the feature store, for one user and B candidates, of one release.

    Attributes:
        behavior: Behavior sequence of the user.
        candidates: Codes of the candidates.
        impressions: Items that the user was shown; None if impressions were not asked for.
        counters: (B, 4) float32 per candidate, None if impressions were not asked for: positives and impressions of the
            user, then positives and impressions of the item. An unknown number is 0.
    """

    behavior: Behavior
    candidates: Candidates
    impressions: Impressions | None = None
    counters: Tensor | None = None


class Reader(Protocol):
    """A source of the features of a request, such as ``SemanticIDReader``."""

    def user_and_candidates(
        self,
        user_id: int | str,
        candidate_ids: Sequence[int] | Sequence[str] | np.ndarray,
        *,
        max_length: int | None = None,
        max_impressions: int = 0,
    ) -> UserAndCandidates:
        """Read the behavior of one user and the codes of B candidates.

        Args:
            user_id: User ID of the click log's type.
            candidate_ids: B item IDs.
            max_length: Number of latest behaviors to read; None reads all.
            max_impressions: Number of latest impressions to read. 0 reads neither impressions nor counters.
        """
        ...
