"""The last screen shows what alignment changed beside what popularity alone reaches, and says what is within its interval."""

from __future__ import annotations

import io
import json

from rich.console import Console

from qarm_features.report.run_summary import summary
from tests.report.test_report_page import ENCODERS, ITEM, figures

MEASURED = {
    **ENCODERS,
    "hit_rate": {"0": {"all": 0.25, "head": None}, "1": {"all": 0.26, "head": None}},
    "interval": {"0": [0.2, 0.3], "1": [0.21, 0.31]},
    "shuffled": {"0": 0.125, "1": 0.13},
    "beats_matched": {"0": {"all": 0.5, "head": None}, "1": {"all": 0.75, "head": None}},
    "minus_frozen": {
        "1": {
            "hit_rate": {"difference": 0.01, "interval": [-0.02, 0.04]},
            "beats_matched": {"difference": 0.25, "interval": [0.2, 0.3]},
        }
    },
}


def screen(folder, **changed):
    frozen = {"codebook_version": 0, "encoder_version": 0, "items": [ITEM]}
    content = {**figures(MEASURED), "encoder_version": 1, "codebook_version": 1, "frozen_codes": frozen, **changed}
    (folder / "figures.json").write_text(json.dumps(content))
    shown = io.StringIO()
    Console(file=shown, width=120).print(summary(report_folder=folder, feature_repo=folder))
    return " ".join(shown.getvalue().split())


def test_both_encoders_stand_beside_popularity_with_what_is_certain(tmp_path):
    shown = screen(tmp_path)

    assert "HitRate@10 0.2500 0.2600 0.1875 0.0100" in shown
    assert "0.2000 to 0.3000 0.2100 to 0.3100" in shown
    assert (
        "HitRate@10, aligned minus frozen: +0.0100, 95% interval -0.0200 to +0.0400. The difference is within its interval"
    ) in shown
    assert "+0.2500, 95% interval +0.2000 to +0.3000. The interval does not hold 0." in shown
    assert "The 10 most popular items, the same for everybody, reach 0.1875" in shown


def test_the_codes_of_both_encoders_are_shown(tmp_path):
    shown = screen(tmp_path)

    assert "semantic IDs, codebook version 1, by the aligned encoder" in shown
    assert "semantic IDs, codebook version 0, by the frozen encoder, the same items" in shown


def test_aucs_stand_beside_their_intervals(tmp_path):
    shown = screen(tmp_path)

    assert "item IDs 0.5000 0.4000 to 0.6000" in shown
    assert "these test users do not show that the two differ" in shown
    assert "Every variant was trained with one seed" in shown


def test_a_run_without_a_comparison_ends_without_one(tmp_path):
    shown = screen(tmp_path, encoders=None, frozen_codes=None, ranking_rows=[])

    assert "co-clicks" not in shown
    assert "codebook quality" in shown
