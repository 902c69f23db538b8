"""Results are resumed run by run, and intervals and claims are what statistics say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ranking_completejourney.intervals import RedrawnHouseholds, holm, interval, of_runs, p_value
from ranking_completejourney.report import independent, paired
from ranking_completejourney.results import Results, estimate, fingerprint
from ranking_completejourney.variants import CLAIMS, ROWS, independent_runs_of, runs_of
from sklearn.metrics import roc_auc_score

BY_NAME = {row.name: row for row in ROWS}


def run(name="item IDs", **numbers):
    return runs_of(BY_NAME[name], **{"encoders": 1, "codebooks": 1, "seeds": 1, **numbers})[0]


def test_a_finished_run_is_found_by_its_key_and_no_other(tmp_path):
    results = Results(tmp_path)
    results.write(run(), "key", {"row": "item IDs", "minutes": 2.0}, np.array([0.5, -1.0]))

    found = results.find(run(), "key")

    assert found["run"] == "item IDs, seed 0"
    assert found["logit"].tolist() == [0.5, -1.0]
    assert results.find(run(), "other") is None
    assert results.find(run("+ VQ"), "key") is None


def test_a_run_that_was_killed_while_it_wrote_is_not_finished(tmp_path, monkeypatch):
    results, calls = Results(tmp_path), itertools.count()

    def killed_at_the_second(source, target):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return replace(source, target)

    import ranking_completejourney.results as module

    replace = module.os.replace
    monkeypatch.setattr(module.os, "replace", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        results.write(run(), "key", {"row": "item IDs", "minutes": 2.0}, np.zeros(2))
    monkeypatch.undo()

    assert results.find(run(), "key") is None
    results.write(run(), "key", {"row": "item IDs", "minutes": 2.0}, np.zeros(2))
    assert results.find(run(), "key")["minutes"] == 2.0


def test_the_estimate_takes_the_minutes_of_finished_runs(tmp_path):
    results = Results(tmp_path)
    runs = [(run(), "a"), (run("+ VQ"), "a"), (run("all"), "a")]
    assert estimate(results, runs)[1] is None

    results.write(run(), "a", {"row": "item IDs", "minutes": 2.0}, np.zeros(1))
    results.write(run("+ VQ"), "other seed", {"row": "+ VQ", "minutes": 6.0}, np.zeros(1))

    lines, minutes = estimate(results, runs)
    assert lines[0] == "done     item IDs, seed 0"
    assert lines[1] == "to do    + VQ, encoder 0, seed 0: about 6.0 min"
    assert minutes == 6.0 + 4.0  # the mean of all for a row that never ran


def test_a_fingerprint_does_not_depend_on_the_order_of_settings():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})


def test_three_encoders_three_codebooks_and_two_seeds_make_runs_of_what_a_row_depends_on():
    numbers = {name: len(runs_of(row, encoders=3, codebooks=3, seeds=2)) for name, row in BY_NAME.items()}

    assert numbers["item IDs"] == numbers["+ EM3 with CIC"] == 2
    assert numbers["+ unaligned RQ"] == numbers["+ VQ"] == 6
    assert numbers["+ aligned RQ"] == numbers["all"] == 18


def test_runs_are_paired_by_seed_and_by_the_encoder_and_codebook_that_both_have():
    ids, codes = ([(one, None) for one in runs_of(BY_NAME[name], encoders=2, codebooks=2, seeds=2)]
                  for name in ("item IDs", "+ aligned RQ"))  # fmt: skip
    unaligned = [(one, None) for one in runs_of(BY_NAME["+ unaligned RQ"], encoders=2, codebooks=2, seeds=2)]

    assert len(paired(codes, ids)) == 8
    assert all(one.seed == other.seed for (one, _), (other, _) in paired(codes, ids))
    assert all(one.codebook == other.codebook for (one, _), (other, _) in paired(codes, unaligned))


def test_independent_runs_share_neither_encoder_nor_codebook_nor_seed():
    for row in ROWS:
        runs = independent_runs_of(row, 3)
        assert [run.seed for run in runs] == [0, 1, 2]
        assert {run.encoder for run in runs} == ({0, 1, 2} if row.aligned else {None})
        assert {run.codebook for run in runs} == ({0, 1, 2} if row.reads_codes else {None})

    ids, codes = (
        [(one, None) for one in independent_runs_of(BY_NAME[name], 3)] for name in ("item IDs", "+ aligned RQ")
    )
    assert [(one.seed, other.seed) for (one, _), (other, _) in paired(codes, ids)] == [(0, 0), (1, 1), (2, 2)]


def test_runs_of_one_encoder_are_one_result_and_those_of_one_codebook_where_there_is_one_encoder():
    def groups(name: str, other: str, **numbers: int) -> int:
        runs = [[(one, None) for one in runs_of(BY_NAME[row], **numbers)] for row in (name, other)]
        return len(np.unique(independent([(a, b) for (a, _), (b, _) in paired(*runs)])))

    assert groups("all", "item IDs", encoders=3, codebooks=2, seeds=4) == 3
    assert groups("all", "item IDs", encoders=1, codebooks=2, seeds=4) == 2
    assert groups("+ EM3 without CIC", "item IDs", encoders=3, codebooks=2, seeds=4) == 4
    assert groups("all", "+ unaligned RQ", encoders=3, codebooks=1, seeds=1) == 3
    assert groups("item IDs", "all", encoders=3, codebooks=1, seeds=1) == 3
    assert groups("item IDs", "item IDs", encoders=1, codebooks=1, seeds=1) == 1


def test_claims_name_rows_that_exist():
    assert {name for claim in CLAIMS for name in (claim.row, claim.against)} <= set(BY_NAME)
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)


def test_the_auc_of_redrawn_households_is_that_of_weighted_rows():
    rng = np.random.default_rng(0)
    households, label = rng.integers(0, 20, 300), rng.integers(0, 2, 300)
    score, where = np.round(rng.normal(size=300) + label, 1), rng.random(300) < 0.7  # with ties
    redrawn = RedrawnHouseholds(households, draws=5, seed=3)

    aucs = redrawn.aucs(label, score, where)

    distinct = np.unique(households)
    chosen = np.random.default_rng(3).integers(0, len(distinct), (5, len(distinct)))
    for auc, drawn in zip(aucs, chosen):
        rows = np.concatenate([np.flatnonzero((households == distinct[one]) & where) for one in drawn])
        assert auc == pytest.approx(roc_auc_score(label[rows], score[rows]))


def test_differences_are_paired_because_every_score_has_the_same_draws():
    rng = np.random.default_rng(0)
    households, label = rng.integers(0, 50, 2000), rng.integers(0, 2, 2000)
    score = rng.normal(size=2000) + label
    redrawn, every = RedrawnHouseholds(households, draws=200), np.ones(2000, bool)

    same = redrawn.aucs(label, score, every) - redrawn.aucs(label, score.copy(), every)
    better = redrawn.aucs(label, score + label, every) - redrawn.aucs(label, score, every)

    assert interval(same) == (0.0, 0.0)
    assert p_value(same) == 1.0
    assert interval(better)[0] > 0
    assert p_value(better) == pytest.approx(2 / 201)


def test_an_interval_has_the_deviation_of_runs_in_it_that_redrawn_households_cannot_see():
    draws = np.random.default_rng(0).normal(0.001, 0.0002, 10_000)  # five standard errors by households

    alone = of_runs(np.array([0.001]), draws)
    steady = of_runs(np.array([0.0011, 0.0010, 0.0009]), draws)
    torn = of_runs(np.array([0.0030, 0.0029, -0.0029]), draws)

    assert (alone.low, alone.high) == interval(draws)
    assert steady.p < 0.01 and steady.low > 0
    assert torn.p > 0.5 and torn.low < -0.005 < 0.007 < torn.high


def test_the_interval_of_runs_holds_the_truth_in_95_of_100_experiments():
    rng, held, below = np.random.default_rng(1), 0, 0
    for _ in range(2000):
        of_households = rng.normal(0, 1)  # shared by all runs, because they score the same households
        runs = 5 + of_households + rng.normal(0, 1.5, 3)
        found = of_runs(runs, runs.mean() + rng.normal(0, 1, 400))
        held += found.low < 5 < found.high
        null = of_runs(runs - 5, runs.mean() - 5 + rng.normal(0, 1, 400))
        below += null.p < 0.05

    assert 0.93 < held / 2000 < 0.98
    assert 0.02 < below / 2000 < 0.07


def test_holm_multiplies_the_smallest_by_all_and_never_lets_a_later_one_be_smaller():
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})

    # 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1, which may not be below 0.06.
    assert corrected == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.8, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}
