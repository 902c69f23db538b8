"""``qarm evaluate-codes`` measures the codes of the toy project without a ranking model."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
from qarm_features.jobs.evaluate_codes import evaluate_codes
from qarm_features.jobs.fit_codebooks import fit_codebooks
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.report.code_table import code_lines, code_table
from qarm_features.report.html import code_evaluations
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS
from tests.toy_catalog import add_clustered_embeddings, open_project, write_toy_project


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
    assert behavior["prefixes"][0]["share"] > behavior["prefixes"][0]["chance"]


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
