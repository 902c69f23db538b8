"""The catalog of the world: arrival times of items, their content from an encoder, and the qualities that users like.

In: a seed and the strength of the nuisance. Out: a ``Catalog``.

The true content of an item is one of 45 clusters and a place in a disc around the cluster's center. Five clusters each have
one of nine parents, near which their centers lie. The largest cluster has seven times the items of the smallest. Models
quantize by other numbers of codes (``ideas``).
The frozen content is a rotation of [true content, nuisance]. The nuisance has a few dimensions and, at strength 6, 36 times
the variance of the true content. Each item has 4 tokens, and the frozen content is their mean. One token has a mark, and a
number in it is the item's hidden quality. The mark and the number cancel out in the mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CLUSTERS, PARENTS, GROUPS, TOKENS = 45, 9, 4, 4
CENTER_DIM, PLACE_DIM, NUISANCE_DIM, TOKEN_DIM = 24, 2, 8, 8
FIRST_ARRIVAL = -0.1  # the timeline is [0, 1)
EVERGREEN_SHARE = 0.1
SHARES = (np.arange(CLUSTERS) + 4.0) ** -0.8  # of the items, by cluster
SHARES /= SHARES.sum()
_CHILD, _RADIUS, _NOISE, _MARK = 0.8, 0.5, 0.02, 2.0  # _CHILD: distance of a cluster from its parent
_WAVES, _FINE_FREQUENCY, _LOCAL_FREQUENCY = 12, 2.5, 3.5


class Strengths(NamedTuple):
    """Standard deviations of the parts of the true logit, and of the nuisance, each at least 0.

    Attributes:
        popularity: Effect of evergreen items, which only the item's ID reveals.
        coarse: Effect of the cluster, the same for all users.
        taste: Effect of the cluster, different for each group of users.
        fine: Effect of the place in the disc, the same in all clusters.
        local: Effect of the place in the disc, different in each cluster.
        match: Effect of the user's latest labels in the target's cluster.
        hidden: Effect of the number in the marked token.
        nuisance: Standard deviation of the nuisance in the frozen content. That of the true content is 1.
    """

    popularity: float = 0.0
    coarse: float = 0.0
    taste: float = 0.0
    fine: float = 0.0
    local: float = 0.0
    match: float = 0.0
    hidden: float = 0.0
    nuisance: float = 0.0


class Catalog(NamedTuple):
    """A catalog of I items.

    Attributes:
        arrival: (I,) float32 arrival times, below 0 or in [0, 1). Evergreen items are there from the start.
        evergreen: (I,) bool, True for evergreen items.
        cluster: (I,) int64 clusters in [0, 45).
        place: (I, 2) float32 places in the unit disc.
        true_content: (I, 26) float32 true content.
        tokens: (I, 4, 42) float32 tokens. Their mean is the frozen content.
        liking: (4, 45) float32 preference of each group of users for each cluster, with mean 0 over the groups and standard
            deviation 1.
        qualities: (I, 5) float32 popularity, coarse, fine, local and hidden, each with standard deviation 1.
    """

    arrival: np.ndarray
    evergreen: np.ndarray
    cluster: np.ndarray
    place: np.ndarray
    true_content: np.ndarray
    tokens: np.ndarray
    liking: np.ndarray
    qualities: np.ndarray

    @property
    def frozen_content(self) -> np.ndarray:
        """Item embeddings (I, 42) float32 of a frozen encoder without alignment."""
        return self.tokens.mean(axis=1)


def make_catalog(num_items: int, *, nuisance: float, seed: int) -> Catalog:
    """Make at least 128 items. All but their frozen content is the same for every nuisance."""
    rng = np.random.default_rng([seed, 0])
    arrival, evergreen, cluster = _arrivals(num_items, rng)
    angle, radius = rng.uniform(0, 2 * np.pi, num_items), np.sqrt(rng.random(num_items))
    place = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    parents, children = _unit(rng.normal(size=(PARENTS, CENTER_DIM))), _unit(rng.normal(size=(CLUSTERS, CENTER_DIM)))
    centers = _unit(parents[np.arange(CLUSTERS) % PARENTS] + _CHILD * children)
    true_content = np.concatenate([centers[cluster], _RADIUS * place], axis=1)
    true_content = true_content + _NOISE * rng.normal(size=true_content.shape)
    liking = rng.normal(size=(GROUPS, CLUSTERS))
    local = _waves(place, cluster, CLUSTERS, _LOCAL_FREQUENCY, rng)
    qualities = {
        "popularity": _standardized(rng.normal(size=num_items), evergreen) * evergreen,
        "coarse": _standardized(rng.normal(size=CLUSTERS)[cluster]),
        "fine": _standardized(_waves(place, np.zeros(num_items, int), 1, _FINE_FREQUENCY, rng)),
        "local": _standardized(local - (np.bincount(cluster, local) / np.bincount(cluster))[cluster]),
        "hidden": rng.normal(size=num_items),
    }
    unwanted = nuisance / np.sqrt(NUISANCE_DIM) * rng.normal(size=(num_items, NUISANCE_DIM))
    content = np.concatenate([true_content, unwanted], axis=1)
    return Catalog(
        arrival=arrival.astype(np.float32),
        evergreen=evergreen,
        cluster=cluster,
        place=place.astype(np.float32),
        true_content=true_content.astype(np.float32),
        tokens=_tokens(content, qualities["hidden"], rng),
        liking=_standardized(liking - liking.mean(axis=0)).astype(np.float32),
        qualities=np.stack(list(qualities.values()), axis=1).astype(np.float32),
    )


def _arrivals(num_items: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return arrival, evergreen and cluster (I,). Each cluster has an item of each kind from the start."""
    cluster = np.arange(num_items) % CLUSTERS
    cluster[2 * CLUSTERS :] = rng.choice(CLUSTERS, num_items - 2 * CLUSTERS, p=SHARES)
    evergreen = rng.random(num_items) < EVERGREEN_SHARE
    evergreen[: 2 * CLUSTERS] = np.arange(2 * CLUSTERS) < CLUSTERS
    arrival = rng.uniform(FIRST_ARRIVAL, 1, num_items)
    arrival[: 2 * CLUSTERS] = FIRST_ARRIVAL
    arrival[evergreen] = FIRST_ARRIVAL
    order = rng.permutation(num_items)
    return arrival[order], evergreen[order], cluster[order]


def _tokens(content: np.ndarray, number: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return rotated tokens (I, N, D). Before the rotation their mean is the content (I, D) followed by zeros."""
    own = rng.normal(size=(len(content), TOKENS, TOKEN_DIM))
    marked = rng.integers(0, TOKENS, len(content))
    every = np.arange(len(content))
    own[every, marked, 1] = 0
    others = own[:, :, 1].sum(1) / (TOKENS - 1)
    own[:, :, 1] -= ((number / (TOKENS - 1)) + others)[
        :, None
    ]  # the other tokens add up to minus the number of the marked one
    own[every, marked, 1] = number
    own[:, :, 0] = -_MARK / TOKENS
    own[every, marked, 0] += _MARK
    own[:, :, 2:] -= own[:, :, 2:].mean(axis=1, keepdims=True)
    whole = np.concatenate([np.repeat(content[:, None], TOKENS, axis=1), own], axis=2)
    turn, _ = np.linalg.qr(rng.normal(size=(whole.shape[2], whole.shape[2])))
    return (whole.astype(np.float32) @ turn.astype(np.float32)).astype(np.float32)


def _waves(
    place: np.ndarray, owner: np.ndarray, num_owners: int, frequency: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the value (I,) of the owner's smooth random function at each place (I, 2)."""
    wave = frequency * rng.normal(size=(num_owners, _WAVES, 2))
    phase = rng.uniform(0, 2 * np.pi, (num_owners, _WAVES))
    return np.cos(np.einsum("id,iwd->iw", place, wave[owner]) + phase[owner]).sum(axis=1)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _standardized(values: np.ndarray, among: np.ndarray | slice = slice(None)) -> np.ndarray:
    return (values - values[among].mean()) / values[among].std()
