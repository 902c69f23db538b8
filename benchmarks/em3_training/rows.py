"""Rows and item features of the shape of a project: 3,255 items of 16 tokens of 384 numbers, and 50 behaviors at most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from qarm_features.ranking import ItemFeatures, RankingBatch, write_item_content

NUM_ITEMS, NUM_KNOWN, TOKENS, WIDTH, LENGTH, LEVELS, CODES, NEAREST = 3255, 3050, 16, 384, 50, 3, 64, 25


def item_features(folder: Path, rng: np.random.Generator, *, items_per_content: int = 1) -> ItemFeatures:
    """Write a content store and return the features of all items: content tokens, unit vectors and VQ codes.

    Args:
        folder: Folder of the store.
        rng: Generator of random numbers.
        items_per_content: Number of items that have the same tokens, each in a row of its own.
    """
    tokens = rng.normal(size=(NUM_ITEMS, TOKENS, WIDTH)).astype(np.float16)
    mask = np.arange(TOKENS) < rng.integers(TOKENS // 2, 2 * TOKENS, NUM_ITEMS)[:, None]  # two thirds are full
    first = first_rows(items_per_content)
    tokens, mask = tokens[first], mask[first]
    vectors = rng.normal(size=(NUM_ITEMS + 1, WIDTH)).astype(np.float32)
    vectors[0] = 0
    return ItemFeatures(
        vectors=vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9),
        content=write_item_content(folder, np.arange(NUM_ITEMS), {"text": (tokens, mask)}),
        content_rows=np.arange(-1, NUM_ITEMS),
        nearest_items=rng.integers(0, NUM_KNOWN + 1, (NUM_ITEMS + 1, NEAREST)),
        nearest_distances=rng.random((NUM_ITEMS + 1, NEAREST)).astype(np.float32),
    )


def first_rows(items_per_content: int) -> np.ndarray:
    """Return the row (n,) of the first item with the same content as each item."""
    return np.arange(NUM_ITEMS) % -(-NUM_ITEMS // items_per_content)


def random_rows(number: int, rng: np.random.Generator) -> RankingBatch:
    """Return rows whose items are drawn by Zipf's law with the exponent .6, and whose pasts are of any length."""
    chance = 1 / np.arange(1, NUM_ITEMS + 1) ** 0.6

    def items(*shape: int) -> torch.Tensor:
        return 1 + torch.from_numpy(rng.choice(NUM_ITEMS, size=shape, p=chance / chance.sum()))

    codes = torch.from_numpy(rng.integers(0, CODES, (NUM_ITEMS + 1, LEVELS)))
    mask = torch.arange(LENGTH) < torch.from_numpy(rng.integers(1, LENGTH + 1, number)).unsqueeze(1)
    target, behavior, impression = items(number), items(number, LENGTH) * mask, items(number, LENGTH) * mask
    age = torch.from_numpy(rng.random((number, LENGTH)).astype(np.float32)) * 30 * mask
    return RankingBatch(
        item_index=target,
        item_codes=codes[target],
        behavior_index=behavior,
        behavior_codes=codes[behavior],
        behavior_mask=mask,
        label=torch.from_numpy(rng.integers(0, 2, number).astype(np.float32)),
        user_group=torch.arange(number),
        behavior_age=age,
        impression_index=impression,
        impression_codes=codes[impression],
        impression_label=torch.from_numpy(rng.integers(0, 2, (number, LENGTH))) * mask,
        impression_age=age,
        impression_mask=mask,
        counters=torch.from_numpy(rng.integers(0, 50, (number, 2))).repeat_interleave(2, dim=1)
        * torch.tensor([1.0, 3] * 2),
    )
