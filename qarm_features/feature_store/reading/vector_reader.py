"""A reader of published vectors as torch tensors, for a serving host: item embeddings, VQ codes, embeddings of users.

In: item or user IDs. Out: tensors with the version of the encoder or bank that made them. Every batch is checked to come from
one version. ``SemanticIDReader`` reads codes.
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

from qarm_features.feature_store.reading.code_batches import MixedReleaseError
from qarm_features.feature_store.reading.online_rows import open_online_rows
from qarm_features.feature_store.reading.requested_ids import IDs, RequestedID, listed_ids
from qarm_features.feature_store.reading.row_queries import Row, RowQuery
from qarm_features.feature_store.reading.served_release import ServedViews
from qarm_features.feature_store.reading.value_decoding import decode_float_lists, decode_lists
from qarm_features.feature_store.views.feature_views import READER_WAIT_SECONDS, open_feature_store

_EMBEDDING, _NEAREST, _USER = "item_embedding", "item_nearest_items", "user_embedding"


class ItemVectors(NamedTuple):
    """Embeddings of items.

    Attributes:
        vectors: (B, D) float32, zeros where an item was not found.
        found: (B,) bool, True where the item has an embedding.
        encoder_version: Version of the encoder that made all vectors.
    """

    vectors: Tensor
    found: Tensor
    encoder_version: int


class NearestItemsOfItems(NamedTuple):
    """VQ codes of items, the nearest item first, padded at the end.

    Attributes:
        item_ids: (B, k) numpy array of item IDs, undefined where ``mask`` is False. k is the longest VQ code of the batch.
        similarities: (B, k) float32, 0 where ``mask`` is False.
        mask: (B, k) bool, True where an item stands.
        found: (B,) bool, True where the item has a VQ code.
        bank_version: Version of the bank in which all nearest items were found.
    """

    item_ids: np.ndarray
    similarities: Tensor
    mask: Tensor
    found: Tensor
    bank_version: int


class UserVectors(NamedTuple):
    """Embeddings of users.

    Attributes:
        vectors: (B, D) float32, zeros where a user was not found. D is 0 if no user of the batch was found.
        found: (B,) bool, True where the user has an embedding.
    """

    vectors: Tensor
    found: Tensor


class VectorReader:
    """Reads the vectors that are published with the release. Each call follows a flip within the registry's cache time.

    Any number of threads may use one reader. After a fork, each process must make its own.

    Args:
        repo_path: Folder of ``feature_store.yaml``.
        embeddings: Source of embeddings. ``item_embedding`` follows every flip. A model that was trained on the embeddings
            of one encoder names ``item_embedding__enc<N>`` and stays on it.
        nearest_items: Source of VQ codes. ``item_nearest_items`` follows every flip, ``item_nearest_items__bank<N>`` does
            not.
        timeout: Time limit for one round trip to the online store in seconds; None leaves it to the store's own client.

    Example:
        The setting ``publishing.embeddings`` publishes embeddings::

            reader = VectorReader("my_project/feature_repo")
            batch = reader.item_vectors([50, 181])  # batch.vectors (2, D), batch.found (2,), batch.encoder_version
    """

    def __init__(
        self,
        repo_path: str | Path,
        *,
        embeddings: str = _EMBEDDING,
        nearest_items: str = _NEAREST,
        timeout: float | None = None,
    ) -> None:
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout is {timeout}, must be above 0 seconds, or None.")
        self._store = open_feature_store(repo_path, wait_seconds=READER_WAIT_SECONDS)
        self._embeddings = ServedViews(self._store, embeddings)
        self._nearest = ServedViews(self._store, nearest_items)
        self._users = ServedViews(self._store, _USER, is_view=True)
        self._rows = open_online_rows(self._store.config, timeout)

    def item_vectors(self, item_ids: IDs) -> ItemVectors:
        """Read the embeddings of B items in one round trip. An ID that occurs twice is read once.

        Raises:
            ValueError: Embeddings are not published.
            MixedReleaseError: The store returned a row of another encoder version.
        """
        view = self._embeddings.current()
        rows, positions = self._read(view, ("embedding", "encoder_version"), item_ids, "item_ids")
        version = _one_version(view, rows, "encoder_version")
        vectors, found = _vectors(view, [row if row[1] else (None, None) for row in rows], int(view.tags["dim"]))
        return ItemVectors(torch.from_numpy(vectors[positions]), torch.from_numpy(found[positions]), version)

    def nearest_items(self, item_ids: IDs) -> NearestItemsOfItems:
        """Read the VQ codes of B items in one round trip. An ID that occurs twice is read once.

        Raises:
            ValueError: VQ codes are not published.
            MixedReleaseError: The store returned a row of another bank version.
        """
        view = self._nearest.current()
        rows, positions = self._read(view, ("vq_codes", "vq_similarities", "bank_version"), item_ids, "item_ids")
        version = _one_version(view, rows, "bank_version")
        found = np.array([all(value is not None for value in row) for row in rows], bool)
        codes = [row[0] for row in rows if row[0] is not None and None not in row]
        similarities = [row[1] for row in rows if row[1] is not None and None not in row]
        lists, (flat, counts) = decode_lists(codes), decode_float_lists(similarities)
        if [len(one) for one in lists] != counts.tolist():
            raise MixedReleaseError(f"{view.name} served VQ codes of two loads in one row. Run: qarm publish-features")
        lengths = np.zeros(len(rows), np.int64)
        lengths[found] = counts
        mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
        ids = [item_id for one in lists for item_id in one]
        padded_ids = np.zeros(mask.shape, dtype=object if ids and isinstance(ids[0], str) else np.int64)
        padded_similarities = np.zeros(mask.shape, np.float32)
        padded_ids[mask], padded_similarities[mask] = ids, flat
        return NearestItemsOfItems(
            item_ids=padded_ids[positions],
            similarities=torch.from_numpy(padded_similarities[positions]),
            mask=torch.from_numpy(mask[positions]),
            found=torch.from_numpy(found[positions]),
            bank_version=version,
        )

    def user_vectors(self, user_ids: IDs) -> UserVectors:
        """Read the newest embeddings of B users in one round trip. An ID that occurs twice is read once.

        Raises:
            ValueError: ``publishing.user_embeddings`` is not published.
        """
        view = self._users.current()
        rows, positions = self._read(view, (_USER,), user_ids, "user_ids")
        vectors, found = _vectors(view, rows, None)
        return UserVectors(torch.from_numpy(vectors[positions]), torch.from_numpy(found[positions]))

    def close(self) -> None:
        """Close the connections to the online store."""
        self._rows.close()

    def _read(
        self, view: FeatureView, features: tuple[str, ...], ids: IDs, name: str
    ) -> tuple[Sequence[Row], np.ndarray]:
        """Return one row per distinct ID, and for each of the B IDs the position (B,) of its row.

        The last row has no values and stands for missing IDs.
        """
        listed = listed_ids(ids, name, view)
        unique = [entity_id for entity_id in dict.fromkeys(listed) if entity_id is not None]
        positions: dict[RequestedID, int] = {entity_id: position for position, entity_id in enumerate(unique)}
        rows = self._rows.fetch(RowQuery(view, features, unique)) if unique else []
        places = (positions.get(entity_id, len(unique)) for entity_id in listed)
        return [*rows, (None,) * len(features)], np.fromiter(places, np.int64, len(listed))


def _vectors(view: FeatureView, rows: Sequence[Row], dim: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors (n, D) and found (n,) of rows whose first value is a list of floats."""
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
    """Return the version of the view, after a check that all of its rows have it."""
    expected = int(view.tags[name])
    served = {Value.FromString(version).int32_val for version in {row[-1] for row in rows if row[-1]}}
    if served - {expected}:
        raise MixedReleaseError(
            f"{view.name} served {name} {sorted(served)}, must be {expected} alone. Run: qarm publish-features"
        )
    return expected
