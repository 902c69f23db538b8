"""Frozen content tokens of the catalog in memory-mapped files: only what a batch asks for is read.

In: a folder. Out: tokens and masks of the asked items as tensors, a block per modality. ::

    content.json          items n, type of their ids, and of each modality N and D
    item_ids.npy          (n,) ascending, int64 or bytes of fixed width (UTF-8)
    <modality>.tokens.npy (n, N, D) float16 or float32, standing tokens first, zeros behind them
    <modality>.mask.npy   (n, N) bool

The tokens come from backbones that stay frozen, so each item is encoded once, ahead of training
(EM3, arXiv 2404.06078, section 3.2); `qarm write-content-tokens` does that for a whole catalog.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

CONTENT, ITEM_IDS = "content.json", "item_ids.npy"


class ContentTokens(NamedTuple):
    """Tokens of one modality, as ``FusionQFormer`` takes them.

    Attributes:
        values: (U, N, D) float32, zeros where no token stands.
        mask: (U, N) bool, True where a token stands.
    """

    values: Tensor
    mask: Tensor


class ItemContentStore:
    """Content tokens of n items; nothing is loaded before it is asked for, and forks share the pages.

    Args:
        folder: As ``write_item_content`` or `qarm write-content-tokens` left it.

    Attributes:
        token_dims: D by modality, as ``FusionQFormer`` takes it.
        manifest: What content.json says.

    Raises:
        ValueError: The folder holds no content.json.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / CONTENT).is_file():
            raise ValueError(f"folder is {folder}, must be one with {CONTENT}. Run: qarm write-content-tokens")
        self.manifest = json.loads((self.folder / CONTENT).read_text())
        self._ids = np.load(self.folder / ITEM_IDS, mmap_mode="r")
        self._blocks = {name: _map_block(self.folder, name) for name in self.manifest["modalities"]}
        self.token_dims = {name: values.shape[2] for name, (values, _) in self._blocks.items()}

    @classmethod
    def open(cls, folder: str | Path) -> "ItemContentStore":
        """Opens a folder."""
        return cls(folder)

    def __reduce__(self):
        return ItemContentStore, (self.folder,)  # a worker maps the files itself: a pickled map would be a copy

    def __len__(self) -> int:
        """Returns n, the number of items."""
        return len(self._ids)

    @property
    def item_ids(self) -> np.ndarray:
        """The (n,) item IDs in the order of the rows: int64, or bytes of fixed width (UTF-8); a map."""
        return self._ids

    @property
    def dim(self) -> int:
        """D of the tokens of a store of one modality."""
        return self.token_dims[self._only_modality()]

    def rows(self, item_ids: Sequence[int] | Sequence[str] | np.ndarray) -> np.ndarray:
        """Looks items up.

        Args:
            item_ids: (U,) IDs of the catalog's type.

        Returns:
            (U,) int64 row numbers in [0, n), -1 for an unknown item.

        Raises:
            ValueError: The IDs are strings and those of the store integers, or the reverse.
        """
        wanted = as_ids(item_ids)
        if len(wanted) and wanted.dtype.kind != self._ids.dtype.kind:
            kinds = {"i": "integers", "S": "strings"}
            raise ValueError(
                f"item_ids are {kinds[wanted.dtype.kind]}, must be {kinds[self._ids.dtype.kind]} as in {self.folder}."
            )
        return find_rows(self._ids, wanted)

    def gather(self, rows: np.ndarray | Tensor) -> ContentTokens:
        """Reads the tokens of U items from a store of one modality.

        Args:
            rows: (U,) int64 from ``rows``; ask for each item once. -1 gives an item without a token.

        Returns:
            ``values`` (U, N, D) float32 and ``mask`` (U, N) bool.

        Raises:
            ValueError: The store holds more than one modality.
        """
        return self._gather(rows, self._only_modality())

    def gather_modalities(self, rows: np.ndarray | Tensor) -> dict[str, ContentTokens]:
        """Reads the tokens of U items, (U, N, D) and (U, N) by modality: what ``FusionQFormer`` takes.

        Args:
            rows: (U,) int64 from ``rows``; ask for each item once. -1 gives an item without a token.
        """
        return {name: self._gather(rows, name) for name in self._blocks}

    def _gather(self, rows: np.ndarray | Tensor, name: str) -> ContentTokens:
        rows = np.asarray(rows, dtype=np.int64)
        values, mask = self._blocks[name]
        out = np.zeros((len(rows), *values.shape[1:]), dtype=np.float32)
        stands = np.zeros((len(rows), mask.shape[1]), dtype=bool)
        known = np.flatnonzero(rows >= 0)
        known = known[np.argsort(rows[known])]  # in the order of the file
        out[known], stands[known] = values[rows[known]], mask[rows[known]]
        return ContentTokens(torch.from_numpy(out), torch.from_numpy(stands))

    def _only_modality(self) -> str:
        if len(self._blocks) != 1:
            raise ValueError(
                f"{self.folder} holds the modalities {', '.join(self._blocks)}, must be one. "
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
    """Writes tokens that are at hand as arrays.

    Args:
        folder: Made if need be.
        item_ids: (n,) distinct IDs in any order, all integers or all strings.
        tokens: Values (n, N, D) and mask (n, N) by modality, N and D its own.
        dtype: float16 or float32.

    Raises:
        ValueError: An ID occurs twice, or lengths differ.
    """
    ids = as_ids(item_ids)
    order = np.argsort(ids, kind="stable")
    if len(ids) and (ids[order][1:] == ids[order][:-1]).any():
        raise ValueError("item_ids holds an ID twice, must hold each once.")
    Path(folder).mkdir(parents=True, exist_ok=True)
    np.save(Path(folder) / ITEM_IDS, ids[order])
    blocks = create_blocks(folder, len(ids), {name: values.shape[1:] for name, (values, _) in tokens.items()}, dtype)
    for name, (values, mask) in tokens.items():
        if len(values) != len(ids) or mask.shape != values.shape[:2]:
            raise ValueError(
                f"Tokens of {name} are {values.shape} and their mask {mask.shape}, must be ({len(ids)}, N, D) and "
                f"({len(ids)}, N)."
            )
        into, stands = blocks[name]
        into[:] = np.where(mask[..., None], values, 0.0)[order]
        stands[:] = mask[order]
    write_content_json(folder, blocks)
    return ItemContentStore(folder)


def create_blocks(
    folder: str | Path, items: int, shapes: Mapping[str, tuple[int, int]], dtype: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Makes the files of all modalities, filled with zeros, and maps them for writing.

    Args:
        folder: An existing folder.
        items: n.
        shapes: N and D by modality.
        dtype: float16 or float32.

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


def write_content_json(folder: str | Path, blocks: Mapping[str, tuple[np.ndarray, np.ndarray]], **known: Any) -> None:
    """Writes content.json, after all else; ``known`` holds what else to keep."""
    for block in blocks.values():
        for file in block:
            file.flush()
    shapes = {name: {"tokens": values.shape[1], "dim": values.shape[2]} for name, (values, _) in blocks.items()}
    items = len(np.load(Path(folder) / ITEM_IDS, mmap_mode="r"))
    content = {"items": items, "modalities": shapes, **known}
    (Path(folder) / CONTENT).write_text(json.dumps(content, indent=2))


def _map_block(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    return np.load(folder / f"{name}.tokens.npy", mmap_mode="r"), np.load(folder / f"{name}.mask.npy", mmap_mode="r")


def as_ids(item_ids: Sequence[int] | Sequence[str] | np.ndarray) -> np.ndarray:
    """Returns IDs (U,) as int64, or as bytes of fixed width, whose order is that of Spark's strings."""
    ids = np.asarray(item_ids)
    if ids.dtype.kind in "iu" or not len(ids):
        return ids.astype(np.int64)
    return np.array([item_id.encode() for item_id in ids.tolist()], dtype=bytes)


def find_rows(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns the places (U,) int64 of ``wanted`` (U,) in ascending ``ids`` (n,) of the same kind, -1 where absent."""
    if not len(wanted) or not len(ids):
        return np.full(len(wanted), -1, dtype=np.int64)
    width = ids.dtype.itemsize
    too_long = np.char.str_len(wanted) > width if wanted.dtype.itemsize > width else np.zeros(len(wanted), bool)
    cut = wanted.astype(ids.dtype)  # the map's own type: another would copy the whole map
    at = np.minimum(np.searchsorted(ids, cut), len(ids) - 1)
    return np.where((ids[at] == cut) & ~too_long, at, -1).astype(np.int64)
