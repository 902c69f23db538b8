"""``qarm evaluate-codes`` measures the codes of the toy project without a ranking model."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import functions as F
from rich.console import Console

from qarm_features.evaluation.co_click_pairs import Period, evaluation_period
from qarm_features.evaluation.codes import evaluate_codes as evaluate_codes_of
from qarm_features.evaluation.encoders import evaluate
from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
from qarm_features.jobs.evaluate_codes import evaluate_codes
from qarm_features.jobs.fit_codebooks import fit_codebooks
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.report.code_table import code_lines, code_table
from qarm_features.report.figures import code_evaluations, encoder_evaluation
from qarm_features.report.terminal import encoder_table
from qarm_features.settings.ranking import Ranking
from qarm_features.storage.tables import INTERACTIONS, ITEM_SEMANTIC_IDS
from qarm_features.training.time_split import split_moments
from tests.toy_catalog import add_clustered_embeddings, open_project, write_toy_project

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, spark):
    """Return the toy project with embeddings in four clusters and the figures of its codebooks."""
    context = open_project(write_toy_project(tmp_path_factory.mktemp("evaluated")), spark)
    ingest_catalog(context)
    add_clustered_embeddings(context, range(64))
    fit_codebooks(context)
    assign_semantic_ids(context)
    counts = evaluate_codes(context, against=0, max_queries=20)
    return context, counts, json.loads((context.settings.artifacts_path / "evaluations" / "codes_v0.json").read_text())


def test_all_items_and_co_clicks_are_measured(evaluated):
    _, counts, figures = evaluated

    assert counts.rows_in == figures["items"] == figures["quality"]["items"] == 64
    assert figures["neighborhoods"]["queries"] == 20
    assert figures["behavior"]["chance"] == 10 / 63
    assert 0 < figures["behavior"]["pairs"] <= 5_000
    assert figures["shared"] == {"version": 0, "items": 64, "levels": [1.0, 1.0], "semantic_ids": 1.0}


def test_users_who_like_one_theme_make_codes_beat_chance(evaluated):
    behavior = evaluated[2]["behavior"]

    assert behavior["hit_rate"] > behavior["chance"]
    assert behavior["prefixes"][0]["share"] > behavior["prefixes"][0]["shuffled"]


def test_errors_fall_with_every_level(evaluated):
    errors = [level["error"] for level in evaluated[2]["errors"]["levels"]]

    assert errors[1] < errors[0]


def test_the_report_finds_the_figures_by_version(evaluated):
    context, _, figures = evaluated

    assert code_evaluations(context.settings.artifacts_path) == [figures]


def test_behavior_is_printed_first_and_versions_stand_side_by_side(evaluated):
    figures = evaluated[2]
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115

    console.print(code_table([figures, {**figures, "codebook_version": 7, "behavior": None}]))

    text = console.export_text()
    assert text.index("HitRate@10 by code") < text.index("Jaccard@20") < text.index("collisions") < text.index("gini")
    assert "codebooks v0" in text
    assert "codebooks v7" in text
    assert next(iter(dict(code_lines(figures)))).startswith("#co-clicks")


def test_a_version_without_semantic_ids_is_named(fresh_project):
    codebooks = fresh_project.artifacts("codebooks")
    sizes = {"seed": 0, "num_levels": 2, "codebook_size": 4, "encoder_version": 0}
    codebooks.publish(lambda folder: None, **sizes)
    fresh_project.warehouse.append(ITEM_SEMANTIC_IDS, fresh_project.warehouse.empty(ITEM_SEMANTIC_IDS))

    with pytest.raises(
        ValueError, match="item_semantic_ids has 0 rows of codebook version 0, must have at least 1. Run: qarm"
    ):
        evaluate_codes(fresh_project, codebook_version=0)


def test_the_screen_names_the_period_and_the_share_of_ties(evaluated):
    context, _, figures = evaluated
    log = context.warehouse.read(INTERACTIONS)
    valid_from = split_moments(log, context.settings.ranking)[0]

    lines = dict(code_lines(figures))

    assert lines["period"] == (
        f"from {valid_from:%Y-%m-%dT%H:%M} on, the valid and test split, because no item pairs were mined"
    )
    assert lines["positives that share their moment with the one before"] == "0.00%"
    assert figures["behavior"]["pairs"] <= log.where(F.col("event_timestamp") >= F.lit(valid_from)).count()
    assert not any("bought together" in name for name in lines)


def test_after_pairs_were_mined_the_period_begins_after_the_last_one(spark):
    pairs = spark.createDataFrame([(datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),)], "event_timestamp timestamp")

    period = evaluation_period(pairs, pairs, Ranking())

    assert period == (datetime(2024, 1, 2, 3, 4, 5, 1, tzinfo=UTC), "later than all item pairs")


def test_co_clicks_without_codes_are_no_figure(evaluated, spark):
    codes = spark.createDataFrame([(900, [0, 0]), (901, [0, 1])], "item_id long, rq_codes array<int>")
    embeddings = spark.createDataFrame([(900, [1.0, 0.0]), (901, [0.0, 1.0])], "item_id long, embedding array<float>")
    log = evaluated[0].warehouse.read(INTERACTIONS)

    figures = evaluate_codes_of(codes, embeddings, np.ones((2, 2, 2), np.float32), log, period=Period(START, "all"))

    assert figures["behavior"] is None
    assert figures["items"] == 2


@pytest.mark.slow
def test_baskets_have_a_row_of_their_own_for_codes_and_encoders(spark):
    codes = spark.createDataFrame([(i, [i % 2]) for i in range(20)], "item_id long, rq_codes array<int>")
    unit = [(i, [1.0, 0.0] if i % 2 else [0.0, 1.0], 0) for i in range(20)]
    embeddings = spark.createDataFrame(unit, "item_id long, embedding array<float>, encoder_version int")
    rows = [(7, i, START + timedelta(hours=i // 4), 1) for i in range(20)]
    log = spark.createDataFrame(rows, "user_id long, item_id long, event_timestamp timestamp, label int")
    none = spark.createDataFrame([], "trigger_item_id long, target_item_id long")
    period = Period(START, "all of the log")

    of_codes = evaluate_codes_of(codes, embeddings, np.array([[[0, 1], [1, 0]]], np.float32), log, period=period, k=9)
    of_encoder = evaluate(log, none, embeddings, versions=[0], period=period, k=9, max_pairs=99, seed=0)

    versions = {"codebook_version": 0, "encoder_version": 0}
    lines = dict(code_lines({**versions, **of_codes}))
    assert lines["positives that share their moment with the one before"] == "78.95%"  # 15 of 19
    assert lines["pairs bought together"] == "20"
    assert lines["co-clicks"] == "16"
    assert 0 < of_codes["behavior"]["bought_together"]["hit_rate"] < 1
    shown = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    shown.print(encoder_table({**of_encoder, "frozen": 0}))
    text = " ".join(shown.export_text().split())
    assert "from 2024-01-01T00:00 on (all of the log)" in text
    assert "bought together, at one moment" in text
    assert "From then on 78.9% of 19 consecutive positives share their moment with the one before" in text


def test_figures_from_before_ties_were_left_out_are_not_shown_as_measured(evaluated, tmp_path):
    old = {name: value for name, value in evaluated[2]["behavior"].items() if name not in ("ties", "period")}
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations" / "encoder.json").write_text(json.dumps({"k": 10, "hit_rate": {"0": {"all": 0.2}}}))

    for behavior in (old, {name: value for name, value in evaluated[2]["behavior"].items() if name != "popular"}):
        lines = dict(code_lines({**evaluated[2], "behavior": behavior}))
        assert "run qarm evaluate-codes again" in lines["co-clicks"]
        assert not any("HitRate" in name for name in lines)
    assert encoder_evaluation(tmp_path) is None
