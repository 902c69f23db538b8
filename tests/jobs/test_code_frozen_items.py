"""Codes of the frozen encoder stand beside those of the aligned one, and never become the newest."""

from __future__ import annotations

import pytest

from qarm_features.jobs.align_encoder import align_encoder
from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
from qarm_features.jobs.code_frozen_items import code_frozen_items
from qarm_features.jobs.context import current_codebooks
from qarm_features.jobs.embed_items import embed_items
from qarm_features.jobs.fit_codebooks import fit_codebooks
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.jobs.mine_item_pairs import mine_item_pairs
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS
from tests.alignment.test_align_encoder import ALIGNED
from tests.toy_catalog import SETTINGS, open_project, write_toy_project


@pytest.mark.slow
def test_the_frozen_items_get_codes_once_and_the_newest_codebooks_are_of_the_aligned_encoder(tmp_path, spark):
    folder = write_toy_project(tmp_path)
    (folder / "qarm.yaml").write_text(SETTINGS + ALIGNED.replace("epochs: 4", "epochs: 1"))
    context = open_project(folder, spark)
    for job in (ingest_catalog, mine_item_pairs, align_encoder, code_frozen_items, embed_items, fit_codebooks):
        job(context)
    assign_semantic_ids(context)

    again = code_frozen_items(context)

    codebooks = context.artifacts("codebooks")
    assert [codebooks.get(version).manifest["encoder_version"] for version in codebooks.versions()] == [0, 1]
    assert current_codebooks(context).version == 1
    rows = context.warehouse.read(ITEM_SEMANTIC_IDS).groupBy("codebook_version", "encoder_version").count().collect()
    assert sorted(map(tuple, rows)) == [(0, 0, 64), (1, 1, 64)]
    assert again.remark.startswith("0 semantic IDs assigned by codebooks v0")


@pytest.mark.slow
def test_no_codes_are_made_where_they_would_become_newer_than_those_of_the_aligned_encoder(tmp_path, spark):
    folder = write_toy_project(tmp_path)
    (folder / "qarm.yaml").write_text(SETTINGS + ALIGNED.replace("epochs: 4", "epochs: 1"))
    context = open_project(folder, spark)
    for job in (ingest_catalog, mine_item_pairs, align_encoder, embed_items, fit_codebooks):
        job(context)

    counts = code_frozen_items(context)

    assert counts.remark == "no codes by the frozen encoder, because codebooks v0 of the aligned one are there"
    assert context.artifacts("codebooks").versions() == [0]
