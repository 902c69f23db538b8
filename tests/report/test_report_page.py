"""The report says what its figures mean: one meaning of head, torso and tail, the period, and the share of ties."""

from __future__ import annotations

import json

import pytest

from qarm_features.report.html import encoder_evaluation, render_report

LEVEL = {"level": 0, "codebook_size": 4, "codes_in_use": 4, "code_usage": 1.0, "perplexity": 4.0}
PART = {"auc": 0.5, "rows": 9}
ENCODERS = {
    "k": 10,
    "frozen": 0,
    "since": "2024-01-02T03:04:05+00:00",
    "period": "later than all item pairs",
    "pairs": {"all": 7, "head": 3},
    "hit_rate": {"0": {"all": 0.25, "head": None}},
    "chance": 0.01,
    "ties": {"consecutive": 20, "tied": 5},
    "bought_together": {"pairs": 4, "hit_rate": {"0": 0.75}},
}


def figures(encoders):
    test = {"auc": 0.5, "user_auc": 0.5, "log_loss": 0.7, "slices": {"head": PART, "few_click_items": PART}}
    return {
        "codebook_version": 0, "encoder_version": 0, "num_levels": 1, "codebook_size": 4,
        "quality": {"items": 9, "semantic_ids": 4, "collision_rate": 0.5, "largest_bucket": 3, "levels": [LEVEL]},
        "fit": [{"relative_error": 0.5}], "bucket_sizes": [{"items": 1, "ids": 4}], "centroids": [], "codes": [],
        "ranking": [{"variant": "item IDs", "seed": 0, "metrics": {"test": test}}],
        "encoders": encoders,
    }  # fmt: skip


@pytest.mark.parametrize("encoders", [ENCODERS, None])
def test_head_torso_and_tail_are_explained_with_the_same_words_in_every_table(tmp_path, encoders):
    page = " ".join(render_report(figures(encoders), tmp_path).read_text().split())

    words = (
        "Head: most popular, 25% of impressions. Torso: the next 50% of impressions. Tail: the last 25% of impressions."
    )
    assert page.count(words) == (2 if encoders else 1)
    assert "third of the training rows" not in page


def test_the_table_of_encoders_names_its_period_the_ties_and_what_was_bought_together(tmp_path):
    page = " ".join(render_report(figures(ENCODERS), tmp_path).read_text().split())

    assert "2024-01-02T03:04 on (later than all item pairs)" in page
    assert "25.0% of 20 consecutive positives share their moment with the one before" in page
    assert '<td>bought together</td><td class="number">4</td> <td class="number">0.7500</td>' in page


def test_figures_without_ties_are_of_an_earlier_version_and_count_as_not_measured(tmp_path):
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations" / "encoder.json").write_text(
        json.dumps({k: v for k, v in ENCODERS.items() if k != "ties"})
    )

    assert encoder_evaluation(tmp_path) is None
