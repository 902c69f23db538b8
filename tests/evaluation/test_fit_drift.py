"""Items that came after the fit are compared with those of the fit: drift is found, and chance is not called drift."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from qarm_features.codebooks.errors import residual_errors
from qarm_features.evaluation.fit_drift import fit_drift
from qarm_features.evaluation.refit_advice import past_limits, verdicts
from qarm_features.settings.monitor import Monitor

CODEBOOKS = np.random.default_rng(5).normal(scale=(0.5, 0.25), size=(16, 8, 2)).transpose(2, 0, 1).astype(np.float32)
NO_LOG = None


def coded(spark, embeddings, added):
    """Rows of items with their nearest codes, level by level."""
    residuals, codes = embeddings.astype(np.float32), []
    for centroids in CODEBOOKS:
        codes.append(np.square(residuals[:, None] - centroids).sum(axis=2).argmin(axis=1))
        residuals = residuals - centroids[codes[-1]]
    columns = {"embedding": list(embeddings.astype(np.float32)), "rq_codes": np.stack(codes, axis=1).tolist()}
    rows = pd.DataFrame({**columns, "added_after_fit": added})
    schema = "embedding array<float>, rq_codes array<int>, added_after_fit boolean"
    return spark.createDataFrame(rows, schema), np.stack(codes, axis=1)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def around():
    """1,500 embeddings around the centroids of the first level."""
    rng = np.random.default_rng(0)
    return unit(CODEBOOKS[0][rng.integers(16, size=1500)] + rng.normal(scale=0.2, size=(1500, 8)))


def test_items_like_those_of_the_fit_pass_no_limit(spark, around):
    rows, _ = coded(spark, around, np.arange(1500) % 3 == 0)

    found = fit_drift(rows, CODEBOOKS)

    assert (found["items"], found["new_items"]) == (1000, 500)
    assert found["error"]["ratio"] == pytest.approx(1, abs=0.15)
    assert found["cells"]["psi"] < 3 * found["cells"]["psi_by_chance"]
    assert abs(found["semantic_ids"]["new"] - found["semantic_ids"]["expected"]) < 0.06
    assert past_limits(verdicts(found, NO_LOG, Monitor())) == []


def test_items_of_another_kind_have_larger_errors_and_fill_other_cells(spark, around):
    other = unit(np.random.default_rng(1).normal(loc=1.0, scale=0.5, size=(500, 8)))
    rows, _ = coded(spark, np.concatenate([around, other]), np.arange(2000) >= 1500)

    found = fit_drift(rows, CODEBOOKS)
    past = past_limits(verdicts(found, NO_LOG, Monitor()))

    assert [one.what.split(" ")[0] for one in past] == ["error", "PSI"]
    assert found["cells"]["p_value"] < 1e-10
    assert 0 < found["gain"] < 1


def test_errors_are_those_of_the_arrays_for_any_partitions(spark, around):
    added = np.arange(1500) < 300
    rows, codes = coded(spark, around, added)

    found = [fit_drift(rows.repartition(parts), CODEBOOKS, error_at_fit=0.1) for parts in (1, 7)]

    errors, energy = residual_errors(around.astype(np.float32), codes, CODEBOOKS)[:, -1], np.square(around).sum(axis=1)
    assert found[0] == found[1]
    assert found[0]["error"]["of_new"] == pytest.approx(errors[added].sum() / energy[added].sum(), rel=1e-5)
    assert found[0]["error"]["of_fit"] == pytest.approx(errors[~added].sum() / energy[~added].sum(), rel=1e-5)
    share = errors[~added].sum() / energy[~added].sum() * energy.sum() / errors.sum()
    assert found[0]["gain"] == pytest.approx(max(0, 1 - share), abs=1e-5)
    assert found[0]["code_usage"][0]["by_fit"] == len(np.unique(codes[~added, 0]))


def test_an_id_that_no_item_of_the_fit_has_is_new_and_ids_of_one_item_say_how_many_to_expect(spark):
    rows = [([0.0] * 8, [0, 0], False)] * 2 + [([0.0] * 8, [1, 1], False), ([0.0] * 8, [2, 2], False)]
    rows += [([0.0] * 8, [1, 1], True), ([0.0] * 8, [5, 5], True), ([0.0] * 8, [5, 5], True)]
    frame = spark.createDataFrame(rows, "embedding array<float>, rq_codes array<int>, added_after_fit boolean")

    found = fit_drift(frame, CODEBOOKS)["semantic_ids"]

    assert (found["new"], found["expected"]) == (pytest.approx(2 / 3), 0.5)


def test_many_new_items_with_ids_of_their_own_pass_the_limit(spark):
    rows = [([1.0] * 8, [0, 0], False)] * 200 + [([1.0] * 8, [3, number % 16], True) for number in range(200)]
    frame = spark.createDataFrame(rows, "embedding array<float>, rq_codes array<int>, added_after_fit boolean")

    found = verdicts(fit_drift(frame, CODEBOOKS), NO_LOG, Monitor())

    assert (found[2].state, found[2].value) == ("past", 1.0)


def test_few_new_items_are_not_judged_and_none_leave_the_fit_alone_to_be_measured(spark, around):
    few = fit_drift(coded(spark, around[:200], np.arange(200) >= 195)[0], CODEBOOKS)
    none = fit_drift(coded(spark, around[:200], np.zeros(200, bool))[0], CODEBOOKS, error_at_fit=1e-3)

    assert [one.state for one in verdicts(few, NO_LOG, Monitor())] == ["unknown"] * 5
    assert verdicts(few, NO_LOG, Monitor())[0].remark == "5 new items, 100 are needed"
    assert [one.state for one in verdicts(none, NO_LOG, Monitor())] == ["unknown"] * 3 + ["past", "unknown"]
    assert none["cells"] is None


def test_rows_of_the_log_without_a_semantic_id_are_held_against_their_limit(spark, around):
    drift = fit_drift(coded(spark, around[:200], np.arange(200) >= 195)[0], CODEBOOKS)
    unseen = {"rows": 100, "unseen": 6, "new": 10, "since": "2026-01-01T00:00:00Z"}

    last = verdicts(drift, unseen, Monitor())[-1]

    assert (last.state, last.value) == ("past", 0.06)
    assert last.remark == "6 of 100 rows since 2026-01-01T00:00:00Z. A run gives new items codes: qarm run"
    assert verdicts(drift, unseen, Monitor(max_unseen=0.06))[-1].state == "ok"
