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
    assert metrics["valid"]["score"] >= metrics["untrained"]["score"]
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


def exported(spark, folder, pairs, items, **shares):
    """Writes training data of pairs (trigger, target, source, weight, hour) and returns them with the item IDs."""
    schema = "trigger_item_id long, target_item_id long, source string, weight double, hour int"
    rows = spark.createDataFrame(pairs, schema).selectExpr("*", "timestamp_seconds(hour * 3600) AS event_timestamp")
    texts = spark.createDataFrame([(i, f"{i}") for i in items], "item_id long, text string")
    shares = {"valid_share": 0.3, "valid_item_share": 0.0} | shares
    number = write_alignment_data(rows, texts, folder, columns=["text"], max_pairs=10_000, seed=0, **shares)
    text_of = {row["item_index"]: int(row["text"]) for row in spark.read.parquet(str(folder / "items")).collect()}
    written = spark.read.parquet(str(folder / "pairs")).toPandas()
    assert number == len(written)
    written["trigger"], written["target"] = (written[f"{end}_index"].map(text_of) for end in ("trigger", "target"))
    return written, text_of


def splits_of(written) -> dict[tuple[int, int], str]:
    return {(row.trigger, row.target): row.split for row in written.itertuples()}


def test_training_data_hold_each_pair_once_and_a_pair_with_its_reverse_in_one_split(spark, tmp_path):
    pairs = [(9, 2, "Swing", 0.5, 0), (9, 2, "users", 6.0, 0), (2, 9, "Swing", 1.5, 0), (9, 77, "users", 2.0, 0)]
    pairs += [(a, b, "x", 1.0, a % 7) for a in range(20, 60) for b in range(20, 60) if a != b]
    items = (2, 9, *range(20, 60))  # 77 is no longer in the catalog

    written, text_of = exported(spark, tmp_path, pairs, items)

    assert len(written) == 2 + 40 * 39
    assert [text_of[i] for i in (0, 1, 2)] == [2, 9, 20]
    splits = splits_of(written)
    assert all(splits[b, a] == split for (a, b), split in splits.items())
    assert 0.2 < (written["split"] == "valid").mean() < 0.4
    weights = written.set_index(["trigger", "target"])["weight"]
    assert (weights[9, 2], weights[2, 9]) == (0.5 / 1.0 + 6.0 / 4.0, 1.5)  # the means of the sources are 1 and 4


def test_the_latest_pairs_are_held_out(spark, tmp_path):
    pairs = [(a, b, "x", 1.0, 10 * a + b) for a in range(10) for b in range(10) if a < b]

    written, _ = exported(spark, tmp_path, pairs, range(10), valid_share=0.2)

    latest = sorted((10 * a + b for a, b in splits_of(written)), reverse=True)[:9]  # a fifth of 45 pairs
    assert {10 * a + b for (a, b), split in splits_of(written).items() if split == "valid"} == set(latest)


@pytest.mark.slow
def test_pairs_at_one_time_are_held_out_by_hash(spark, tmp_path):
    pairs = [(a, b, "x", 1.0, 5) for a in range(30) for b in range(30) if a != b]

    written, _ = exported(spark, tmp_path, pairs, range(30), valid_share=0.2)

    assert 0.1 < (written["split"] == "valid").mean() < 0.3


@pytest.mark.slow
def test_a_held_out_item_has_no_training_pair_whatever_the_partitions(spark, tmp_path):
    pairs = [(a, b, "x", 1.0, 0) for a in range(60) for b in range(60) if a != b]

    written, _ = exported(spark, tmp_path / "one", pairs, range(60), valid_share=0.01, valid_item_share=0.1)
    again, _ = exported(spark, tmp_path / "other", pairs[::-1], range(60), valid_share=0.01, valid_item_share=0.1)

    train = written[written["split"] == "train"]
    held_out = set(range(60)) - set(train["trigger"]) - set(train["target"])
    assert 2 <= len(held_out) <= 12
    assert splits_of(again) == splits_of(written)
