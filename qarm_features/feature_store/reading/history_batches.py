"""A ranking request with labeled impressions and counters: the rows to ask for, and the tensors that are made of the rows.

In: a release, one user and candidates. Out: a ``UserAndCandidates``, with impressions and counters if asked for. As in
``code_batches``, each function yields a query for every round trip: behaviors, impressions, codes of all items, counters of
the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from feast import FeatureView
from feast.protos.feast.types.Value_pb2 import Value
from torch import Tensor

from qarm_features.feature_store.reading.code_batches import (
    RowExchange,
    behavior_and_candidates,
    behaviors,
    item_codes,
    padded_behaviors,
)
from qarm_features.feature_store.reading.code_cache import CodeCache
from qarm_features.feature_store.reading.requested_ids import IDs, RequestedID, listed_ids
from qarm_features.feature_store.reading.row_queries import Row, RowQuery
from qarm_features.feature_store.reading.served_release import ServedRelease
from qarm_features.feature_store.reading.value_decoding import decode_lists
from qarm_features.feature_store.views.feature_views import SERVED
from qarm_features.ranking.serve.request import Impressions, UserAndCandidates
from qarm_features.storage.tables import ITEM_COUNTERS, USER_IMPRESSIONS, Table


class _Shown(NamedTuple):
    """Impressions of one user, the latest last, and the user's counters.

    Attributes:
        item_ids: T2 item IDs.
        labels: T2 labels, 0 or 1.
        timestamps: T2 seconds since 1970.
        counters: Positives and impressions of the user, since the log began.
    """

    item_ids: list[int | str]
    labels: list[int]
    timestamps: list[int]
    counters: list[int]


def user_and_candidates(
    release: ServedRelease,
    cache: CodeCache | None,
    user_id: int | str | None,
    candidate_ids: IDs,
    max_length: int | None,
    max_impressions: int,
) -> RowExchange[UserAndCandidates]:
    """Read a ranking request with at most two queries, or at most four if impressions are asked for.

    Args:
        release: Release that is served.
        cache: Cache of codes; None reads all codes from the store.
        user_id: User ID of the click log's type.
        candidate_ids: B item IDs.
        max_length: Number of latest behaviors to read; None reads all.
        max_impressions: Number of latest impressions to read. 0 reads neither impressions nor counters.

    Raises:
        ValueError: ``max_impressions`` is negative, or a view that must be read is not published.
    """
    if max_impressions < 0:
        raise ValueError(f"max_impressions is {max_impressions}, must be at least 0. Use 0 to read none.")
    if max_impressions == 0:
        return (yield from behavior_and_candidates(release, cache, [user_id], candidate_ids, max_length))
    candidates = listed_ids(candidate_ids, "candidate_ids", release.view)
    item_lists, time_lists = yield from behaviors(release, [user_id], max_length)
    shown = yield from _impressions(release, user_id, max_impressions)
    behavior_ids = item_lists[0]
    items = yield from item_codes(release, cache, [*behavior_ids, *shown.item_ids, *candidates])
    first = len(behavior_ids)
    last = len(items.codes) - len(candidates)
    behavior = padded_behaviors(release, item_lists, time_lists, items.codes[:first])
    impressions = _labeled(release, shown, items.codes[first:last])
    counters = yield from _counters(release, candidates, shown.counters)
    rest = items._replace(codes=items.codes[last:], found=items.found[last:])
    return UserAndCandidates(behavior, rest, impressions, counters)


def _impressions(release: ServedRelease, user_id: int | str | None, max_impressions: int) -> RowExchange[_Shown]:
    view = _required(release.impressions, USER_IMPRESSIONS)
    (known_id,) = listed_ids([user_id], "user_id", view)
    if known_id is None:
        return _Shown([], [], [], [0, 0])
    rows = yield RowQuery(view, SERVED[USER_IMPRESSIONS], [known_id])
    item_ids, labels, timestamps, positives, impressions = rows[0]
    counters = [_integer(positives), _integer(impressions)]
    if not (item_ids and labels and timestamps):
        return _Shown([], [], [], counters)
    return _Shown(
        item_ids=decode_lists([item_ids])[0][-max_impressions:],
        labels=decode_lists([labels])[0][-max_impressions:],
        timestamps=decode_lists([timestamps])[0][-max_impressions:],
        counters=counters,
    )


def _counters(release: ServedRelease, candidates: list[RequestedID], user_counters: list[int]) -> RowExchange[Tensor]:
    """Read the counters (B, 4) float32 of the candidates with at most one query. Those of a missing ID are 0."""
    view = _required(release.counters, ITEM_COUNTERS)
    unique = [item_id for item_id in dict.fromkeys(candidates) if item_id is not None]
    rows: Sequence[Row] = (yield RowQuery(view, SERVED[ITEM_COUNTERS], unique)) if unique else []
    item_counters: dict[RequestedID, list[int]] = {None: [0, 0]}
    item_counters |= {item_id: [_integer(value) for value in row] for item_id, row in zip(unique, rows, strict=True)}
    counters = [[*user_counters, *item_counters[item_id]] for item_id in candidates]
    return torch.tensor(counters, dtype=torch.float32).reshape(-1, 4)


def _labeled(release: ServedRelease, shown: _Shown, codes: Tensor) -> Impressions:
    past = padded_behaviors(release, [shown.item_ids], [shown.timestamps], codes)
    return Impressions(**past._asdict(), labels=torch.tensor([shown.labels], dtype=torch.int64))


def _integer(value: bytes | None) -> int:
    return Value.FromString(value).int64_val if value else 0


def _required(view: FeatureView | None, table: Table) -> FeatureView:
    if view is None:
        raise ValueError(
            f"The feature store has no view {table.name}. Set behavior.impression_length and run: qarm publish-features"
        )
    return view
