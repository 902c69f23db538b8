"""The item vocabulary: dense indexes of item IDs for an embedding table.

In: ``training_rows`` files, or any IDs. Out: an ``ItemVocabulary``. It is saved as a one-column Parquet file beside the
model, because an item-ID table means nothing without it.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qarm_features.ranking.data.parquet_files import list_row_groups, read_shard

_NUM_KNOWN = "num_known"  # in the metadata of a saved vocabulary
FOLD_EVERY = 32  # number of record batches whose counts are added up together


class ItemVocabulary:
    """Maps item IDs to 1..len(vocabulary) in ascending order of the IDs; 0 = unknown item.

    Args:
        ids: Item IDs, distinct or repeated, all strings or all integers.

    Attributes:
        ids: All IDs in the order of their indexes.
        num_known: Number of IDs that training saw; an embedding table has one row more.

    Raises:
        ValueError: If ids mixes types or holds anything but strings or integers.

    Example:
        >>> vocabulary = ItemVocabulary(["cup", "bowl"])
        >>> vocabulary.index(pa.array(["cup", "plate", None]))
        array([2, 0, 0])
    """

    def __init__(self, ids: Iterable[str] | Iterable[int] | pa.Array) -> None:
        self.ids = _distinct(ids)
        self.num_known = len(self.ids)

    def __len__(self) -> int:
        """Returns the number of items, with those that ``extended`` added."""
        return len(self.ids)

    def extended(self, ids: Iterable[str] | Iterable[int] | pa.Array) -> "ItemVocabulary":
        """Returns a vocabulary with more items; the indexes of this one stay as they are.

        Args:
            ids: Item IDs of the vocabulary's type, distinct or repeated; known IDs are skipped.

        Returns:
            A vocabulary with the new IDs at the indexes from len(self) + 1, in ascending order, and with this num_known.

        Raises:
            ValueError: If ids are of another type than the vocabulary's.
        """
        added = ItemVocabulary(ids).ids
        if len(self) and len(added):
            self._check_type(_type_of(added))
            added = self.ids.append(added.difference(self.ids))
        together = added if len(added) else self.ids
        return self._of(together, num_known=self.num_known)

    def index(self, ids: pa.Array) -> np.ndarray:
        """Returns the indexes of item IDs; indexes above num_known are of items that training did not see.

        Args:
            ids: (B,) strings or integers of the vocabulary's type; null = unknown.

        Returns:
            (B,) int64 in [0, len(self)], 0 = unknown item.

        Raises:
            ValueError: If ids are strings and the vocabulary holds integers, or the reverse.
        """
        encoded = pc.dictionary_encode(ids)
        distinct = encoded.dictionary.to_numpy(zero_copy_only=False)
        if len(distinct) and len(self):
            self._check_type("int64" if pa.types.is_integer(encoded.dictionary.type) else "string")
        index = np.append(self.ids.get_indexer(distinct) + 1, 0)  # the last entry is for null
        return index[encoded.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False)].astype(np.int64)

    def save(self, file: str | Path) -> None:
        """Writes the IDs in the order of their indexes.

        Args:
            file: Parquet file to write, with one column ``item_id``.
        """
        ids = pa.table({"item_id": pa.array(self.ids.to_numpy(), type=_type_of(self.ids))})
        pq.write_table(ids.replace_schema_metadata({_NUM_KNOWN: str(self.num_known)}), file)

    @classmethod
    def load(cls, file: str | Path) -> "ItemVocabulary":
        """Reads what ``save`` wrote.

        Args:
            file: Parquet file that ``save`` wrote.
        """
        ids = pq.read_table(file)
        kept = (ids.schema.metadata or {}).get(_NUM_KNOWN.encode(), ids.num_rows)  # older files do not have it
        dtype = "int64" if pa.types.is_integer(ids["item_id"].type) else "object"
        return cls._of(pd.Index(ids["item_id"].to_numpy(), dtype=dtype), num_known=int(kept))

    @classmethod
    def _of(cls, ids: pd.Index, *, num_known: int) -> "ItemVocabulary":
        vocabulary = cls([])
        vocabulary.ids, vocabulary.num_known = ids, num_known
        return vocabulary

    def _check_type(self, given: str | pa.DataType) -> None:
        own = _type_of(self.ids)
        if given != own:
            raise ValueError(
                f"ids are of type {given}, must be {own} as in the item vocabulary. "
                "Use the vocabulary that was saved beside the model."
            )


def _distinct(ids: Iterable[str] | Iterable[int] | pa.Array) -> pd.Index:
    """Returns distinct IDs in ascending order, without turning a whole Arrow array into Python objects."""
    if isinstance(ids, pa.Array | pa.ChunkedArray):
        return _distinct_of_arrow(ids)
    values: list[Any] = list(ids)
    dtype = _dtype({type(value).__name__ for value in values})
    return pd.Index(sorted(set(values)), dtype=dtype)


def _distinct_of_arrow(ids: pa.Array) -> pd.Index:
    if ids.null_count:
        kinds = {type(value).__name__ for value in ids.to_pylist()}
    elif pa.types.is_integer(ids.type):
        kinds = {"int"}
    else:
        kinds = {"str" if _is_string(ids.type) else str(ids.type)}
    dtype = _dtype(kinds)
    return pd.Index(pc.unique(ids).sort().to_numpy(zero_copy_only=False), dtype=dtype)


def _dtype(kinds: set[str]) -> Literal["int64", "object"]:
    """Returns the pandas type of IDs of some Python types, and refuses a mixture of types."""
    if kinds not in ({"int"}, {"str"}, set()):
        raise ValueError(f"ids are of type {', '.join(sorted(kinds))}, must be all str or all int.")
    return "int64" if kinds == {"int"} else "object"


def _is_string(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_)


def _type_of(ids: pd.Index) -> pa.DataType:
    return pa.int64() if ids.dtype == "int64" else pa.string()


def item_vocabulary(files: Sequence[str], *, max_items: int | None = None) -> ItemVocabulary:
    """Collects the items of training rows, which occur as targets or in behavior sequences.

    Files are streamed, so that memory grows with the distinct items only.

    Args:
        files: Paths or pyarrow-fs URIs of the training split.
        max_items: Number of most frequent items to keep, at least 1; None keeps all. Of equally frequent items the one with
            the smaller ID is kept.

    Raises:
        ValueError: If max_items is below 1.

    Example:
        The vocabulary of a training split, saved beside a model::

            vocabulary = item_vocabulary(train_files, max_items=1_000_000)
            vocabulary.save("model/item_vocabulary.parquet")
    """
    if max_items is not None and max_items < 1:
        raise ValueError(f"max_items is {max_items}, must be at least 1.")
    kept: list[pa.Table] = []
    for counted in _counts(files):
        kept.append(counted)
        if len(kept) == FOLD_EVERY:
            kept = [_add_up(kept)]
    if not kept:
        return ItemVocabulary([])
    order = [("item_count", "descending"), ("item_id", "ascending")]
    ranked = _add_up(kept).filter(pc.field("item_id").is_valid()).sort_by(order)
    return ItemVocabulary(ranked["item_id"][:max_items])


def _counts(files: Sequence[str]) -> Iterator[pa.Table]:
    columns = ("item_id", "behavior_item_ids")
    for rows in read_shard(list_row_groups(files, columns), columns, shard=0, num_shards=1):
        ids = rows.column("item_id")
        behavior = rows.column("behavior_item_ids").flatten().cast(ids.type)
        values, counts = pc.value_counts(pa.concat_arrays([ids, behavior])).flatten()
        yield pa.table({"item_id": values, "item_count": counts})


def _add_up(tables: list[pa.Table]) -> pa.Table:
    summed = pa.concat_tables(tables).group_by("item_id").aggregate([("item_count", "sum")])
    return summed.rename_columns(["item_id", "item_count"])
