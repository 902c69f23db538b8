"""Published semantic IDs as torch tensors, for a serving host: Feast and torch, no Spark.

In: item or user IDs. Out: tensors of codes with the codebook version that they belong to; every batch is checked to come
from one release.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from feast import FeatureView
from torch import Tensor

from qarm_features.feature_store.feature_views import USER_VIEW, open_feature_store


class MixedReleaseError(RuntimeError):
    """One batch held codes of more than one codebook version."""


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
    """Behaviour sequences with their codes, the latest item last, padded at the end.

    Attributes:
        item_ids: (B, T) numpy array of item IDs; undefined where ``mask`` is False.
        codes: (B, T, L) int64, -1 where an item was not found and where ``mask`` is False.
        mask: (B, T) bool, True where a behaviour stands. T is the longest sequence of the batch.
        codebook_version: The release that all of the codes belong to.
    """

    item_ids: np.ndarray
    codes: Tensor
    mask: Tensor
    codebook_version: int


class SemanticIDReader:
    """Reads the release that is promoted now; each call follows a flip within the registry's cache time.

    Args:
        repo_path: Folder of ``feature_store.yaml``.
        service: ``item_semantic_id`` follows every flip. A model that trained on a codebook version names that
            release's view instead, ``item_semantic_id__cb<N>``, and stays on it.

    Raises:
        ValueError: The repo holds no such service or view.
    """

    def __init__(self, repo_path: str | Path, service: str = "item_semantic_id"):
        self._store = open_feature_store(repo_path)
        self._service = service
        self._pinned = "__cb" in service
        self._view()

    def item_codes(self, item_ids: Sequence[int | str]) -> ItemCodes:
        """Reads the codes of B items; an ID that occurs twice is fetched once.

        Args:
            item_ids: B item IDs of the catalog's type.

        Returns:
            ``codes`` (B, L), ``found`` (B,), ``codebook_version``.

        Raises:
            MixedReleaseError: Rows of more than one codebook version were read.
        """
        view = self._view()
        version, num_levels = int(view.tags["codebook_version"]), int(view.tags["num_levels"])
        unique: dict[int | str, int] = {}
        positions = [unique.setdefault(item_id, len(unique)) for item_id in item_ids]
        codes = np.full((len(unique), num_levels), -1, dtype=np.int64)
        found = np.zeros(len(unique), dtype=bool)
        if unique:
            features = [f"{view.name}:rq_codes", f"{view.name}:codebook_version"]
            rows = self._fetch(features, "item_id", list(unique))
            found = np.array([value is not None for value in rows["codebook_version"]])
            if found.any():
                served = {value for value in rows["codebook_version"] if value is not None}
                if served != {version}:
                    raise MixedReleaseError(
                        f"{view.name} served codebook versions {sorted(served)}, must be {version} alone. "
                        "Run: qarm publish-features"
                    )
                codes[found] = [value for value in rows["rq_codes"] if value is not None]
        codes, found = codes[positions], found[positions]
        return ItemCodes(torch.from_numpy(codes), torch.from_numpy(found), version)

    def behavior_codes(self, user_ids: Sequence[int | str], *, max_length: int | None = None) -> BehaviorCodes:
        """Reads the behaviour sequences of B users and the codes of all their items, in two round trips.

        Args:
            user_ids: B user IDs of the click log's type. A user without behaviour gets a row that is masked whole.
            max_length: Only the latest this many behaviours.

        Returns:
            ``item_ids`` (B, T), ``codes`` (B, T, L), ``mask`` (B, T), ``codebook_version``.
        """
        rows = self._fetch([f"{USER_VIEW}:behavior_item_ids"], "user_id", list(user_ids)) if len(user_ids) else None
        sequences = [list(ids or []) for ids in rows["behavior_item_ids"]] if rows else []
        if max_length is not None:
            sequences = [ids[max(0, len(ids) - max_length) :] for ids in sequences]
        lengths = np.array([len(ids) for ids in sequences], dtype=np.int64)
        mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
        flat = [item_id for ids in sequences for item_id in ids]
        items = self.item_codes(flat)
        codes = np.full((*mask.shape, items.codes.shape[-1]), -1, dtype=np.int64)
        codes[mask] = items.codes.numpy()
        item_ids = np.zeros(mask.shape, dtype=object if flat and isinstance(flat[0], str) else np.int64)
        item_ids[mask] = flat
        return BehaviorCodes(item_ids, torch.from_numpy(codes), torch.from_numpy(mask), items.codebook_version)

    def _view(self) -> FeatureView:
        """Returns the release's view: of the pinned name, or the one the service points at now."""
        try:
            name = self._service
            if not self._pinned:
                name = self._store.get_feature_service(name, allow_cache=True).feature_view_projections[0].name
            return self._store.registry.get_feature_view(name, self._store.project, allow_cache=True)
        except Exception as error:
            if "not exist" not in str(error):
                raise
            raise ValueError(
                f"service is {self._service}, must be a feature service or view of {self._store.project}. "
                "Run: qarm publish-features"
            ) from error

    def _fetch(self, features: list[str], key: str, ids: list[int | str]) -> dict[str, list]:
        return self._store.get_online_features(features, entity_rows={key: ids}).to_dict()
