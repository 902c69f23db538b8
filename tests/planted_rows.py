"""Training rows in which users like items whose content fits their past, and IDs tell nothing."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qarm_features.ranking import ItemSources, item_vocabulary, write_item_content, write_item_features

NUM_CODES = 8


def write_planted_rows(file, *, seed: int, first_item: int, num_rows: int = 1500, **columns) -> str:
    """Users like items of the half of the first-level codes (0..3 or 4..7) that their behaviors come from.

    Only the codes tell: ids are drawn from 200 ids from first_item on, whose codes have nothing to do with the id.
    """
    generator = np.random.default_rng(seed)
    codes = planted_codes(first_item)
    half = codes[:, 0] >= NUM_CODES // 2
    items_of_half = [np.flatnonzero(~half), np.flatnonzero(half)]
    taste = generator.integers(0, 2, num_rows)
    item = generator.integers(0, 200, num_rows)
    behavior = [generator.choice(items_of_half[side], size=generator.integers(1, 6)) for side in taste]
    liked = generator.random(num_rows) < np.where(half[item] == taste, 0.95, 0.05)
    rows = {
        "user_id": pa.array(generator.integers(0, 50, num_rows)),
        "item_id": pa.array(item + first_item),
        "label": pa.array(liked.astype(np.int32)),
        "item_codes": pa.array(list(codes[item].astype(np.int32))),
        "behavior_item_ids": pa.array([items + first_item for items in behavior]),
        "behavior_codes": pa.array([codes[items].ravel().astype(np.int32) for items in behavior]),
    } | columns
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows), file, row_group_size=400)
    return str(file)


def planted_codes(first_item: int) -> np.ndarray:
    """Returns the codes (200, 2) of the items from first_item on."""
    return np.random.default_rng(first_item).integers(0, NUM_CODES, (200, 2))


def write_planted_features(folder, train_files, *, first_items=(0, 1000)):
    """Writes item features of which vectors, VQ codes and content tokens each tell an item's half of the codes.

    The nearest items of an item are three of training of the same half.
    """
    item_ids = np.concatenate([np.arange(first, first + 200) for first in first_items])
    sides = np.concatenate([planted_codes(first)[:, 0] >= NUM_CODES // 2 for first in first_items]).astype(int)
    vectors = np.eye(4, dtype=np.float32)[sides]
    of_half = [item_ids[:200][sides[:200] == side][:3].tolist() for side in (0, 1)]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"item_id": item_ids, "embedding": list(vectors)}), folder / "embeddings.parquet")
    nearest = {"vq_codes": [of_half[side] for side in sides], "vq_similarities": [[0.9, 0.8, 0.7]] * len(sides)}
    pq.write_table(pa.table({"item_id": item_ids, **nearest}), folder / "nearest.parquet")
    write_item_content(
        folder / "content", item_ids, {"text": (vectors[:, None, :3], np.ones((len(sides), 1), bool))}, dtype="float32"
    )
    sources = ItemSources([str(folder / "embeddings.parquet")], [str(folder / "nearest.parquet")], folder / "content")
    write_item_features(folder / "features", item_vocabulary(train_files), sources)
    return folder / "features"
