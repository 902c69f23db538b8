"""What a ranking request is scored from: plain tensors, or what a reader of the feature store serves.

In: nothing. Out: the types that `Scorer` takes; ``SemanticIDReader`` of the feature store returns the like.
"""

from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor


class Behavior(NamedTuple):
    """The behavior of one user, the latest item last; ``BehaviorCodes`` of a ``SemanticIDReader`` will do as well.

    Attributes:
        item_ids: (1, T) array of item ids of the catalog's type.
        codes: (1, T, L) int64, -1 = missing.
        mask: (1, T) bool, False = padding, at the end.
        codebook_version: of the codes.
        timestamps: (1, T) int64, seconds since 1970; read by models with use_ages.
    """

    item_ids: np.ndarray
    codes: Tensor
    mask: Tensor
    codebook_version: int
    timestamps: Tensor | None = None


class Impressions(NamedTuple):
    """What one user was shown, the latest item last; ``ImpressionCodes`` of a ``SemanticIDReader`` will do as well.

    Attributes:
        item_ids: (1, T2) array of item ids of the catalog's type.
        codes: (1, T2, L) int64, -1 = missing.
        labels: (1, T2) int64, 0 or 1.
        mask: (1, T2) bool, False = padding, at the end.
        codebook_version: of the codes.
        timestamps: (1, T2) int64, seconds since 1970; read by models with use_ages.
    """

    item_ids: np.ndarray
    codes: Tensor
    labels: Tensor
    mask: Tensor
    codebook_version: int
    timestamps: Tensor | None = None


class Candidates(NamedTuple):
    """The codes of candidates; ``ItemCodes`` of a ``SemanticIDReader`` will do as well.

    Attributes:
        codes: (B, L) int64, -1 = missing.
        codebook_version: of the codes.
    """

    codes: Tensor
    codebook_version: int


class Reader(Protocol):
    """What reads features for a request: a ``SemanticIDReader``."""

    def user_and_candidates(self, user_id, candidate_ids, *, max_length: int | None = None, max_impressions: int = 0):
        """Returns an object with ``behavior`` and ``candidates``, and where impressions are asked for ``impressions`` and
        ``counters`` (B, 4)."""
