"""Published semantic IDs as torch tensors, for a serving host: Feast and torch, no Spark.

In: item or user IDs. Out: tensors of codes with the codebook version that they belong to; every batch is checked to come
from one release. `SemanticIDReader` is for threads, `AsyncSemanticIDReader` for asyncio.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from qarm_features.feature_store.reading import code_batches
from qarm_features.feature_store.reading.code_batches import (
    Answers,
    BehaviorCodes,
    ImpressionCodes,
    ItemCodes,
    MixedReleaseError,
    UserAndCandidates,
)
from qarm_features.feature_store.reading.code_cache import CodeCache
from qarm_features.feature_store.reading.history_batches import user_and_candidates
from qarm_features.feature_store.reading.online_rows import RowQuery, open_async_online_rows, open_online_rows
from qarm_features.feature_store.reading.served_release import ServedReleases
from qarm_features.feature_store.views.feature_views import open_feature_store

__all__ = [
    "AsyncSemanticIDReader",
    "BehaviorCodes",
    "ImpressionCodes",
    "ItemCodes",
    "MixedReleaseError",
    "SemanticIDReader",
    "UserAndCandidates",
]

_log = logging.getLogger(__name__)


class _OpenRelease:
    """What both readers hold: the releases, the cache, the source of rows, and what the caller chose."""

    _open_rows: Callable

    def __init__(
        self,
        repo_path: str | Path,
        service: str = "item_semantic_id",
        *,
        cache_items: int = 0,
        timeout: float | None = None,
        on_timeout: Literal["raise", "missing"] = "raise",
    ):
        if cache_items < 0:
            raise ValueError(f"cache_items is {cache_items}, must be at least 0. 0 keeps no cache.")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout is {timeout}, must be above 0 seconds, or None.")
        if on_timeout not in ("raise", "missing"):
            raise ValueError(f'on_timeout is {on_timeout!r}, must be "raise" or "missing".')
        self._store = open_feature_store(repo_path)
        self._on_timeout = on_timeout
        self._cache = CodeCache(cache_items) if cache_items else None
        self._releases = ServedReleases(self._store, service)
        self._releases.current()
        self._rows = self._open_rows(self._store.config, timeout)

    def _instead_of_rows(self, query: RowQuery, error: Exception) -> list[code_batches.Row]:
        if self._on_timeout == "raise":
            raise error
        _log.warning("%s: %d rows are served as missing. %s", query.view.name, len(query.ids), error)
        return code_batches.no_rows(query)


class SemanticIDReader(_OpenRelease):
    """Reads the release that is promoted now; each call follows a flip within the registry's cache time.

    Any number of threads may use one reader. After a fork, each process makes its own.

    Args:
        repo_path: Folder of ``feature_store.yaml``.
        service: ``item_semantic_id`` follows every flip. A model that trained on a codebook version names that
            release's view instead, ``item_semantic_id__cb<N>``, and stays on it.
        cache_items: Items whose codes are kept in this process, those asked for last; 0 keeps none. Only the release that
            is served has a cache, and an item that was not found is asked for again.
        timeout: Seconds that the online store may take for one round trip; None leaves it to the store's own client. A
            lost connection is tried once more.
        on_timeout: Where the store did not answer in time or the connection was lost twice: ``raise``
            `TimeoutError` or `ConnectionError`, or serve the items that it was asked for as ``missing`` ones.

    Raises:
        ValueError: The repo holds no such service or view, or an option is none of these.
    """

    _open_rows = staticmethod(open_online_rows)

    def item_codes(self, item_ids: Sequence[int | str]) -> ItemCodes:
        """Reads the codes of B items in one round trip; an ID that occurs twice is fetched once.

        Args:
            item_ids: B item IDs of the catalog's type.

        Returns:
            ``codes`` (B, L), ``found`` (B,), ``codebook_version``.

        Raises:
            MixedReleaseError: A row of another codebook version was read.
        """
        return self._answered(code_batches.item_codes(self._releases.current(), self._cache, item_ids))

    def behavior_codes(self, user_ids: Sequence[int | str], *, max_length: int | None = None) -> BehaviorCodes:
        """Reads the behavior sequences of B users and the codes of all their items, in two round trips.

        Args:
            user_ids: B user IDs of the click log's type. A user without behavior gets a row that is masked whole.
            max_length: Only the latest this many behaviors.

        Returns:
            ``item_ids`` (B, T), ``codes`` (B, T, L), ``mask`` (B, T), ``codebook_version``, ``timestamps`` (B, T).
        """
        return self._answered(code_batches.behavior_codes(self._releases.current(), self._cache, user_ids, max_length))

    def user_and_candidates(
        self,
        user_id: int | str,
        candidate_ids: Sequence[int | str],
        *,
        max_length: int | None = None,
        max_impressions: int = 0,
    ) -> UserAndCandidates:
        """Reads one user's behavior, then the codes of its items and of B candidates at once: two round trips.

        Args:
            user_id: A user ID of the click log's type.
            candidate_ids: B item IDs.
            max_length: Only the latest this many behaviors.
            max_impressions: Also the latest this many labeled impressions with their codes, and counters of the user and
                of the candidates, in two further round trips; 0 reads neither.

        Returns:
            ``behavior`` of one user, ``candidates`` of B items, ``impressions``, ``counters``; all of one release.

        Raises:
            ValueError: Impressions are asked for and are not published.
        """
        release = self._releases.current()
        return self._answered(
            user_and_candidates(release, self._cache, user_id, candidate_ids, max_length, max_impressions)
        )

    def close(self) -> None:
        """Closes the connections to the online store."""
        self._rows.close()

    def _answered(self, batch: Answers):
        rows = None
        while True:
            try:
                query = batch.send(rows)
            except StopIteration as done:
                return done.value
            try:
                rows = self._rows.fetch(query)
            except (TimeoutError, ConnectionError) as error:
                rows = self._instead_of_rows(query, error)


class AsyncSemanticIDReader(_OpenRelease):
    """`SemanticIDReader` for asyncio, with the same arguments and results: on one loop, any number of tasks.

    Redis is read by asyncio, and ``timeout`` holds for a round trip as a whole; other stores are read in a thread.
    """

    _open_rows = staticmethod(open_async_online_rows)

    async def item_codes(self, item_ids: Sequence[int | str]) -> ItemCodes:
        """Reads the codes of B items; see `SemanticIDReader.item_codes`."""
        return await self._answered(code_batches.item_codes(await self._release(), self._cache, item_ids))

    async def behavior_codes(self, user_ids: Sequence[int | str], *, max_length: int | None = None) -> BehaviorCodes:
        """Reads the behavior sequences of B users; see `SemanticIDReader.behavior_codes`."""
        return await self._answered(
            code_batches.behavior_codes(await self._release(), self._cache, user_ids, max_length)
        )

    async def user_and_candidates(
        self,
        user_id: int | str,
        candidate_ids: Sequence[int | str],
        *,
        max_length: int | None = None,
        max_impressions: int = 0,
    ) -> UserAndCandidates:
        """Reads one user and B candidates; see `SemanticIDReader.user_and_candidates`."""
        release = await self._release()
        return await self._answered(
            user_and_candidates(release, self._cache, user_id, candidate_ids, max_length, max_impressions)
        )

    async def close(self) -> None:
        """Closes the connections to the online store."""
        await self._rows.close()

    async def _release(self):
        # The registry's database is asked in a thread: the loop goes on meanwhile.
        return self._releases.held() or await asyncio.to_thread(self._releases.current)

    async def _answered(self, batch: Answers):
        rows = None
        while True:
            try:
                query = batch.send(rows)
            except StopIteration as done:
                return done.value
            try:
                rows = await self._rows.fetch(query)
            except (TimeoutError, ConnectionError) as error:
                rows = self._instead_of_rows(query, error)
