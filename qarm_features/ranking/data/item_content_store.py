"""Frozen content tokens of the catalog in memory-mapped files, of which a batch reads only its own items.

In: a folder. Out: tokens and masks of some items as tensors, one block per modality. ::

    content.json          number of items n, and N and D of each modality
    item_ids.npy          (n,) ascending, int64 or bytes of fixed width (UTF-8)
    first_rows.npy        (n,) int64 row of the first item with the same content; absent if each row stands for itself
    <modality>.tokens.npy (n, N, D) float16 or float32, tokens first, then zeros
    <modality>.mask.npy   (n, N) bool

The tokens come from backbones that stay frozen, so each item is encoded once, ahead of training
(EM3, arXiv 2404.06078, section 3.2). ``qarm write-content-tokens`` does so for a whole catalog.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qarm_features.storage.copies import local_folder

CONTENT, ITEM_IDS, FIRST_ROWS = "content.json", "item_ids.npy", "first_rows.npy"


class ContentTokens(NamedTuple):
    """Tokens of one modality, as ``FusionQFormer`` takes them.

    Attributes:
        values: (U, N, D) float32, zeros where there is no token.
        mask: (U, N) bool, True where there is a token.

    Example:
        >>> tokens = ContentTokens(values=torch.zeros(2, 3, 4), mask=torch.zeros(2, 3, dtype=torch.bool))
        >>> tokens.values.shape
        torch.Size([2, 3, 4])
    """

    values: Tensor
    mask: Tensor


class ItemContentStore:
    """Reads content tokens of n items from memory-mapped files, whose pages forked processes share.

    Args:
        folder: Folder that ``write_item_content`` or ``qarm write-content-tokens`` wrote.

    Attributes:
        token_dims: D by modality, as ``FusionQFormer`` takes it.
        manifest: Content of content.json.
        zeros_where_masked: True, because the files hold zeros where there is no token, so that readers need not write them.

    Raises:
        ValueError: If the folder holds no content.json.

    Example:
        Tokens of two items, by modality::

            store = ItemContentStore("artifacts/item_content/v0")
            tokens = store.gather_modalities(store.rows(["sku-1", "sku-2"]))
    """

    zeros_where_masked = True

    def __init__(self, folder: str | Path) -> None:
        self.folder = local_folder(folder)
        if not (self.folder / CONTENT).is_file():
            raise ValueError(f"The folder {folder} holds no {CONTENT}. Run: qarm write-content-tokens")
        self.manifest = json.loads((self.folder / CONTENT).read_text())
        self._ids = np.load(self.folder / ITEM_IDS, mmap_mode="r")
        first_rows = self.folder / FIRST_ROWS
        self._first_rows = np.load(first_rows, mmap_mode="r") if first_rows.is_file() else None
        self._blocks = {name: _map_block(self.folder, name) for name in self.manifest["modalities"]}
        self.token_dims = {name: values.shape[2] for name, (values, _) in self._blocks.items()}

    @classmethod
    def open(cls, folder: str | Path) -> "ItemContentStore":
        """Opens a folder.

        Args:
            folder: Folder that ``write_item_content`` or ``qarm write-content-tokens`` wrote.
        """
        return cls(folder)

    def __reduce__(self) -> tuple[type["ItemContentStore"], tuple[Path]]:
        return ItemContentStore, (self.folder,)  # a worker maps the files itself, because a pickled map would be a copy

    def __len__(self) -> int:
        """Returns n, the number of items."""
        return len(self._ids)

    @property
    def item_ids(self) -> np.ndarray:
        """The item IDs (n,) in the order of the rows: int64, or bytes of fixed width (UTF-8), memory-mapped."""
        return self._ids

    @property
    def dim(self) -> int:
        """D of the tokens, for a store of one modality."""
        return self.token_dims[self._only_modality()]

    def rows(self, item_ids: Sequence[int] | Sequence[str] | np.ndarray) -> np.ndarray:
        """Finds the rows of items. Items with the same content have the same row, so that it can be fused once for all.

        Args:
            item_ids: (U,) item IDs of the catalog's type.

        Returns:
            (U,) int64 row numbers in [0, n), -1 for an unknown item.

        Raises:
            ValueError: If the IDs are strings and those of the store integers, or the reverse.
        """
        wanted = as_ids(item_ids)
        if len(wanted) and wanted.dtype.kind != self._ids.dtype.kind:
            kinds = {"i": "integers", "S": "strings"}
            raise ValueError(
                f"item_ids are {kinds[wanted.dtype.kind]}, must be {kinds[self._ids.dtype.kind]} as in {self.folder}."
            )
        found = find_rows(self._ids, wanted)
        if self._first_rows is None or not len(self._ids):
            return found
        return np.where(found >= 0, self._first_rows[found], -1)

    def gather(self, rows: np.ndarray | Tensor) -> ContentTokens:
        """Reads the tokens of U items from a store of one modality.

        Args:
            rows: (U,) int64 return value of ``rows``, without repeats; -1 gives an item without tokens.

        Returns:
            Values (U, N, D) float32 and mask (U, N) bool.

        Raises:
            ValueError: If the store holds more than one modality.
        """
        return self._gather(rows, self._only_modality())

    def gather_modalities(self, rows: np.ndarray | Tensor) -> dict[str, ContentTokens]:
        """Reads the tokens of U items by modality, as ``FusionQFormer`` takes them.

        Args:
            rows: (U,) int64 return value of ``rows``, without repeats; -1 gives an item without tokens.
        """
        return {name: self._gather(rows, name) for name in self._blocks}

    def _gather(self, rows: np.ndarray | Tensor, name: str) -> ContentTokens:
        rows = np.asarray(rows, dtype=np.int64)
        values, mask = self._blocks[name]
        if len(rows) and rows.min() >= 0:
            # Whole items are copied as they are stored; torch makes float32 of float16 many times faster than numpy.
            taken = torch.from_numpy(np.take(values, rows, axis=0)).float()
            return ContentTokens(taken, torch.from_numpy(np.take(mask, rows, axis=0)))
        known = np.flatnonzero(rows >= 0)
        known = known[np.argsort(rows[known])]  # in the order of the file
        out = torch.zeros(len(rows), *values.shape[1:])
        has_token = torch.zeros(len(rows), mask.shape[1], dtype=torch.bool)
        if len(known):
            out[known], has_token[known] = self._gather(rows[known], name)
        return ContentTokens(out, has_token)

    def _only_modality(self) -> str:
        if len(self._blocks) != 1:
            raise ValueError(
                f"{self.folder} holds more than one modality: {', '.join(self._blocks)}. "
                "Use gather_modalities and token_dims."
            )
        return next(iter(self._blocks))


def write_item_content(
    folder: str | Path,
    item_ids: Sequence[int] | Sequence[str] | np.ndarray,
    tokens: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    dtype: str = "float16",
) -> ItemContentStore:
    """Writes a content store from tokens in memory.

    Args:
        folder: Folder to write; it is created if it does not exist.
        item_ids: (n,) distinct IDs in any order, all integers or all strings.
        tokens: Values (n, N, D) and mask (n, N) by modality; N and D may differ between modalities.
        dtype: Float16 or float32.

    Raises:
        ValueError: If an ID occurs twice, or lengths differ.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> tokens = {"text": (np.ones((2, 3, 4)), np.ones((2, 3), dtype=bool))}
        >>> write_item_content(folder, [7, 5], tokens).token_dims
        {'text': 4}
    """
    ids = as_ids(item_ids)
    order = np.argsort(ids, kind="stable")
    if len(ids) and (ids[order][1:] == ids[order][:-1]).any():
        raise ValueError("item_ids holds an ID twice, must hold each ID once.")
    Path(folder).mkdir(parents=True, exist_ok=True)
    np.save(Path(folder) / ITEM_IDS, ids[order])
    blocks = create_blocks(folder, len(ids), {name: values.shape[1:] for name, (values, _) in tokens.items()}, dtype)
    for name, (values, mask) in tokens.items():
        if len(values) != len(ids) or mask.shape != values.shape[:2]:
            raise ValueError(
                f"Tokens of {name} are {values.shape} and their mask {mask.shape}, must be ({len(ids)}, N, D) and "
                f"({len(ids)}, N)."
            )
        stored_values, stored_mask = blocks[name]
        stored_values[:] = np.where(mask[..., None], values, 0.0)[order]
        stored_mask[:] = mask[order]
    write_content_json(folder, blocks)
    return ItemContentStore(folder)


def create_blocks(
    folder: str | Path, items: int, shapes: Mapping[str, tuple[int, int]], dtype: str
) -> dict[str, tuple[np.memmap, np.memmap]]:
    """Creates the files of all modalities, filled with zeros, and maps them for writing.

    Args:
        folder: Folder that exists.
        items: N.
        shapes: N and D by modality.
        dtype: Float16 or float32.

    Returns:
        Values (n, N, D) and mask (n, N) by modality.
    """
    return {
        name: (
            np.lib.format.open_memmap(Path(folder) / f"{name}.tokens.npy", "w+", dtype, (items, *shape)),
            np.lib.format.open_memmap(Path(folder) / f"{name}.mask.npy", "w+", bool, (items, shape[0])),
        )
        for name, shape in shapes.items()
    }


def write_content_json(folder: str | Path, blocks: Mapping[str, tuple[np.memmap, np.memmap]], **known: Any) -> None:
    """Writes content.json, as the last file of a store.

    Args:
        folder: Folder of the store.
        blocks: Values and mask by modality, as ``create_blocks`` returned them.
        known: Further entries of content.json.
    """
    for block in blocks.values():
        for file in block:
            file.flush()
    shapes = {name: {"tokens": values.shape[1], "dim": values.shape[2]} for name, (values, _) in blocks.items()}
    items = len(np.load(Path(folder) / ITEM_IDS, mmap_mode="r"))
    content = {"items": items, "modalities": shapes, **known}
    (Path(folder) / CONTENT).write_text(json.dumps(content, indent=2))


def _map_block(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    maps = (np.load(folder / f"{name}.{part}.npy", mmap_mode="r") for part in ("tokens", "mask"))
    values, mask = (np.asarray(one) for one in maps)  # plain views of the maps: what is taken of them is plain too
    return values, mask


def as_ids(item_ids: Sequence[int] | Sequence[str] | np.ndarray) -> np.ndarray:
    """Returns IDs (U,) as int64, or as bytes of fixed width, whose order is that of Spark's strings."""
    ids = np.asarray(item_ids)
    if ids.dtype.kind in "iu" or not len(ids):
        return ids.astype(np.int64)
    return np.array([item_id.encode() for item_id in ids.tolist()], dtype=bytes)


def find_rows(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns the positions (U,) int64 of ``wanted`` (U,) in ascending ``ids`` (n,) of the same kind; -1 where absent."""
    if not len(wanted) or not len(ids):
        return np.full(len(wanted), -1, dtype=np.int64)
    width = ids.dtype.itemsize
    too_long = np.char.str_len(wanted) > width if wanted.dtype.itemsize > width else np.zeros(len(wanted), bool)
    cut = wanted.astype(ids.dtype)  # the type of the map, because another type would copy the whole map
    position = np.minimum(np.searchsorted(ids, cut), len(ids) - 1)
    return np.where((ids[position] == cut) & ~too_long, position, -1).astype(np.int64)
