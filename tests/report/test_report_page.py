"""The report says what its figures mean: one meaning of head, torso and tail, the period, and the share of ties."""

from __future__ import annotations

import json

import pytest

from qarm_features.report.figures import encoder_evaluation
from qarm_features.report.html import render_report

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
    "interval": {"0": [0.2, 0.3]},
    "shuffled": {"0": 0.125},
    "popular": {"all": 0.1875, "head": None},
    "frozen_with_popularity": {"weight": 0.06, "hit_rate": {"all": 0.375}},
    "beats_matched": {"0": {"all": 0.625, "head": None}},
    "popular_beats_matched": {"all": 0.5, "head": None},
}


UNSAFE = "<script>alert(1)</script>"
ITEM = {
    "item_id": "A<1", "title": UNSAFE, "rq_codes": [3],
    "neighbors": [{"item_id": "B", "title": "near", "rq_codes": [3], "shared_levels": 1}],
}  # fmt: skip
JUNK = {
    "prefix": [2], "items": 5, "no_content": 5, "same_content": 5, "reasons": ["items without content"], "titles": [UNSAFE],
}  # fmt: skip
ROW = {
    "variant": "item IDs", "seeds": 1, "auc": 0.5, "deviation": None, "interval": [0.4, 0.6], "user_auc": None, "against": "",
    "difference": None, "difference_interval": None,
}  # fmt: skip
CODES = {
    "variant": "+ codes", "against": "item IDs", "difference": 0.01, "difference_interval": [-0.02, 0.04],
}  # fmt: skip


def figures(encoders):
    test = {"auc": 0.5, "user_auc": 0.5, "log_loss": 0.7, "slices": {"head": PART, "few_click_items": PART}}
    return {
        "project": f"shop {UNSAFE}", "written_at": "2024-05-06T07:08:09+00:00", "items": [ITEM], "frozen_codes": None,
        "junk_clusters": [JUNK], "rejected_rows": [{"table": "items", "reason": f"title is {UNSAFE}", "rows": 1234}],
        "ranking_rows": [ROW, {**ROW, **CODES}],
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
    assert '<td>bought together, at one moment</td><td class="number">4</td> <td class="number">0.7500</td>' in page


def test_what_popularity_alone_reaches_stands_below_the_hit_rates(tmp_path):
    page = " ".join(render_report(figures(ENCODERS), tmp_path).read_text().split())

    for name, value, chance in (
        ("all, 95% interval by users", "0.2000 to 0.3000", ""),
        ("all, targets exchanged at random", "0.1250", "0.0100"),
        ("all, the 10 most popular items for everybody", "0.1875", "0.0100"),
        ("all, frozen with 0.06 log(1 + positives) added", "0.3750", "0.0100"),
        ("target is nearer than an item as popular", "0.625", "0.500"),
    ):
        cells = f'<td class="number"></td> <td class="number">{value}</td> <td class="number">{chance}</td>'
        assert f"<td>{name}</td>{cells}" in page


def test_figures_without_ties_are_of_an_earlier_version_and_count_as_not_measured(tmp_path):
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations" / "encoder.json").write_text(
        json.dumps({k: v for k, v in ENCODERS.items() if k != "ties"})
    )

    assert encoder_evaluation(tmp_path) is None


@pytest.fixture
def page(tmp_path):
    return " ".join(render_report(figures(None), tmp_path).read_text().split())


def test_the_page_names_the_project_and_its_date(page):
    assert "Written on 2024-05-06 at 07:08 UTC" in page
    assert "<title>shop &lt;script&gt;" in page


def test_texts_of_the_catalog_and_of_its_rows_are_escaped(page):
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)") == 5  # name twice, item, junk cluster, rejected row
    assert "<bdi>A&lt;1</bdi>" in page


def test_rejected_rows_and_junk_clusters_are_counted(page):
    assert '<td class="number">1,234</td>' in page
    assert "<td>items without content</td>" in page


def test_aucs_have_their_intervals_and_a_sentence_about_the_difference(page):
    assert "0.4000 to 0.6000" in page
    assert "-0.0200 to +0.0400" in page
    assert "The difference is within its interval" in page


def test_bars_are_drawn_in_the_page_for_light_and_dark(page):
    assert page.count("<svg") == 3
    assert page.count("<rect") == 3
    assert "prefers-color-scheme: dark" in page
    assert not {"http://", "https://", "src="} & set(page.replace('"', " ").split())
    assert len(page) < 60_000


def test_the_codes_of_the_frozen_encoder_stand_below_those_of_the_aligned_one(tmp_path):
    frozen = {"codebook_version": 7, "encoder_version": 0, "items": [ITEM]}

    page = render_report({**figures(None), "frozen_codes": frozen}, tmp_path).read_text()

    assert "codes of the frozen encoder, codebook version 7" in page
