"""The analysis of EM3: similarity of an item and its neighbors in a trained embedding, by content and by users.

In: trained models. Out: for each embedding, the content similarity of few-click items and their nearest items, and the
share of users who liked both a popular item and its nearest items.

Source: EM3, arXiv 2404.06078, section 4: content similarity of long-tail items, behavior similarity of popular ones.
"""

from __future__ import annotations

import numpy as np
import torch
from ranking_project.world import World
from scipy.sparse import csr_array

from qarm_features.ranking import RankingModel

NEIGHBORS = 10
_FEW, _POPULAR_SHARE = 5, 0.25


class Neighbors:
    """Measures of the neighbors of items with positives in the train split.

    Args:
        world: Data that the models are trained on.
        content: (I + 1, D) float vectors of a frozen backbone that no ranking model has read.
    """

    def __init__(self, world: World, content: np.ndarray) -> None:
        liked = np.asarray(world.counts[0])
        self.items = np.flatnonzero(liked > 0)
        liked = liked[self.items]
        self._few, self._popular = liked <= _FEW, liked >= np.quantile(liked, 1 - _POPULAR_SHARE)
        self._alike = _cosines(content[self.items])
        self._together = _co_clicks(world)[self.items][:, self.items].toarray()

    def of_model(self, model: RankingModel) -> dict[str, dict[str, float]]:
        """Measure the nearest items in a model's item-ID embedding and, where it has one, in its content embedding."""
        return {name: self._measure(_nearest(rows)) for name, rows in embeddings(model, self.items).items()}

    def at_random(self) -> dict[str, float]:
        """Measure random neighbors."""
        return self._measure(np.random.default_rng(0).integers(0, len(self.items), (len(self.items), NEIGHBORS)))

    def _measure(self, nearest: np.ndarray) -> dict[str, float]:
        """Return means over items and their neighbors (I, 10).

        ``few_content`` is the cosine of frozen vectors, for items with at most 5 training positives. ``popular_clicks`` is
        the cosine of the sets of users who liked the items, for the quarter of items with the most positives.
        """
        few, popular = self._of_each_item(nearest)
        return {"few_content": float(few.mean()), "popular_clicks": float(popular.mean())}

    def of_items(self, model: RankingModel) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return by embedding the two figures of each item: of the few-click items, and of the popular items."""
        return {name: self._of_each_item(_nearest(rows)) for name, rows in embeddings(model, self.items).items()}

    def _of_each_item(self, nearest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        few = np.take_along_axis(self._alike, nearest, 1)[self._few].mean(axis=1)
        return few, np.take_along_axis(self._together, nearest, 1)[self._popular].mean(axis=1)


def interval_of_difference(
    one: np.ndarray, other: np.ndarray, *, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95% interval of mean(one) - mean(other) over redrawn items, for figures (I,) of the same items."""
    rng, gaps = np.random.default_rng(seed), one - other
    means = gaps[rng.integers(0, len(gaps), (draws, len(gaps)))].mean(axis=1)
    return tuple(np.quantile(means, [0.025, 0.975]))


@torch.no_grad()
def embeddings(model: RankingModel, items: np.ndarray) -> dict[str, np.ndarray]:
    """Return the embeddings (I, D) of items by name. In ``both`` each part has unit norm."""
    index = torch.from_numpy(items)
    model.eval()
    parts = {"item ID": model.items.item_ids(index)}
    (known,) = model.items.look_up([index], model.item_features)
    if known.content.shape[1]:
        content = known.content
        parts["content"] = model.items.content_as_id(content) if model.config.has_content_id_map else content
        parts["both"] = torch.cat([torch.nn.functional.normalize(part, dim=1) for part in parts.values()], dim=1)
    return {name: part.numpy() for name, part in parts.items()}


def _nearest(embedding: np.ndarray) -> np.ndarray:
    cosine = _cosines(embedding)
    np.fill_diagonal(cosine, -np.inf)
    return np.argpartition(-cosine, NEIGHBORS, axis=1)[:, :NEIGHBORS]


def _cosines(rows: np.ndarray) -> np.ndarray:
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit @ unit.T


def _co_clicks(world: World) -> csr_array:
    """Return (I + 1, I + 1) cosines between the sets of users who liked each item."""
    rows = world.rows["train"]
    liked = (rows.label > 0).numpy()
    _, user = np.unique(rows.user_group.numpy()[liked], return_inverse=True)
    item = rows.item_index.numpy()[liked]
    who = csr_array((np.ones(len(item)), (item, user)), shape=(len(world.counts[0]), user.max() + 1))
    who.data[:] = 1.0  # a user who liked an item twice counts once
    norm = 1 / np.sqrt(np.maximum(who.sum(axis=1), 1))
    who = csr_array(who.multiply(norm[:, None]))
    return csr_array(who @ who.T)
