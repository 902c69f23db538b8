"""Formulas of the work of a stage, beside what a real run and the real algorithms hold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from qarm_features.planning import memory
from qarm_features.planning.sizes import Sizes
from qarm_features.planning.work import (
    BATCH_ROWS,
    SPARSE_FROM,
    TRAIN_SHARE,
    bank_bytes,
    codebook_bytes,
    item_table_bytes,
    lloyd_multiply_adds,
    search_multiply_adds,
    sequence_values,
    table_updates,
    works,
)
from qarm_features.quantizers.passes.file_passes import step_pass
from qarm_features.quantizers.passes.item_bank import write_shard
from qarm_features.quantizers.passes.local_files import Chunk
from qarm_features.semantic_ids.assign import load_codebooks
from qarm_features.storage.tables import INTERACTIONS, ITEM_EMBEDDINGS, USER_BEHAVIOR, USER_IMPRESSIONS


def sizes_of(project) -> Sizes:
    """Returns the sizes of the toy project, as they are counted in its tables."""
    tables = {table: project.warehouse.arrow(table) for table in (INTERACTIONS, ITEM_EMBEDDINGS)}
    log, embedding = tables[INTERACTIONS].to_table(), tables[ITEM_EMBEDDINGS].head(1)["embedding"][0]
    settings = project.settings
    return Sizes(
        items=tables[ITEM_EMBEDDINGS].count_rows(),
        events=log.num_rows,
        users=len(pc.unique(log["user_id"])),
        dim=len(embedding),
        levels=settings.codebooks.num_levels,
        codebook_size=settings.codebooks.codebook_size,
        positive_share=pc.mean(log["label"]).as_py(),
        behaviors=settings.behavior.max_length,
        impressions=settings.behavior.impression_length,
    )


def test_bytes_of_vectors_and_centroids_are_those_of_a_real_run(project):
    sizes = sizes_of(project)
    vectors = project.warehouse.arrow(ITEM_EMBEDDINGS).to_table(columns=["embedding"]).combine_chunks()
    codebooks = project.artifacts("codebooks").latest()
    values = vectors["embedding"].chunk(0).flatten()

    assert 4 * len(values) < item_table_bytes(sizes) < 4 * len(values) + 80 * sizes.items
    assert load_codebooks(codebooks).codebooks.nbytes == codebook_bytes(sizes)


def test_entries_of_sequences_are_nearly_those_of_a_real_run(project):
    sizes = sizes_of(project)
    tables = ((USER_BEHAVIOR, "behavior_item_ids"), (USER_IMPRESSIONS, "impression_item_ids"))
    lists = [project.warehouse.arrow(table).to_table(columns=[name])[name] for table, name in tables]

    counted = sum(pc.sum(pc.list_value_length(column)).as_py() for column in lists)

    assert sequence_values(sizes) == pytest.approx(counted, rel=0.05)


def test_rows_of_the_stages_are_those_of_a_real_run(project):
    sizes = sizes_of(project)
    found = {work.stage: work for work in works(sizes)}
    rows = project.warehouse.arrow(USER_BEHAVIOR).count_rows() + 2 * sizes.events

    assert found["embed_items"].rows_out == sizes.items
    assert found["build_user_behavior"].rows_out == pytest.approx(rows, rel=0.05)


def test_bytes_of_a_bank_are_those_of_its_files(tmp_path):
    items, dim = 4_000, 32
    vectors = np.random.default_rng(0).normal(size=(items, dim)).astype(np.float32)
    write_shard(str(tmp_path), 0, pa.array(np.arange(items)), vectors, seed=None)
    write_shard(str(tmp_path / "lists"), 0, pa.array(np.arange(items)), vectors, seed=0)
    exact, searched = (sum(f.stat().st_size for f in p.glob("shard*")) for p in (tmp_path, tmp_path / "lists"))

    sizes = Sizes(items=items, events=1, users=1, dim=dim)

    assert bank_bytes(sizes) == pytest.approx(exact, rel=0.05)
    assert bank_bytes(Sizes(items=items, events=1, users=1, dim=dim, exact_up_to=0)) == pytest.approx(
        searched, rel=0.05
    )


def test_results_of_a_lloyd_step_have_the_bytes_that_a_task_returns():
    rows = np.random.default_rng(0).normal(size=(100, 24)).astype(np.float32)
    sizes = Sizes(items=100, events=1, users=1, dim=24, codebook_size=8)

    found = step_pass(iter([Chunk(rows, None, None)]), rows[:8], 10)

    assert found.sums.nbytes + found.counts.nbytes == memory.step_result_bytes(sizes)


def test_products_grow_with_items_and_those_of_the_search_with_their_square():
    small, large = (Sizes(items=n, events=1, users=1, dim=64, exact_up_to=0) for n in (65_536 * 4, 65_536 * 8))

    assert lloyd_multiply_adds(large, 3) == 2 * lloyd_multiply_adds(small, 3)
    assert search_multiply_adds(large) == 4 * search_multiply_adds(small)


def test_a_batch_updates_the_whole_table_of_item_ids_up_to_a_size_and_then_the_rows_that_it_names():
    from qarm_features.ranking.train.training_options import SPARSE_FROM as TRAINED_SPARSELY_FROM

    below, above = (Sizes(items=items, events=1_000_000, users=10_000) for items in (SPARSE_FROM - 1, SPARSE_FROM))
    batches = 1_000_000 * TRAIN_SHARE / BATCH_ROWS * below.epochs * below.variants

    assert SPARSE_FROM == TRAINED_SPARSELY_FROM
    assert table_updates(below) == pytest.approx(batches * (SPARSE_FROM - 1) * below.item_dim)
    assert table_updates(above) == pytest.approx(batches * BATCH_ROWS * (1 + above.behaviors) * above.item_dim)
