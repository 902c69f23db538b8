"""How many items a reader was asked for, and how many of them the release lacked: the rate of unseen items at read time.

In: the batches that a reader returns. Out: two counters, for the metrics of the serving host.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from qarm_features.ranking.serve.request import Candidates, UserAndCandidates


class ReadCounts(NamedTuple):
    """Numbers since a reader was opened. Items that stand in behavior sequences are not counted.

    Attributes:
        items: Number of items that were asked for, each time it was asked for.
        not_found: Number of these without a semantic ID in the release.
    """

    items: int
    not_found: int

    @property
    def unseen_rate(self) -> float:
        """Share of the items that were not found, 0 before the first read."""
        return self.not_found / self.items if self.items else 0.0


class ReadCounter:
    """Counts the items of batches, from any number of threads.

    Example:
        >>> import torch
        >>> counter = ReadCounter()
        >>> batch = Candidates(torch.zeros(2, 3, dtype=torch.long), torch.tensor([True, False]), 0, None)
        >>> counter.add(batch)
        >>> counter.counts()
        ReadCounts(items=2, not_found=1)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = ReadCounts(0, 0)

    def add(self, batch: object) -> None:
        """Count the candidates of a batch. A batch without candidates counts nothing."""
        candidates = batch.candidates if isinstance(batch, UserAndCandidates) else batch
        if not isinstance(candidates, Candidates):
            return
        items, found = len(candidates.found), int(candidates.found.sum())
        with self._lock:
            before = self._counts
            self._counts = ReadCounts(before.items + items, before.not_found + items - found)

    def counts(self) -> ReadCounts:
        """Return the numbers so far."""
        return self._counts
