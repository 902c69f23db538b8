"""Each job from the click log to an aligned encoder and its evaluation runs as in ``qarm run``, on the toy catalog."""

from __future__ import annotations

import io
import json
import logging

import numpy as np
import pytest

from qarm_features.alignment.export_pairs import write_alignment_data
from qarm_features.jobs.align_encoder import align_encoder
from qarm_features.jobs.embed_items import embed_items
from qarm_features.jobs.evaluate_encoder import evaluate_encoder
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.jobs.mine_item_pairs import mine_item_pairs
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_PAIRS
from tests.toy_catalog import SETTINGS, open_project, write_toy_project

ALIGNED = """\
encoder: {align: true, dim: 32, num_layers: 1, num_queries: 2}
item_pairs: {als_rank: 4}
alignment: {epochs: 4, batch_size: 64, popularity_correction: false, geometry_weight: 1}
"""


@pytest.fixture(scope="module")
def aligned(tmp_path_factory, spark):
    """Returns a project whose encoder was aligned and whose items were embedded."""
    folder = write_toy_project(tmp_path_factory.mktemp("aligned"))
    (folder / "qarm.yaml").write_text(SETTINGS + ALIGNED)
    context = open_project(folder, spark)
    for job in (ingest_catalog, mine_item_pairs):
        job(context)
    with pytest.raises(ValueError, match="No aligned encoder has the settings .* Run: qarm align-encoder"):
        embed_items(context)
    shown = io.StringIO()
    handler, logger = logging.StreamHandler(shown), logging.getLogger("qarm")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        counts = align_encoder(context)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    embed_items(context)
    return context, counts, shown.getvalue()


def test_pairs_come_from_both_sources_and_from_the_train_split_only(aligned):
    context = aligned[0]
    rows = context.warehouse.read(ITEM_PAIRS).groupBy("source").agg({"event_timestamp": "max"}).collect()

    assert {row["source"] for row in rows} == {"item-to-item", "user-to-item"}
    assert max(str(row[1]) for row in rows) < "2024-01-01 16:40"  # of 20 hours, the last fifth is tested on


def test_version_0_is_the_frozen_encoder_and_version_1_the_aligned_one(aligned):
    encoders = aligned[0].artifacts("encoders")
    frozen, trained = (encoders.get(version).verify() for version in (0, 1))

    assert [frozen.manifest["aligned"], trained.manifest["aligned"]] == [False, True]
    assert [frozen.manifest["dim"], trained.manifest["dim"]] == [384, 32 + 384]
    metrics = trained.manifest["metrics"]
    assert len(metrics["epochs"]) >= 1
    assert metrics["valid"]["hit_rate"] >= metrics["untrained"]["hit_rate"]
    assert trained.manifest["pairs_until"] < "2024-01-01T16:40"


def test_embeddings_carry_the_aligned_version(aligned):
    rows = aligned[0].warehouse.read(ITEM_EMBEDDINGS).where("encoder_version = 1").collect()

    assert len(rows) == 64
    np.testing.assert_allclose(np.linalg.norm([r["embedding"] for r in rows], axis=1), 1, atol=1e-5)


def test_the_command_shows_a_line_for_each_epoch_of_the_processes_that_train(aligned):
    context, _, shown = aligned
    epochs = context.artifacts("encoders").get(1).manifest["metrics"]["epochs"]

    lines = [line for line in shown.splitlines() if line.startswith("epoch ")]

    assert len(lines) == len(epochs)
    assert lines[0].startswith(f"epoch 0: train loss {epochs[0]['train_loss']:.4f}, valid loss")


def test_an_aligned_encoder_is_kept_until_realign(aligned):
    counts = align_encoder(aligned[0])

    assert counts.remark == "encoder v1 is kept. Use --realign to train a new one"
    assert aligned[0].artifacts("encoders").versions() == [0, 1]


@pytest.mark.slow
def test_the_evaluation_compares_both_versions_on_later_co_clicks(aligned, capsys):
    context = aligned[0]

    counts = evaluate_encoder(context, max_pairs=100)

    figures = json.loads((context.settings.artifacts_path / "evaluations" / "encoder.json").read_text())
    assert counts.rows_in == counts.rows_out + counts.rows_rejected
    assert (figures["frozen"], figures["encoder_version"]) == (0, 1)
    assert figures["chance"] == pytest.approx(10 / 63)
    assert set(figures["hit_rate"]) == {"0", "1"}
    assert figures["hit_rate"]["0"]["all"] > 2 * figures["chance"]  # users like one theme, and text tells themes apart
    assert "encoder v0, frozen" in capsys.readouterr().out


def test_training_data_hold_each_pair_once_and_a_pair_with_its_reverse_in_one_split(spark, tmp_path):
    pairs = [(9, 2, "item-to-item", 0.5), (9, 2, "user-to-item", 2.0), (2, 9, "item-to-item", 0.5), (9, 77, "x", 1.0)]
    pairs += [(a, b, "x", 1.0) for a in range(20, 60) for b in range(20, 60) if a != b]
    items = [(i, f"text {i}") for i in (2, 9, *range(20, 60))]  # 77 is no longer in the catalog

    rows = write_alignment_data(
        spark.createDataFrame(pairs, "trigger_item_id long, target_item_id long, source string, weight double"),
        spark.createDataFrame(items, "item_id long, text string"),
        tmp_path,
        columns=["text"],
        max_pairs=10_000,
        valid_share=0.3,
        seed=0,
    )

    written = spark.read.parquet(str(tmp_path / "pairs")).toPandas()
    index = {row["item_index"]: row["text"] for row in spark.read.parquet(str(tmp_path / "items")).collect()}
    assert rows == len(written) == 2 + 40 * 39
    assert [index[i] for i in (0, 1, 2)] == ["text 2", "text 9", "text 20"]
    splits = {(r.trigger_index, r.target_index): r.split for r in written.itertuples()}
    assert all(splits[b, a] == split for (a, b), split in splits.items())
    assert 0.2 < (written["split"] == "valid").mean() < 0.4
    assert written.set_index(["trigger_index", "target_index"])["weight"][1, 0] == 2.5
