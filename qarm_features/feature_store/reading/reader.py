"""Readers of published semantic IDs as torch tensors, for a serving host with Feast and torch but without Spark.

In: item or user IDs. Out: tensors of codes with their codebook version. Every batch is checked to come from one release.
``SemanticIDReader`` is for threads, ``AsyncSemanticIDReader`` for asyncio.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from feast.repo_config import RepoConfig

from qarm_features.feature_store.reading import code_batches
from qarm_features.feature_store.reading.code_batches import MixedReleaseError, RowExchange, missing_rows
from qarm_features.feature_store.reading.code_cache import CodeCache
from qarm_features.feature_store.reading.history_batches import user_and_candidates
from qarm_features.feature_store.reading.online_rows import open_async_online_rows, open_online_rows
from qarm_features.feature_store.reading.read_counts import ReadCounter, ReadCounts
from qarm_features.feature_store.reading.requested_ids import IDs
from qarm_features.feature_store.reading.row_queries import AsyncOnlineRows, OnlineRows, Row, RowQuery
from qarm_features.feature_store.reading.served_release import ServedRelease, ServedReleases
from qarm_features.feature_store.views.feature_views import READER_WAIT_SECONDS, open_feature_store
from qarm_features.ranking.serve.request import Behavior, Candidates, Impressions, UserAndCandidates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qarm_features.ranking.serve.request import Reader

__all__ = [
    "AsyncSemanticIDReader",
    "Behavior",
    "Candidates",
    "Impressions",
    "MixedReleaseError",
    "SemanticIDReader",
    "UserAndCandidates",
]

_Batch = TypeVar("_Batch")
_Rows = TypeVar("_Rows", OnlineRows, AsyncOnlineRows)
_log = logging.getLogger(__name__)


class _Reader(Generic[_Rows]):
    """The parts that both readers share: the releases, the cache, the source of rows and the options."""

    def __init__(
        self,
        repo_path: str | Path,
        service: str = "item_semantic_id",
        *,
        cache_items: int = 0,
        timeout: float | None = None,
        on_timeout: Literal["raise", "missing"] = "raise",
    ) -> None:
        if cache_items < 0:
            raise ValueError(f"cache_items is {cache_items}, must be at least 0. Use 0 to keep no cache.")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout is {timeout}, must be above 0 seconds, or None.")
        if on_timeout not in ("raise", "missing"):
            raise ValueError(f'on_timeout is {on_timeout!r}, must be "raise" or "missing".')
        self._store = open_feature_store(repo_path, wait_seconds=READER_WAIT_SECONDS)
        self._on_timeout = on_timeout
        self._cache = CodeCache(cache_items) if cache_items else None
        self._releases = ServedReleases(self._store, service)
        self._releases.current()
        self._counter = ReadCounter()
        self._rows: _Rows = self._open_rows(self._store.config, timeout)

    @property
    def read_counts(self) -> ReadCounts:
        """Items that were asked for and not found so far. Their rate tells how far the release lags behind the catalog."""
        return self._counter.counts()

    def _open_rows(self, config: RepoConfig, timeout: float | None) -> _Rows:
        raise NotImplementedError

    def _rows_after(self, error: Exception, query: RowQuery) -> list[Row]:
        """Return rows without values after a failed read, or raise the error, as ``on_timeout`` says."""
        if self._on_timeout == "raise":
            raise error
        _log.warning("%s: %d rows are served as missing. %s", query.view.name, len(query.ids), error)
        return missing_rows(query)


class SemanticIDReader(_Reader[OnlineRows]):
    """Reads the release that is promoted now. Each call follows a flip within the registry's cache time.

    Any number of threads may use one reader. After a fork, each process must make its own.

    Args:
        repo_path: Folder of ``feature_store.yaml``.
        service: Feature service to read. ``item_semantic_id`` follows every flip. A model that was trained on one codebook
            version names the view of that release instead, ``item_semantic_id__cb<N>``, and stays on it.
        cache_items: Number of items whose codes are kept in this process, those that were asked for last. 0 keeps no
            cache. The cache holds the served release alone, and an item that was not found is read again.
        timeout: Time limit for one round trip to the online store in seconds; None leaves it to the store's own client.
            After a lost connection, the round trip is tried once more.
        on_timeout: ``raise`` raises ``TimeoutError`` if the store did not answer in time, and ``ConnectionError`` if the
            connection was lost twice. ``missing`` returns the items of that round trip as not found.

    Raises:
        ValueError: The repo holds no such service or view, or an option has another value than these.
        ImportError: A package that the online store needs is not installed.

    Example:
        The project of ``qarm run`` serves codebook version 0::

            reader = SemanticIDReader("my_project/feature_repo", service="item_semantic_id__cb0")
            batch = reader.item_codes([50, 181])  # batch.codes (2, L), batch.found (2,), batch.codebook_version
            chances = score_candidates(scorer, reader, 7, [50, 181])
    """

    def item_codes(self, item_ids: IDs) -> Candidates:
        """Read the codes of B items in one round trip. An ID that occurs twice is read once.

        Args:
            item_ids: B item IDs. They are read as ingest reads them: white space at the ends is cut off, and 10, 10.0 and
                "10" are the same item. A missing ID (None, NaN or empty text) is served as not found.

        Returns:
            ``codes`` (B, L), ``found`` (B,), ``codebook_version``.

        Raises:
            MixedReleaseError: The store returned a row of another codebook version.
            TypeError: An ID cannot be one of the catalog's type, such as 10.5, True, or "abc" among integers.
        """
        return self._complete(code_batches.item_codes(self._releases.current(), self._cache, item_ids))

    def behavior_codes(self, user_ids: IDs, *, max_length: int | None = None) -> Behavior:
        """Read the behavior sequences of B users and the codes of all their items in two round trips.

        Args:
            user_ids: B user IDs. The row of a user without behavior, or of a missing ID, is masked entirely.
            max_length: Number of latest behaviors to read of each user; None reads all.

        Returns:
            ``item_ids`` (B, T), ``codes`` (B, T, L), ``mask`` (B, T), ``codebook_version``, ``timestamps`` (B, T).
        """
        return self._complete(code_batches.behavior_codes(self._releases.current(), self._cache, user_ids, max_length))

    def user_and_candidates(
        self, user_id: int | str | None, candidate_ids: IDs, *, max_length: int | None = None, max_impressions: int = 0
    ) -> UserAndCandidates:
        """Read one user's behavior, then the codes of its items and of B candidates together, in two round trips.

        Args:
            user_id: User ID; None for an unknown user, who has no behavior.
            candidate_ids: B item IDs.
            max_length: Number of latest behaviors to read; None reads all.
            max_impressions: Number of latest labeled impressions to read, with their codes and with the counters of the
                user and the candidates, in two further round trips. 0 reads neither impressions nor counters.

        Returns:
            ``behavior`` of one user, ``candidates`` of B items, ``impressions``, ``counters``; all of one release.

        Raises:
            ValueError: Impressions are asked for and are not published.
        """
        release = self._releases.current()
        return self._complete(
            user_and_candidates(release, self._cache, user_id, candidate_ids, max_length, max_impressions)
        )

    def close(self) -> None:
        """Close the connections to the online store."""
        self._rows.close()

    def _open_rows(self, config: RepoConfig, timeout: float | None) -> OnlineRows:
        return open_online_rows(config, timeout)

    def _complete(self, exchange: RowExchange[_Batch]) -> _Batch:
        """Answer the queries of an exchange until it returns its batch."""
        rows: Sequence[Row] | None = None
        while True:
            try:
                query = next(exchange) if rows is None else exchange.send(rows)
            except StopIteration as done:
                self._counter.add(done.value)
                return done.value
            try:
                rows = self._rows.fetch(query)
            except (TimeoutError, ConnectionError) as error:
                rows = self._rows_after(error, query)


class AsyncSemanticIDReader(_Reader[AsyncOnlineRows]):
    """``SemanticIDReader`` for asyncio, with the same arguments and results, for any number of tasks on one event loop.

    Redis is read through asyncio, and ``timeout`` limits each round trip as a whole. Other stores are read in a thread.

    Example:
        In a coroutine::

            reader = AsyncSemanticIDReader("my_project/feature_repo", timeout=0.05, on_timeout="missing")
            request = await reader.user_and_candidates(7, [50, 181])  # request.behavior, request.candidates
    """

    async def item_codes(self, item_ids: IDs) -> Candidates:
        """Read the codes of B items; see ``SemanticIDReader.item_codes``."""
        return await self._complete(code_batches.item_codes(await self._release(), self._cache, item_ids))

    async def behavior_codes(self, user_ids: IDs, *, max_length: int | None = None) -> Behavior:
        """Read the behavior sequences of B users; see ``SemanticIDReader.behavior_codes``."""
        return await self._complete(
            code_batches.behavior_codes(await self._release(), self._cache, user_ids, max_length)
        )

    async def user_and_candidates(
        self, user_id: int | str | None, candidate_ids: IDs, *, max_length: int | None = None, max_impressions: int = 0
    ) -> UserAndCandidates:
        """Read one user and B candidates; see ``SemanticIDReader.user_and_candidates``."""
        release = await self._release()
        return await self._complete(
            user_and_candidates(release, self._cache, user_id, candidate_ids, max_length, max_impressions)
        )

    async def close(self) -> None:
        """Close the connections to the online store."""
        await self._rows.close()

    def _open_rows(self, config: RepoConfig, timeout: float | None) -> AsyncOnlineRows:
        return open_async_online_rows(config, timeout)

    async def _release(self) -> ServedRelease:
        # The registry's database is read in a thread, so that the event loop can run other tasks meanwhile.
        held = self._releases.held()
        return await asyncio.to_thread(self._releases.current) if held is None else held

    async def _complete(self, exchange: RowExchange[_Batch]) -> _Batch:
        """Answer the queries of an exchange until it returns its batch."""
        rows: Sequence[Row] | None = None
        while True:
            try:
                query = next(exchange) if rows is None else exchange.send(rows)
            except StopIteration as done:
                self._counter.add(done.value)
                return done.value
            try:
                rows = await self._rows.fetch(query)
            except (TimeoutError, ConnectionError) as error:
                rows = self._rows_after(error, query)


if TYPE_CHECKING:

    def _is_a_reader_of_requests(reader: SemanticIDReader) -> Reader:
        """Let a type checker prove that ``score_candidates`` takes a ``SemanticIDReader``."""
        return reader
