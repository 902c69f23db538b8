"""Batches of published codes: which rows to ask for, and the tensors that the rows become.

In: a release, IDs, and rows as the online store keeps them. Out: torch tensors of one release. Each function yields the
queries that it needs answered, one round trip each, and is sent the rows: blocking and asyncio readers share it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import feast.types
import numpy as np
import torch
from feast import FeatureView
from feast.protos.feast.types.Value_pb2 import Value
from torch import Tensor

from qarm_features.feature_store.reading.code_cache import CodeCache
from qarm_features.feature_store.reading.online_rows import Row, RowQuery
from qarm_features.feature_store.reading.served_release import ServedRelease
from qarm_features.feature_store.reading.value_decoding import decode_integer_lists, decode_lists


class MixedReleaseError(RuntimeError):
    """One batch held codes of another codebook version than its release's."""


class ItemCodes(NamedTuple):
    """Codes of items.

    Attributes:
        codes: (B, L) int64, -1 on every level of an item that was not found.
        found: (B,) bool.
        codebook_version: The release that all of the codes belong to.
    """

    codes: Tensor
    found: Tensor
    codebook_version: int


class BehaviorCodes(NamedTuple):
    """Behavior sequences with their codes, the latest item last, padded at the end.

    Attributes:
        item_ids: (B, T) numpy array of item IDs; undefined where ``mask`` is False.
        codes: (B, T, L) int64, -1 where an item was not found and where ``mask`` is False.
        mask: (B, T) bool, True where a behavior stands. T is the longest sequence of the batch.
        codebook_version: The release that all of the codes belong to.
        timestamps: (B, T) int64, seconds since 1970 at which each behavior happened; 0 where ``mask`` is False.
    """

    item_ids: np.ndarray
    codes: Tensor
    mask: Tensor
    codebook_version: int
    timestamps: Tensor


class ImpressionCodes(NamedTuple):
    """What one user was shown, of either label, with codes, the latest item last.

    Attributes:
        item_ids: (1, T2) numpy array of item IDs.
        codes: (1, T2, L) int64, -1 where an item was not found.
        labels: (1, T2) int64, 1 positive, 0 negative.
        mask: (1, T2) bool, all True: a batch of one user has no padding.
        codebook_version: The release that all of the codes belong to.
        timestamps: (1, T2) int64, seconds since 1970 at which each was shown.
    """

    item_ids: np.ndarray
    codes: Tensor
    labels: Tensor
    mask: Tensor
    codebook_version: int
    timestamps: Tensor


class UserAndCandidates(NamedTuple):
    """What a ranking request needs: one user's behavior (B = 1) and the candidates, of one release.

    Attributes:
        behavior: The user's behavior sequence.
        candidates: The candidates' codes.
        impressions: What the user was shown, where that was asked for.
        counters: (B, 4) float32 of the candidates, where impressions were asked for: positives and impressions of the
            user, then of the item; 0 where nothing is known.
    """

    behavior: BehaviorCodes
    candidates: ItemCodes
    impressions: ImpressionCodes | None = None
    counters: Tensor | None = None


Answers = Generator[RowQuery, Sequence[Row], Any]


def no_rows(query: RowQuery) -> list[Row]:
    """Returns what a query is answered with where the store does not answer and the caller prefers missing items."""
    return [(None,) * len(query.features)] * len(query.ids)


def item_codes(release: ServedRelease, cache: CodeCache | None, item_ids: Sequence[int | str]) -> Answers:
    """Yields one query at most; returns `ItemCodes` of B items."""
    ids = listed_ids(item_ids, "item_ids", release.view)
    places = {item_id: place for place, item_id in enumerate(dict.fromkeys(ids))}
    unique = list(places)
    codes, found = yield from _unique_codes(release, cache, unique)
    if len(unique) < len(ids):
        rows = np.fromiter((places[item_id] for item_id in ids), np.int64, len(ids))
        codes, found = codes[rows], found[rows]
    return ItemCodes(torch.from_numpy(codes), torch.from_numpy(found), release.codebook_version)


def behavior_codes(
    release: ServedRelease, cache: CodeCache | None, user_ids: Sequence[int | str], max_length: int | None
) -> Answers:
    """Yields two queries at most; returns `BehaviorCodes` of B users."""
    both = yield from behavior_and_candidates(release, cache, user_ids, [], max_length)
    return both.behavior


def behavior_and_candidates(
    release: ServedRelease,
    cache: CodeCache | None,
    user_ids: Sequence[int | str],
    candidate_ids: Sequence[int | str],
    max_length: int | None,
) -> Answers:
    """Yields two queries at most: behaviors, then the codes of all their items and of the candidates, each item once."""
    item_lists, time_lists = yield from behaviors(release, user_ids, max_length)
    flat = [item_id for ids in item_lists for item_id in ids]
    candidates = listed_ids(candidate_ids, "candidate_ids", release.view)
    items = yield from item_codes(release, cache, [*flat, *candidates])
    behavior = padded_behaviors(release, item_lists, time_lists, items.codes[: len(flat)])
    rest = ItemCodes(items.codes[len(flat) :], items.found[len(flat) :], release.codebook_version)
    return UserAndCandidates(behavior, rest)


def padded_behaviors(
    release: ServedRelease, item_lists: list[list[int | str]], time_lists: list[list[int]], flat_codes: Tensor
) -> BehaviorCodes:
    """Makes the batch of B users from their items, the times of these, and the codes (n, L) of all, one after another."""
    lengths = np.array([len(ids) for ids in item_lists], dtype=np.int64)
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
    flat = [item_id for ids in item_lists for item_id in ids]
    codes = torch.full((*mask.shape, release.num_levels), -1, dtype=torch.int64)
    codes[torch.from_numpy(mask)] = flat_codes
    item_ids = np.zeros(mask.shape, dtype=object if flat and isinstance(flat[0], str) else np.int64)
    item_ids[mask] = flat
    timestamps = np.zeros(mask.shape, np.int64)
    timestamps[mask] = [seconds for times in time_lists for seconds in times]
    return BehaviorCodes(
        item_ids, codes, torch.from_numpy(mask), release.codebook_version, torch.from_numpy(timestamps)
    )


def behaviors(release: ServedRelease, user_ids: Sequence[int | str], max_length: int | None) -> Answers:
    """Yields one query at most; returns the item IDs and the timestamps of each user's behaviors."""
    if release.behavior is None:
        raise ValueError("The feature store has no view user_behavior, must have one. Run: qarm publish-features")
    ids = listed_ids(user_ids, "user_ids", release.behavior)
    unique = list(dict.fromkeys(ids))
    features = ("behavior_item_ids", "behavior_timestamps")
    rows = (yield RowQuery(release.behavior, features, unique)) if unique else []
    known = [user_id for user_id, row in zip(unique, rows, strict=True) if row[0] and row[1]]
    whole = [row for row in rows if row[0] and row[1]]
    latest = slice(None) if max_length is None else slice(-max_length or None, None)
    item_lists = [one[latest] for one in decode_lists([row[0] for row in whole])]
    time_lists = [one[latest] for one in decode_lists([row[1] for row in whole])]
    of_user = dict(zip(known, zip(item_lists, time_lists, strict=True), strict=True))
    both = [of_user.get(user_id, ([], [])) for user_id in ids]
    return [items for items, _ in both], [times for _, times in both]


def _unique_codes(release: ServedRelease, cache: CodeCache | None, item_ids: list[int | str]) -> Answers:
    """Yields one query at most; returns codes (n, L) and found (n,) of items that are each asked for once."""
    if not item_ids:
        return np.full((0, release.num_levels), -1, np.int64), np.zeros(0, bool)
    features = ("rq_codes", "codebook_version")
    if cache is None:
        return _decoded(release, (yield RowQuery(release.view, features, item_ids)))
    identity = release.identity
    codes, found = cache.get(identity, item_ids, release.num_levels)
    if not found.all():
        absent = np.flatnonzero(~found)
        ids = [item_ids[place] for place in absent.tolist()]
        codes[absent], found[absent] = _decoded(release, (yield RowQuery(release.view, features, ids)))
        there = found[absent].nonzero()[0]
        cache.put(identity, [ids[place] for place in there.tolist()], codes[absent[there]])
    return codes, found


def _decoded(release: ServedRelease, rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Returns codes (n, L) and found (n,) of rows (rq_codes, codebook_version).

    Raises:
        MixedReleaseError: A row carries another codebook version, or codes of another number of levels.
    """
    _check_versions(release, {version for _, version in rows if version})
    whole = [bool(codes and version) for codes, version in rows]
    found = np.array(whole, bool)
    flat, counts = decode_integer_lists([row[0] for row, is_whole in zip(rows, whole, strict=True) if is_whole])
    if (counts != release.num_levels).any():
        raise MixedReleaseError(
            f"{release.view.name} served {counts[counts != release.num_levels][0]} codes for an item, must be "
            f"{release.num_levels}. Run: qarm publish-features"
        )
    codes = flat.reshape(-1, release.num_levels)
    if len(codes) < len(rows):
        served, codes = codes, np.full((len(rows), release.num_levels), -1, np.int64)
        codes[found] = served
    return codes, found


def _check_versions(release: ServedRelease, served: set[bytes]) -> None:
    versions = {Value.FromString(version).int32_val for version in served}  # rows of one release have equal bytes
    if versions - {release.codebook_version}:
        raise MixedReleaseError(
            f"{release.view.name} served codebook versions {sorted(versions)}, must be {release.codebook_version} alone. "
            "Run: qarm publish-features"
        )


def listed_ids(ids: Sequence[int | str], name: str, view: FeatureView) -> list[int | str]:
    """Returns IDs as a list; those of a numpy array or a tensor as Python's own integers.

    Raises:
        TypeError: An ID is of another type than the catalog's.
    """
    listed = ids.tolist() if hasattr(ids, "tolist") else list(ids)
    is_string = view.entity_columns[0].dtype == feast.types.String
    kinds = str if is_string else (int, np.integer)
    wrong = next((one for one in listed if not isinstance(one, kinds)), None)
    if wrong is not None:
        raise TypeError(f"{name} holds {wrong!r}, must be {'strings' if is_string else 'integers'} as in the catalog.")
    return listed
