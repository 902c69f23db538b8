"""AUCs have intervals beside them, and a sentence says whether the test users show a difference."""

from __future__ import annotations

import numpy as np

from qarm_features.report.ranking_rows import difference_in_words, ranking_rows, seeds_in_words, without_draws

DRAWS = np.linspace(-0.01, 0.01, 1001)


def model(variant, seed, auc, draws, drawn_from="here"):
    resampled = None if draws is None else {"auc": draws.tolist(), "drawn_from": drawn_from}
    test = {"auc": auc, "user_auc": auc, "interval": None, "resampled": resampled}
    return {"variant": variant, "seed": seed, "metrics": {"test": test}}


def test_a_difference_is_taken_in_each_draw_so_that_what_users_share_falls_out():
    models = [model("+ codes", 0, 0.705, 0.705 + DRAWS), model("item IDs", 0, 0.7, 0.7 + DRAWS)]

    baseline, codes = ranking_rows(models)

    assert (baseline.variant, baseline.against, baseline.difference) == ("item IDs", "", None)
    np.testing.assert_allclose(baseline.interval, (0.6905, 0.7095), atol=1e-6)
    np.testing.assert_allclose(codes.difference_interval, (0.005, 0.005), atol=1e-9)
    assert difference_in_words(codes).endswith("The interval does not hold 0.")


def test_a_difference_within_its_interval_is_called_so():
    models = [model("item IDs", 0, 0.7, 0.7 + DRAWS), model("+ codes", 0, 0.701, 0.701 - DRAWS)]

    said = difference_in_words(ranking_rows(models)[1])

    assert said == (
        "+ codes minus item IDs: +0.0010 AUC, 95% interval -0.0180 to +0.0200 over the same resampled users. The difference "
        "is within its interval: these test users do not show that the two differ."
    )


def test_models_of_other_rows_are_not_paired():
    models = [model("item IDs", 0, 0.7, 0.7 + DRAWS), model("+ codes", 0, 0.71, 0.71 + DRAWS, "there")]

    row = ranking_rows(models)[1]

    assert (round(row.difference, 6), row.difference_interval) == (0.01, None)
    assert "too few users" not in difference_in_words(row)


def test_seeds_are_averaged_and_only_those_of_both_variants_are_compared():
    models = [model("item IDs", seed, 0.7 + seed / 100, 0.7 + DRAWS) for seed in (0, 1)]
    models += [model("+ codes", 0, 0.72, 0.72 + DRAWS)]

    baseline, codes = rows = ranking_rows(models)

    assert (baseline.seeds, round(baseline.auc, 4), round(baseline.deviation, 4)) == (2, 0.705, 0.0071)
    assert round(codes.difference, 6) == 0.02
    assert "Some variants were trained with one seed" in seeds_in_words(rows)


def test_a_model_of_an_earlier_release_has_no_interval():
    old = {"variant": "item IDs", "seed": 0, "metrics": {"test": {"auc": 0.7, "user_auc": None}}}

    (row,) = ranking_rows([old])

    assert (row.auc, row.interval, row.user_auc) == (0.7, None, None)


def test_the_draws_stay_out_of_what_people_read():
    (plain,) = without_draws([model("item IDs", 0, 0.7, DRAWS)])

    assert plain["metrics"]["test"] == {"auc": 0.7, "user_auc": 0.7, "interval": None}
