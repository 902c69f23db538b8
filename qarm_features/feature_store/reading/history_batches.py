"""A ranking request, with labeled impressions and counters where asked for: which rows to ask for, and their tensors.

In: a release, a user and candidates. Out: what `code_batches` gives, with impressions and counters beside it. Like there,
queries are yielded, one round trip each: behaviors, impressions, codes of all items, counters of the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from feast import FeatureView
from feast.protos.feast.types.Value_pb2 import Value
from torch import Tensor

from qarm_features.feature_store.reading.code_batches import (
    Answers,
    ImpressionCodes,
    ItemCodes,
    UserAndCandidates,
    behavior_and_candidates,
    behaviors,
    item_codes,
    listed_ids,
    padded_behaviors,
)
from qarm_features.feature_store.reading.code_cache import CodeCache
from qarm_features.feature_store.reading.online_rows import Row, RowQuery
from qarm_features.feature_store.reading.served_release import ServedRelease
from qarm_features.feature_store.reading.value_decoding import decode_lists
from qarm_features.feature_store.views.feature_views import SERVED
from qarm_features.storage.tables import ITEM_COUNTERS, USER_IMPRESSIONS, Table


class _Shown(NamedTuple):
    """What one user was shown, and the user's counters (2,)."""

    item_ids: list[int | str]
    labels: list[int]
    timestamps: list[int]
    counters: list[int]


def user_and_candidates(
    release: ServedRelease,
    cache: CodeCache | None,
    user_id: int | str,
    candidate_ids: Sequence[int | str],
    max_length: int | None,
    max_impressions: int,
) -> Answers:
    """Yields two queries at most, or four where impressions are asked for; returns `UserAndCandidates`."""
    if max_impressions < 0:
        raise ValueError(f"max_impressions is {max_impressions}, must be at least 0. 0 reads none.")
    if max_impressions == 0:
        return (yield from behavior_and_candidates(release, cache, [user_id], candidate_ids, max_length))
    candidates = listed_ids(candidate_ids, "candidate_ids", release.view)
    item_lists, time_lists = yield from behaviors(release, [user_id], max_length)
    shown = yield from _impressions(release, user_id, max_impressions)
    liked = item_lists[0]
    items = yield from item_codes(release, cache, [*liked, *shown.item_ids, *candidates])
    last = len(items.codes) - len(candidates)
    behavior = padded_behaviors(release, item_lists, time_lists, items.codes[: len(liked)])
    impressions = _one_user(release, shown, items.codes[len(liked) : last])
    counters = yield from _counters(release, candidates, shown.counters)
    rest = ItemCodes(items.codes[last:], items.found[last:], release.codebook_version)
    return UserAndCandidates(behavior, rest, impressions, counters)


def _impressions(release: ServedRelease, user_id: int | str, max_impressions: int) -> Answers:
    view = _required(release.impressions, USER_IMPRESSIONS)
    ids = listed_ids([user_id], "user_id", view)
    ((*lists, positives, impressions),) = yield RowQuery(view, SERVED[USER_IMPRESSIONS], ids)
    counters = [_integer(positives), _integer(impressions)]
    if not all(lists):
        return _Shown([], [], [], counters)
    return _Shown(*(decode_lists([one])[0][-max_impressions:] for one in lists), counters)


def _counters(release: ServedRelease, candidates: list[int | str], of_user: list[int]) -> Answers:
    """Yields one query at most; returns (B, 4) float32."""
    view = _required(release.counters, ITEM_COUNTERS)
    unique = list(dict.fromkeys(candidates))
    rows: Sequence[Row] = (yield RowQuery(view, SERVED[ITEM_COUNTERS], unique)) if unique else []
    of_item = {item_id: [_integer(value) for value in row] for item_id, row in zip(unique, rows, strict=True)}
    counters = [[*of_user, *of_item[item_id]] for item_id in candidates]
    return torch.tensor(counters, dtype=torch.float32).reshape(-1, 4)


def _one_user(release: ServedRelease, shown: _Shown, codes: Tensor) -> ImpressionCodes:
    past = padded_behaviors(release, [shown.item_ids], [shown.timestamps], codes)
    return ImpressionCodes(**past._asdict(), labels=torch.tensor([shown.labels], dtype=torch.int64))


def _integer(value: bytes | None) -> int:
    return Value.FromString(value).int64_val if value else 0


def _required(view: FeatureView | None, table: Table) -> FeatureView:
    if view is None:
        raise ValueError(
            f"The feature store has no view {table.name}, must have one. Set behavior.impression_length and run: "
            "qarm publish-features"
        )
    return view
