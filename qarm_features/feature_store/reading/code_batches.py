"""Batches of published codes: the rows to ask for, and the tensors that are made of the rows.

In: a release, IDs, and rows as the online store keeps them. Out: torch tensors of one release. Each function is a generator:
it yields a query for every round trip that it needs, is sent the rows, and returns the batch. Blocking readers and asyncio
readers therefore share the functions.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from feast.protos.feast.types.Value_pb2 import Value
from torch import Tensor

from qarm_features.feature_store.reading.code_cache import CodeCache
from qarm_features.feature_store.reading.requested_ids import IDs, RequestedID, listed_ids
from qarm_features.feature_store.reading.row_queries import Row, RowQuery
from qarm_features.feature_store.reading.served_release import ServedRelease
from qarm_features.feature_store.reading.value_decoding import decode_integer_lists, decode_lists
from qarm_features.ranking.serve.request import Behavior, Candidates, UserAndCandidates

_Batch = TypeVar("_Batch")
RowExchange: TypeAlias = Generator[RowQuery, Sequence[Row], _Batch]
"""A generator that yields queries, is sent one row per ID for each of them, and returns a batch."""


class MixedReleaseError(RuntimeError):
    """The online store returned rows of another version than the release's."""


def missing_rows(query: RowQuery) -> list[Row]:
    """Return rows without values, as if the store held none of the IDs of a query."""
    return [(None,) * len(query.features)] * len(query.ids)


def item_codes(release: ServedRelease, cache: CodeCache | None, item_ids: IDs) -> RowExchange[Candidates]:
    """Read the codes of B items with at most one query."""
    ids = listed_ids(item_ids, "item_ids", release.view)
    unique = [item_id for item_id in dict.fromkeys(ids) if item_id is not None]
    codes, found = yield from _unique_codes(release, cache, unique)
    if len(unique) < len(ids):
        positions: dict[RequestedID, int] = {item_id: position for position, item_id in enumerate(unique)}
        rows = np.fromiter((positions.get(item_id, len(unique)) for item_id in ids), np.int64, len(ids))
        codes = np.concatenate([codes, np.full((1, release.num_levels), -1, np.int64)])  # the row of missing IDs
        found = np.concatenate([found, np.zeros(1, bool)])
        codes, found = codes[rows], found[rows]
    version, fingerprint = release.codebook_version, release.codebook_fingerprint
    return Candidates(torch.from_numpy(codes), torch.from_numpy(found), version, fingerprint)


def behavior_codes(
    release: ServedRelease, cache: CodeCache | None, user_ids: IDs, max_length: int | None
) -> RowExchange[Behavior]:
    """Read the behavior sequences of B users and the codes of their items with at most two queries."""
    both = yield from behavior_and_candidates(release, cache, user_ids, [], max_length)
    return both.behavior


def behavior_and_candidates(
    release: ServedRelease, cache: CodeCache | None, user_ids: IDs, candidate_ids: IDs, max_length: int | None
) -> RowExchange[UserAndCandidates]:
    """Read behavior sequences, then the codes of all their items and of the candidates, each item once.

    It yields at most two queries.
    """
    item_lists, time_lists = yield from behaviors(release, user_ids, max_length)
    flat = [item_id for ids in item_lists for item_id in ids]
    candidates = listed_ids(candidate_ids, "candidate_ids", release.view)
    items = yield from item_codes(release, cache, [*flat, *candidates])
    behavior = padded_behaviors(release, item_lists, time_lists, items.codes[: len(flat)])
    rest = items._replace(codes=items.codes[len(flat) :], found=items.found[len(flat) :])
    return UserAndCandidates(behavior, rest)


def padded_behaviors(
    release: ServedRelease, item_lists: list[list[int | str]], time_lists: list[list[int]], flat_codes: Tensor
) -> Behavior:
    """Make the batch of B users.

    Args:
        release: Release of the codes.
        item_lists: Item IDs of each user's behaviors, the latest last.
        time_lists: Seconds since 1970 of each user's behaviors.
        flat_codes: (n, L) int64, codes of all behaviors, user after user.
    """
    lengths = np.array([len(ids) for ids in item_lists], dtype=np.int64)
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
    flat = [item_id for ids in item_lists for item_id in ids]
    codes = torch.full((*mask.shape, release.num_levels), -1, dtype=torch.int64)
    codes[torch.from_numpy(mask)] = flat_codes
    item_ids = np.zeros(mask.shape, dtype=object if flat and isinstance(flat[0], str) else np.int64)
    item_ids[mask] = flat
    timestamps = np.zeros(mask.shape, np.int64)
    timestamps[mask] = [seconds for times in time_lists for seconds in times]
    return Behavior(item_ids, codes, torch.from_numpy(mask), release.codebook_version, torch.from_numpy(timestamps))


def behaviors(
    release: ServedRelease, user_ids: IDs, max_length: int | None
) -> RowExchange[tuple[list[list[int | str]], list[list[int]]]]:
    """Read the item IDs and the timestamps of each user's behaviors with at most one query.

    Args:
        release: Release that is served.
        user_ids: B user IDs.
        max_length: Number of latest behaviors to keep of each user; None keeps all.

    Raises:
        ValueError: Behavior sequences are not published.
    """
    if release.behavior is None:
        raise ValueError("The feature store has no view user_behavior. Run: qarm publish-features")
    ids = listed_ids(user_ids, "user_ids", release.behavior)
    unique = [user_id for user_id in dict.fromkeys(ids) if user_id is not None]
    features = ("behavior_item_ids", "behavior_timestamps")
    rows = (yield RowQuery(release.behavior, features, unique)) if unique else []
    known = [(user_id, row[0], row[1]) for user_id, row in zip(unique, rows, strict=True) if row[0] and row[1]]
    latest = slice(None) if max_length is None else slice(-max_length or None, None)
    item_lists = [items[latest] for items in decode_lists([items for _, items, _ in known])]
    time_lists = [times[latest] for times in decode_lists([times for _, _, times in known])]
    places: dict[RequestedID, int] = {user_id: place for place, (user_id, _, _) in enumerate(known)}
    user_places = [places.get(user_id) for user_id in ids]
    return (
        [[] if place is None else item_lists[place] for place in user_places],
        [[] if place is None else time_lists[place] for place in user_places],
    )


def _unique_codes(
    release: ServedRelease, cache: CodeCache | None, item_ids: list[int | str]
) -> RowExchange[tuple[np.ndarray, np.ndarray]]:
    """Read codes (n, L) and found (n,) of distinct items with at most one query."""
    if not item_ids:
        return np.full((0, release.num_levels), -1, np.int64), np.zeros(0, bool)
    features = ("rq_codes", "codebook_version")
    if cache is None:
        return _decoded(release, (yield RowQuery(release.view, features, item_ids)))
    identity = release.identity
    codes, found = cache.get(identity, item_ids, release.num_levels)
    if not found.all():
        absent = np.flatnonzero(~found)
        ids = [item_ids[position] for position in absent.tolist()]
        codes[absent], found[absent] = _decoded(release, (yield RowQuery(release.view, features, ids)))
        served = found[absent].nonzero()[0]
        cache.put(identity, [ids[position] for position in served.tolist()], codes[absent[served]])
    return codes, found


def _decoded(release: ServedRelease, rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Return codes (n, L) and found (n,) of rows (rq_codes, codebook_version).

    Raises:
        MixedReleaseError: A row has another codebook version, or another number of codes than the release has levels.
    """
    _check_versions(release, {version for _, version in rows if version})
    lists = [codes for codes, version in rows if codes and version]
    flat, counts = decode_integer_lists(lists)
    if (counts != release.num_levels).any():
        raise MixedReleaseError(
            f"{release.view.name} served {counts[counts != release.num_levels][0]} codes for an item, must be "
            f"{release.num_levels}. Run: qarm publish-features"
        )
    served = flat.reshape(-1, release.num_levels)
    if len(lists) == len(rows):
        return served, np.ones(len(rows), bool)
    found = np.array([bool(codes and version) for codes, version in rows], bool)
    codes = np.full((len(rows), release.num_levels), -1, np.int64)
    codes[found] = served
    return codes, found


def _check_versions(release: ServedRelease, served: set[bytes]) -> None:
    versions = {Value.FromString(version).int32_val for version in served}  # rows of one release have equal bytes
    if versions - {release.codebook_version}:
        raise MixedReleaseError(
            f"{release.view.name} served codebook versions {sorted(versions)}, must be {release.codebook_version} alone. "
            "Run: qarm publish-features"
        )
