"""Item features as compact arrays in the order of the item indexes.

In: item embeddings, VQ codes, a folder of content tokens. Out: a folder that ``open_item_features`` maps. ::

    item_vocabulary.parquet  the I item IDs by index: those of training first, then all others that a source holds
    vectors.npy              (I + 1, D) float32; row 0 and items without an embedding are zeros
    nearest_items.npy        (I + 1, k) int32 item indexes, 0 = missing
    nearest_distances.npy    (I + 1, k) float32, 1 - similarity
    content_rows.npy         (I + 1,) int64 rows of the content store, -1 = no content
    item_features.json       number of items, and the folder of the content tokens

Files are streamed, so that memory grows with the item IDs only.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qarm_features.ranking.data.item_content_store import ItemContentStore
from qarm_features.ranking.data.item_features import ItemFeatures
from qarm_features.ranking.data.item_vocabulary import ItemVocabulary
from qarm_features.ranking.data.parquet_files import open_parquet
from qarm_features.storage.copies import local_folder
from qarm_features.storage.objects import ObjectStoreError
from qarm_features.storage.version_files import ArtifactError

_log = logging.getLogger(__name__)

FEATURES_FILE, VOCABULARY_FILE = "item_features.json", "item_vocabulary.parquet"
_READ_ROWS = 4096  # 16 MB of vectors of 1,024 numbers
_NEAREST = ("item_id", "vq_codes", "vq_similarities")


@dataclass(frozen=True)
class ItemSources:
    """Names the sources of item features; an empty one is left out.

    Args:
        embedding_files: Parquet files (paths or pyarrow-fs URIs) with ``item_id`` and ``embedding`` (D) of one encoder
            version, such as those of the table item_embeddings.
        nearest_item_files: Parquet files with ``item_id``, ``vq_codes`` (at most k item IDs) and ``vq_similarities`` of one
            bank version, such as those of the table item_nearest_items.
        content_folder: Folder of an ``ItemContentStore``, or its URI.

    Example:
        >>> ItemSources(content_folder="artifacts/item_content/v0").embedding_files
        ()
    """

    embedding_files: Sequence[str] = ()
    nearest_item_files: Sequence[str] = ()
    content_folder: str | Path | None = None


def write_item_features(folder: str | Path, vocabulary: ItemVocabulary, sources: ItemSources) -> ItemVocabulary:
    """Writes item features from their sources.

    Args:
        folder: Folder to write; it is created if it does not exist, and item features in it are replaced.
        vocabulary: Vocabulary of the training rows.
        sources: Sources of the item features.

    Returns:
        The vocabulary with all items of the sources added; the folder holds it too.

    Raises:
        ValueError: If a file lacks a column, two embeddings differ in D, or the IDs are not of the vocabulary's type.

    Example:
        Features of the items of a training split, and of all new items of the catalog::

            sources = ItemSources(embedding_files=files_of_item_embeddings)
            write_item_features("item_features", item_vocabulary(train_files), sources)
            vocabulary, features = open_item_features("item_features")
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (*folder.glob("*.npy"), *folder.glob(FEATURES_FILE)):
        stale.unlink()
    store = None if sources.content_folder is None else ItemContentStore(sources.content_folder)
    vocabulary = vocabulary.extended(_item_ids(sources, store))
    vocabulary.save(folder / VOCABULARY_FILE)
    if sources.embedding_files:
        _write_vectors(folder, vocabulary, sources.embedding_files)
    if sources.nearest_item_files:
        _write_nearest(folder, vocabulary, sources.nearest_item_files)
    if store is not None:
        rows = store.rows(vocabulary.ids.to_numpy())
        np.save(folder / "content_rows.npy", np.append(np.int64(-1), rows))
    known = {
        "num_items": len(vocabulary),
        "num_known": vocabulary.num_known,
        "content_folder": None if store is None else _lasting(str(sources.content_folder)),
    }
    (folder / FEATURES_FILE).write_text(json.dumps(known, indent=2))
    return vocabulary


def open_item_features(
    folder: str | Path, *, content_folder: str | Path | None = None
) -> tuple[ItemVocabulary, ItemFeatures]:
    """Maps the files that ``write_item_features`` wrote.

    Args:
        folder: Folder that ``write_item_features`` wrote, or the URI of a version of ``item_features``.
        content_folder: Folder or URI of the content tokens; None for that which was named when the features were written. If
            it is gone, the features have no content tokens; fused content may take their place.

    Returns:
        The vocabulary with all items, and their features.

    Raises:
        ValueError: If the folder holds no item features.

    Example:
        The vectors of the items of a folder::

            vocabulary, features = open_item_features("item_features")
            vectors = features.rows("vectors", torch.from_numpy(vocabulary.index(pa.array(["sku-1"]))))
    """
    folder = local_folder(folder)
    if not (folder / FEATURES_FILE).is_file():
        raise ValueError(f"The folder {folder} holds no {FEATURES_FILE}. Write it with write_item_features.")
    content_folder = content_folder or json.loads((folder / FEATURES_FILE).read_text())["content_folder"]
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r")
        for name in ("vectors", "nearest_items", "nearest_distances", "content_rows")
        if (folder / f"{name}.npy").is_file()
    }
    content = None if content_folder is None else _content(str(content_folder))
    if content is None:
        arrays.pop("content_rows", None)
    else:
        arrays["content"] = ItemContentStore(content)
    return ItemVocabulary.load(folder / VOCABULARY_FILE), ItemFeatures(**arrays)


def _lasting(place: str) -> str:
    """Returns a URI as it is, and the absolute path of a local folder."""
    return place if "://" in place else str(Path(place).absolute())


def _content(place: str) -> Path | None:
    """Returns the folder of content tokens on this machine; None if it is gone, or if this machine cannot reach it."""
    try:
        folder = local_folder(place)
    except (ArtifactError, ImportError, ObjectStoreError) as error:
        _log.warning("WARNING: The item features have no content tokens: %s", error)
        return None
    return folder if folder.is_dir() else None


def _item_ids(sources: ItemSources, store: ItemContentStore | None) -> pa.ChunkedArray:
    files = [*sources.embedding_files, *sources.nearest_item_files]
    ids = [pc.unique(batch.column(0)) for batch in _read(files, ("item_id",))]
    if store is not None:
        store_ids = pa.array(np.asarray(store.item_ids))
        ids.append(store_ids if pa.types.is_integer(store_ids.type) else store_ids.cast(pa.string()))
    kinds = {"int64" if pa.types.is_integer(array.type) else "string" for array in ids}
    if len(kinds) > 1:
        raise ValueError("item_id is int64 in one source and string in another. Write all sources from one catalog.")
    return pa.chunked_array([array.cast(kind) for array in ids for kind in kinds], type=None if ids else pa.string())


def _write_vectors(folder: Path, vocabulary: ItemVocabulary, files: Sequence[str]) -> None:
    vectors = None
    for batch in _read(files, ("item_id", "embedding")):
        batch = batch.filter(batch.column("embedding").is_valid())
        index, lists = vocabulary.index(batch.column("item_id")), batch.column("embedding")
        lengths = pc.unique(pc.list_value_length(lists)).to_pylist()
        dim = lengths[0] if vectors is None and lengths else 0 if vectors is None else vectors.shape[1]
        if any(length != dim for length in lengths):
            raise ValueError(
                f"embedding holds {next(n for n in lengths if n != dim)} numbers, must hold {dim} as the first does. "
                "Give the files of one encoder version."
            )
        if vectors is None:
            shape = (len(vocabulary) + 1, dim)
            vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, shape)
        vectors[index] = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    if vectors is not None:
        vectors.flush()


def _write_nearest(folder: Path, vocabulary: ItemVocabulary, files: Sequence[str]) -> None:
    longest = (pc.max(pc.list_value_length(batch.column(0))).as_py() for batch in _read(files, _NEAREST[1:2]))
    shape = (len(vocabulary) + 1, max((length or 0 for length in longest), default=0))
    nearest = np.lib.format.open_memmap(folder / "nearest_items.npy", "w+", np.int32, shape)
    distances = np.lib.format.open_memmap(folder / "nearest_distances.npy", "w+", np.float32, shape)
    for batch in _read(files, _NEAREST):
        lists, similarities = batch.column("vq_codes"), batch.column("vq_similarities")
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        if not np.array_equal(
            lengths, pc.fill_null(pc.list_value_length(similarities), 0).to_numpy(zero_copy_only=False)
        ):
            raise ValueError(
                "vq_similarities and vq_codes differ in length, but each code needs one similarity. "
                "Run: qarm find-nearest-items"
            )
        inside = np.arange(shape[1]) < lengths[:, None]
        for into, values in (
            (nearest, vocabulary.index(lists.flatten())),
            (distances, 1 - similarities.flatten().to_numpy(zero_copy_only=False)),
        ):
            rows = np.zeros(inside.shape, into.dtype)
            rows[inside] = values
            into[vocabulary.index(batch.column("item_id"))] = rows
    nearest.flush()
    distances.flush()


def _read(files: Sequence[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for file in files:
        with open_parquet(file) as parquet:
            missing = [name for name in columns if name not in parquet.schema_arrow.names]
            if missing:
                raise ValueError(
                    f"{file} has no column {', '.join(missing)}, must have {', '.join(columns)}. "
                    "Name the files that hold them in ItemSources."
                )
            yield from parquet.iter_batches(_READ_ROWS, columns=list(columns))
