"""Labeled impressions of the world, by time, with the parts of their true logits.

In: a catalog and strengths. Out: ``Impressions``.

Users see items of their three clusters near the places that they prefer, and other items. Nine in ten items are shown only
for a short time after they arrive. The shown items never depend on the labels, so worlds of one seed differ only in their
labels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .catalog import CLUSTERS, FIRST_ARRIVAL, GROUPS, SHARES, Catalog, Strengths

PARTS = ("popularity", "coarse", "taste", "fine", "local", "match", "hidden")
WINDOW, DECAY = 17, 0.93  # latest impressions that the match part reads, and the weight of one relative to the next one
TRAIN_END, VALID_END = 0.8, 0.9
_INTERESTS, _INTEREST_SHARE, _EVERGREEN_IMPRESSIONS = 3, 0.75, 0.3
_CANDIDATES = 8  # the one nearest to the place that the user prefers is shown
_LIFE = 0.04  # mean share of the timeline in which a new item is shown
_MATCH_STD = 0.5  # standard deviation of tanh(balance / 2), measured once
_BIAS = -0.4


class Impressions(NamedTuple):
    """S impressions of each of U users, by time. A row is a user and a position in the user's sequence.

    Attributes:
        item: (U, S) int32 items in [0, I).
        time: (U, S) float32 times in [0, 1), ascending.
        label: (U, S) int8 labels, 0 or 1.
        match: (U, S) float32 part of the user's latest labels in the target's cluster, before it is scaled by its strength.
        group: (U,) int64 groups of the users in [0, 4).
    """

    item: np.ndarray
    time: np.ndarray
    label: np.ndarray
    match: np.ndarray
    group: np.ndarray

    def rows(self, split: str) -> np.ndarray:
        """Return the flat numbers (N,) of the rows of "train", "valid" or "test", by user and time."""
        ends = {"train": (0.0, TRAIN_END), "valid": (TRAIN_END, VALID_END), "test": (VALID_END, 1.0)}
        first, end = ends[split]
        return np.flatnonzero((self.time >= first) & (self.time < end))


def make_impressions(
    catalog: Catalog, strengths: Strengths, *, num_users: int, per_user: int, seed: int
) -> Impressions:
    """Sample the items that users see, then their labels, one impression after the other."""
    rng = np.random.default_rng([seed, 1])
    group = rng.integers(0, GROUPS, num_users)
    time = np.sort(rng.random((num_users, per_user), dtype=np.float32), axis=1)
    item = _shown(catalog, time, rng)
    chance = rng.random((num_users, per_user), dtype=np.float32)
    cluster = catalog.cluster.astype(np.int8)[item]
    logit = parts_of(catalog, strengths, item, group, match=np.zeros_like(time)).sum(axis=2) + _BIAS
    label = np.zeros((num_users, per_user), np.int8)
    match = np.zeros((num_users, per_user), np.float32)
    for step in range(per_user):
        past = slice(max(0, step - WINDOW), step)
        same = cluster[:, past] == cluster[:, step : step + 1]
        balance = (same * (2 * label[:, past] - 1)) @ DECAY ** np.arange(same.shape[1], 0, -1)
        match[:, step] = np.tanh(balance / 2) / _MATCH_STD
        odds = logit[:, step] + strengths.match * match[:, step]
        label[:, step] = chance[:, step] < 1 / (1 + np.exp(-odds))
    return Impressions(item, time, label, match, group)


def parts_of(
    catalog: Catalog, strengths: Strengths, item: np.ndarray, group: np.ndarray, *, match: np.ndarray
) -> np.ndarray:
    """Return the parts (U, S, 7) float32 of the true logits of items (U, S) shown to users of groups (U,)."""
    popularity, coarse, fine, local, hidden = (quality[item] for quality in catalog.qualities.T)
    taste = catalog.liking[group[:, None], catalog.cluster[item]]
    parts = (popularity, coarse, taste, fine, local, match, hidden)
    return np.stack([getattr(strengths, name) * part for name, part in zip(PARTS, parts)], axis=2)


def _shown(catalog: Catalog, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sample the item (U, S) int32 of every impression."""
    num_users, per_user = time.shape
    interests = rng.choice(CLUSTERS, (num_users, _INTERESTS), p=SHARES)
    angle, radius = rng.uniform(0, 2 * np.pi, interests.shape), np.sqrt(rng.random(interests.shape))
    wanted = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2).astype(np.float32)
    shelves = [_Shelf(catalog, evergreen) for evergreen in (False, True)]
    users, item = np.arange(num_users), np.empty((num_users, per_user), np.int32)
    for step in range(per_user):
        which = rng.integers(0, _INTERESTS, num_users)
        anywhere = rng.random(num_users) >= _INTEREST_SHARE
        cluster = np.where(anywhere, rng.choice(CLUSTERS, num_users, p=SHARES), interests[users, which])
        fresh, old = (shelf.draw(cluster, time[:, step], rng) for shelf in shelves)
        is_old = rng.random(num_users) < _EVERGREEN_IMPRESSIONS
        candidates = np.where(is_old[:, None], old, fresh)
        away = np.square(catalog.place[candidates] - wanted[users, which][:, None]).sum(axis=2)
        nearest = np.where(anywhere, 0, away.argmin(axis=1))
        item[:, step] = candidates[users, nearest]
    return item


class _Shelf:
    """Items of one kind, sorted by cluster and arrival, from which candidates are sampled."""

    def __init__(self, catalog: Catalog, evergreen: bool):
        items = np.flatnonzero(catalog.evergreen == evergreen)
        # Keys lie in [cluster, cluster + 1), so that one search finds the items of a cluster that have arrived.
        key = catalog.cluster[items] + _share_of_time(catalog.arrival[items].astype(np.float64))
        order = np.argsort(key, kind="stable")
        self.evergreen, self.items, self.key = evergreen, items[order].astype(np.int32), key[order]
        self.start = np.searchsorted(self.key, np.arange(CLUSTERS))
        self.life = _LIFE / (1 - FIRST_ARRIVAL) * np.bincount(catalog.cluster[items], minlength=CLUSTERS)

    def draw(self, cluster: np.ndarray, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return candidates (U, C) of each user's cluster (U,) that have arrived at its time (U,)."""
        start = self.start[cluster][:, None]
        end = np.searchsorted(self.key, cluster + _share_of_time(time.astype(np.float64)), side="right")[:, None]
        if self.evergreen:  # a few items get most impressions
            place = start + (end - start) * rng.random((len(cluster), _CANDIDATES)) ** 1.5
        else:
            place = end - 1 - self.life[cluster][:, None] * rng.exponential(1.0, (len(cluster), _CANDIDATES))
        return self.items[np.clip(place.astype(np.int64), start, end - 1)]


def _share_of_time(time: np.ndarray) -> np.ndarray:
    return (time - FIRST_ARRIVAL) / (1 - FIRST_ARRIVAL) * (1 - 1e-6)
