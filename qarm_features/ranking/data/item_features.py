"""Item features: all that is known of items beside their codes, by item index. Training does not change them.

In: memory-mapped or in-memory arrays in the order of the item indexes, or a content store. Out: the rows of the distinct
items of a batch. Indexes above the model's num_items are items without an ID embedding: they came after the model was
trained, and their content is known (``ItemVocabulary.extended``).
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from qarm_features.ranking.data.item_content_store import ContentTokens


class ContentStore(Protocol):
    """A source of content tokens by row: an ``ItemContentStore``, or ``TokensInMemory``.

    A store whose values are zeros where masked may say so by an attribute ``zeros_where_masked`` that is True. Training is
    then faster.
    """

    token_dims: Mapping[str, int]

    def gather_modalities(self, rows: np.ndarray) -> Mapping[str, ContentTokens]:
        """Returns tokens and masks by modality.

        Args:
            rows: (U,) int64 rows of the store, at least 0.
        """


class TokensInMemory:
    """Holds content tokens in memory.

    Args:
        tokens: Values (n, N, D) float and mask (n, N) bool by modality.

    Example:
        >>> store = TokensInMemory({"text": (torch.ones(5, 2, 3), torch.ones(5, 2, dtype=torch.bool))})
        >>> store.token_dims
        {'text': 3}
    """

    def __init__(self, tokens: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        self.tokens = {
            name: (torch.as_tensor(values), torch.as_tensor(mask)) for name, (values, mask) in tokens.items()
        }
        self.token_dims = {name: values.shape[2] for name, (values, _) in self.tokens.items()}

    def gather_modalities(self, rows: np.ndarray) -> dict[str, ContentTokens]:
        """Returns tokens (U, N, D) and masks (U, N) by modality.

        Args:
            rows: (U,) int64 rows of the arrays, at least 0.
        """
        places = torch.as_tensor(rows)
        return {
            name: ContentTokens(values[places].float(), mask[places]) for name, (values, mask) in self.tokens.items()
        }


class ItemFeatures:
    """Holds what is known of I items by item index in [0, I]; row 0 stands for an unknown item.

    Args:
        nearest_items: (I + 1, k) int64 item indexes of the VQ codes, 0 = missing.
        nearest_distances: (I + 1, k) float distances to these items; None weights them all alike.
        vectors: (I + 1, D) float frozen content vectors, an array or a memory map; a row of zeros for an item without one.
        content: Store of the content tokens.
        content_rows: (I + 1,) int64 rows of the content store; -1 for an item without content.

    Raises:
        ValueError: If two arrays differ in I, or only one of content and content_rows is given.

    Example:
        >>> features = ItemFeatures(vectors=np.zeros((4, 8), dtype=np.float32))
        >>> features.num_items
        3
    """

    def __init__(
        self,
        *,
        nearest_items: np.ndarray | Tensor | None = None,
        nearest_distances: np.ndarray | Tensor | None = None,
        vectors: np.ndarray | Tensor | None = None,
        content: ContentStore | None = None,
        content_rows: np.ndarray | Tensor | None = None,
    ) -> None:
        if (content is None) != (content_rows is None):
            missing = "content" if content is None else "content_rows"
            raise ValueError(f"{missing} is missing. Give content and content_rows together.")
        arrays = {
            "nearest_items": nearest_items,
            "nearest_distances": nearest_distances,
            "vectors": vectors,
            "content_rows": content_rows,
        }
        sizes = {name: len(array) for name, array in arrays.items() if array is not None}
        if len(set(sizes.values())) > 1:
            said = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ValueError(
                f"The arrays have different numbers of rows ({said}). Give each of them one row per item index."
            )
        self.num_items = next(iter(sizes.values()), 1) - 1
        self.nearest_items, self.nearest_distances, self.vectors = nearest_items, nearest_distances, vectors
        self.content = content
        self.content_rows = None if content_rows is None else np.asarray(content_rows)
        self.fused: Tensor | None = None  # (I + 1, D) content that was fused once and takes the place of content tokens

    def check(self, *, nearest_items: bool, vector_dim: int | None, token_dims: Mapping[str, int] | None) -> None:
        """Refuses features that lack what a model reads.

        Args:
            nearest_items: True for a model that reads VQ codes.
            vector_dim: D of the frozen vectors; None for a model that reads none.
            token_dims: D of the content tokens by modality; None for a model that reads none.

        Raises:
            ValueError: If something is missing or has another width.
        """
        if nearest_items and self.nearest_items is None:
            raise ValueError("use_nearest_items needs nearest_items. Give them to ItemFeatures.")
        if vector_dim is not None:
            found = None if self.vectors is None else self.vectors.shape[1]
            if found != vector_dim:
                raise ValueError(
                    f"vectors have D = {found}, must be vector_dim = {vector_dim}. Give the vectors the model was built for."
                )
        if token_dims is not None and self.fused is None:
            found = None if self.content is None else dict(self.content.token_dims)
            if found != dict(token_dims):
                raise ValueError(
                    f"content has token_dims = {found}, must be {dict(token_dims)}. Open the store the model was built for."
                )

    def content_and_rows(self) -> tuple[ContentStore, np.ndarray]:
        """Returns the content store and, by item index, the rows (I + 1,) int64 of it.

        Raises:
            ValueError: If there is no content store.
        """
        if self.content is None or self.content_rows is None:
            raise ValueError("The item features hold no content tokens. Give content and content_rows to ItemFeatures.")
        return self.content, self.content_rows

    def mean_vector(self, *, most_rows: int = 100_000) -> Tensor:
        """Returns the mean (D,) float32 of the vectors that are not zeros, over evenly spaced rows.

        Args:
            most_rows: Largest number of rows to read, at least 1.
        """
        assert self.vectors is not None, "only a model that reads vectors asks for their mean"
        sample = self.vectors[:: -(-len(self.vectors) // most_rows)]
        # A memory map is copied, because torch refuses memory that cannot be written to.
        rows = (sample if isinstance(sample, Tensor) else torch.from_numpy(np.array(sample))).float()
        rows = rows[rows.any(dim=1)]
        return rows.mean(dim=0) if len(rows) else torch.zeros(self.vectors.shape[1])

    def rows(self, name: str, index: Tensor) -> Tensor:
        """Returns the rows of one array, (U, ...) on the device of the indexes; zeros for indexes beyond I.

        Args:
            name: Name of the array.
            index: (U,) int64 item indexes, at least 0, best without repeats.
        """
        array = getattr(self, name)
        known = (index <= self.num_items).cpu().numpy()
        places = np.where(known, index.cpu().numpy(), 0)
        if isinstance(array, Tensor):
            rows = array[torch.from_numpy(places)]
        else:
            rows = torch.from_numpy(np.ascontiguousarray(array[places]))
        rows = rows.to(index.device)
        return rows if known.all() else rows.masked_fill(~torch.from_numpy(known).to(rows.device).unsqueeze(1), 0)
