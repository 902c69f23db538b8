"""Scores of the last days beside the earlier ones: what moved is found, chance and ties are not taken for it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from qarm_features.catalog.checks import IngestError
from qarm_features.evaluation.drift import cell_drift
from qarm_features.evaluation.refit_advice import past_limits, refit_pays, verdicts
from qarm_features.evaluation.score_drift import score_drift
from qarm_features.settings.monitor import Monitor
from qarm_features.settings.sources import ServedScores

DAYS = 30
NO_DRIFT = {"new_items": 0, "error": None, "cells": None, "semantic_ids": None}


def scored(rows: int, *, shift: float = 0.0, draw=None, seed: int = 0) -> pd.DataFrame:
    """Returns scores over 30 days, of which the last 7 are shifted."""
    random = np.random.default_rng(seed)
    days = np.linspace(0, DAYS, rows)
    scores = random.normal(size=rows) if draw is None else draw(random, rows)
    scores = np.where(days > DAYS - 7, scores + shift, scores)
    times = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(days, unit="D")
    return pd.DataFrame({"score": scores, "event_timestamp": times.as_unit("us")})


@pytest.fixture
def compare(tmp_path, spark):
    def found(frame: pd.DataFrame, kind: str = "parquet", files: int = 1, **columns):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for number in range(files):
            getattr(frame.iloc[number::files], f"to_{kind}")(folder / f"{number}.{kind}", index=False)
        source = ServedScores(path=str(folder), format=kind, **columns)
        return score_drift(spark, source, str(folder), days=7)

    return found


def judged(scores, **limits):
    settings = Monitor(scores=ServedScores(path="x.csv"), **limits)
    return verdicts(NO_DRIFT, None, settings, scores)


def test_scores_that_moved_are_found_and_no_refit_is_advised(compare):
    same, moved = compare(scored(20_000)), compare(scored(20_000, shift=1.0))

    assert abs(same["psi"] - same["psi_by_chance"]) < 0.01
    assert same["p_value"] > 0.01 < same["distance_p_value"]
    assert past_limits(judged(same)) == []
    assert moved["rows"] == same["rows"] == {"before": 15_333, "lately": 4_667}
    assert (moved["psi"], moved["distance"]) == (pytest.approx(1.0, abs=0.1), pytest.approx(0.38, abs=0.02))
    assert moved["median"]["lately"] - moved["median"]["before"] == pytest.approx(1.0, abs=0.05)
    (verdict,) = past_limits(judged(moved))
    assert "4,667 scores since 2026-01-24T00:00:00Z and 15,333 before" in verdict.remark
    assert not refit_pays(judged(moved))


def test_the_figures_are_those_of_numpy_and_do_not_depend_on_the_files(compare):
    frame = scored(5_000, shift=0.3)

    found, split = compare(frame), compare(frame.sample(frac=1, random_state=1), files=3)

    late = frame["event_timestamp"] > frame["event_timestamp"].max() - pd.Timedelta(days=7)
    before, lately = frame["score"][~late], frame["score"][late]
    edges = np.quantile(before, np.arange(1, 20) / 20)
    expected = cell_drift(*(np.bincount(np.searchsorted(edges, part), minlength=20) for part in (before, lately)))
    assert found == split
    assert found["cells"] == 20
    assert found["psi"] == pytest.approx(expected.psi, abs=0.01)


@pytest.mark.parametrize(
    "draw",
    [
        lambda random, rows: np.full(rows, 0.5),
        lambda random, rows: random.integers(2, size=rows).astype(float),
        lambda random, rows: np.where(random.random(rows) < 0.9, 0.0, random.random(rows)),
    ],
)
def test_ties_are_no_drift(compare, draw):
    found = compare(scored(4_000, draw=draw))

    assert found["psi"] < 0.05
    assert past_limits(judged(found)) == []


def test_few_scores_raise_no_alarm(compare):
    found = compare(scored(120, shift=3.0))

    assert [one.state for one in judged(found)][-1] == "unknown"
    assert [one.state for one in judged(found, min_items=20)][-1] == "past"


def test_rows_without_a_score_or_a_time_are_counted_apart(compare):
    frame = scored(1_000).astype({"score": object, "event_timestamp": str})
    frame.loc[0:2, "score"] = ["", "nan", "a lot"]
    frame.loc[3, "event_timestamp"] = "yesterday"

    found = compare(frame, "csv")

    assert found["unusable"] == 4
    assert sum(found["rows"].values()) == 996
    assert "4 rows without a score or a time" in judged(found)[-1].remark


def test_a_source_that_does_not_fit_is_named_by_its_place_in_the_settings(compare):
    frame = scored(10)
    with pytest.raises(IngestError, match=r"monitor\.scores"):
        compare(frame, score="rank")
    with pytest.raises(IngestError, match=r"monitor\.scores\.timestamp_unit is seconds, must be timestamp"):
        compare(frame, timestamp_unit="seconds")


def test_without_a_usable_row_nothing_is_compared(compare):
    assert compare(scored(5).assign(score=float("nan"))) is None
    assert judged(None)[-1].remark == "no row has a score and a time"
