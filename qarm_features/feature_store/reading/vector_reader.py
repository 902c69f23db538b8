"""Published vectors as torch tensors, for a serving host: item embeddings, VQ codes, embeddings of users.

In: item or user IDs. Out: tensors with the version of the encoder or bank that made them; every batch is checked to come from
one version. `SemanticIDReader` reads codes; this is its sibling.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from feast import FeatureView
from feast.protos.feast.types.Value_pb2 import Value
from torch import Tensor

from qarm_features.feature_store.reading.code_batches import MixedReleaseError, listed_ids
from qarm_features.feature_store.reading.online_rows import Row, RowQuery, open_online_rows
from qarm_features.feature_store.reading.served_release import ServedViews
from qarm_features.feature_store.reading.value_decoding import decode_float_lists, decode_lists
from qarm_features.feature_store.views.feature_views import open_feature_store

_EMBEDDING, _NEAREST, _USER = "item_embedding", "item_nearest_items", "user_embedding"


class ItemVectors(NamedTuple):
    """Embeddings of items.

    Attributes:
        vectors: (B, D) float32, zeros where an item was not found.
        found: (B,) bool.
        encoder_version: The encoder that made all of them.
    """

    vectors: Tensor
    found: Tensor
    encoder_version: int


class NearestItemsOfItems(NamedTuple):
    """VQ codes of items, the nearest item first, padded at the end.

    Attributes:
        item_ids: (B, k) numpy array of item IDs; undefined where ``mask`` is False. k is the longest VQ code of the batch.
        similarities: (B, k) float32, 0 where ``mask`` is False.
        mask: (B, k) bool, True where an item stands.
        found: (B,) bool.
        bank_version: The bank that all of them were found in.
    """

    item_ids: np.ndarray
    similarities: Tensor
    mask: Tensor
    found: Tensor
    bank_version: int


class UserVectors(NamedTuple):
    """Embeddings of users.

    Attributes:
        vectors: (B, D) float32, zeros where a user was not found; D is 0 where none was.
        found: (B,) bool.
    """

    vectors: Tensor
    found: Tensor


class VectorReader:
    """Reads the vectors that are published with the release; each call follows a flip within the registry's cache time.

    Any number of threads may use one reader. After a fork, each process makes its own.

    Args:
        repo_path: Folder of ``feature_store.yaml``.
        embeddings: ``item_embedding`` follows every flip; a model that trained on one encoder's embeddings names
            ``item_embedding__enc<N>`` and stays on it.
        nearest_items: Likewise ``item_nearest_items``, or ``item_nearest_items__bank<N>``.
        timeout: Seconds that the online store may take for one round trip; None leaves it to the store's own client.
    """

    def __init__(
        self,
        repo_path: str | Path,
        *,
        embeddings: str = _EMBEDDING,
        nearest_items: str = _NEAREST,
        timeout: float | None = None,
    ):
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout is {timeout}, must be above 0 seconds, or None.")
        self._store = open_feature_store(repo_path)
        self._embeddings = ServedViews(self._store, embeddings)
        self._nearest = ServedViews(self._store, nearest_items)
        self._users = ServedViews(self._store, _USER, is_view=True)
        self._rows = open_online_rows(self._store.config, timeout)

    def item_vectors(self, item_ids: Sequence[int | str]) -> ItemVectors:
        """Reads the embeddings of B items in one round trip; an ID that occurs twice is fetched once.

        Raises:
            ValueError: Embeddings are not published.
            MixedReleaseError: A row of another encoder version was read.
        """
        view = self._embeddings.current()
        rows, places = self._read(view, ("embedding", "encoder_version"), item_ids, "item_ids")
        version = _one_version(view, rows, "encoder_version")
        vectors, found = _vectors(view, [row if row[1] else (None, None) for row in rows], int(view.tags["dim"]))
        return ItemVectors(torch.from_numpy(vectors[places]), torch.from_numpy(found[places]), version)

    def nearest_items(self, item_ids: Sequence[int | str]) -> NearestItemsOfItems:
        """Reads the VQ codes of B items in one round trip; an ID that occurs twice is fetched once.

        Raises:
            ValueError: VQ codes are not published.
            MixedReleaseError: A row of another bank version was read.
        """
        view = self._nearest.current()
        rows, places = self._read(view, ("vq_codes", "vq_similarities", "bank_version"), item_ids, "item_ids")
        version = _one_version(view, rows, "bank_version")
        found = np.array([all(value is not None for value in row) for row in rows], bool)
        whole = [row for row, is_found in zip(rows, found, strict=True) if is_found]
        lists, (flat, counts) = decode_lists([row[0] for row in whole]), decode_float_lists([row[1] for row in whole])
        if [len(one) for one in lists] != counts.tolist():
            raise MixedReleaseError(f"{view.name} served VQ codes of two loads at once. Run: qarm publish-features")
        lengths = np.zeros(len(rows), np.int64)
        lengths[found] = counts
        mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
        ids = [one for codes in lists for one in codes]
        items = np.zeros(mask.shape, dtype=object if ids and isinstance(ids[0], str) else np.int64)
        similarities = np.zeros(mask.shape, np.float32)
        items[mask], similarities[mask] = ids, flat
        tensors = [torch.from_numpy(one[places]) for one in (similarities, mask, found)]
        return NearestItemsOfItems(items[places], *tensors, version)

    def user_vectors(self, user_ids: Sequence[int | str]) -> UserVectors:
        """Reads the newest embeddings of B users in one round trip; an ID that occurs twice is fetched once.

        Raises:
            ValueError: ``publishing.user_embeddings`` is not published.
        """
        view = self._users.current()
        rows, places = self._read(view, (_USER,), user_ids, "user_ids")
        vectors, found = _vectors(view, rows, None)
        return UserVectors(torch.from_numpy(vectors[places]), torch.from_numpy(found[places]))

    def close(self) -> None:
        """Closes the connections to the online store."""
        self._rows.close()

    def _read(self, view: FeatureView, features: tuple[str, ...], ids: Sequence[int | str], name: str):
        """Returns a row per distinct ID, and the row of each of the B IDs."""
        asked = listed_ids(ids, name, view)
        places = {one: place for place, one in enumerate(dict.fromkeys(asked))}
        rows = self._rows.fetch(RowQuery(view, features, list(places))) if places else []
        return rows, np.fromiter((places[one] for one in asked), np.int64, len(asked))


def _vectors(view: FeatureView, rows: Sequence[Row], dim: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns vectors (n, D) and found (n,) of rows whose first value is a list of floats."""
    found = np.array([bool(row[0]) for row in rows], bool)
    flat, counts = decode_float_lists([row[0] for row in rows if row[0]])
    dim = int(counts.max(initial=0)) if dim is None else dim
    if (counts != dim).any():
        raise MixedReleaseError(
            f"{view.name} served {counts[counts != dim][0]} numbers for a vector, must be {dim}. "
            "Run: qarm publish-features"
        )
    vectors = np.zeros((len(rows), dim), np.float32)
    vectors[found] = flat.reshape(-1, dim)
    return vectors, found


def _one_version(view: FeatureView, rows: Sequence[Row], name: str) -> int:
    """Returns the version that the view and all of its rows carry."""
    expected = int(view.tags[name])
    served = {Value.FromString(version).int32_val for version in {row[-1] for row in rows if row[-1]}}
    if served - {expected}:
        raise MixedReleaseError(
            f"{view.name} served {name} {sorted(served)}, must be {expected} alone. Run: qarm publish-features"
        )
    return expected
