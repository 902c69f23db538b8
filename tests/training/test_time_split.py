"""The log is cut by time at full hours."""

from datetime import UTC, datetime, timedelta

import pytest

from qarm_features.settings.ranking import Ranking
from qarm_features.training.time_split import require_both_labels, split_moments, time_cuts


def test_valid_and_test_start_at_full_hours_that_leave_their_shares(spark):
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [(start + timedelta(minutes=30 * step),) for step in range(200)]  # two rows an hour, hours 0 to 99

    cuts = time_cuts(spark.createDataFrame(rows, "event_timestamp timestamp"), valid_share=0.1, test_share=0.2)

    assert cuts == (start + timedelta(hours=70), start + timedelta(hours=80))


def test_an_empty_log_is_named(spark):
    empty = spark.createDataFrame([], "event_timestamp timestamp")

    with pytest.raises(
        ValueError, match="Table interactions has 0 rows, must have at least 1. Run: qarm ingest-catalog"
    ):
        time_cuts(empty, valid_share=0.1, test_share=0.1)


def test_moments_of_the_settings_cut_exactly_where_they_say(spark):
    settings = Ranking(valid_from="2002-04-01", test_from="2002-09-01T02:00:00+02:00")

    cuts = split_moments(spark.createDataFrame([], "event_timestamp timestamp"), settings)

    assert cuts == (datetime(2002, 4, 1, tzinfo=UTC), datetime(2002, 9, 1, tzinfo=UTC))


def test_without_moments_the_shares_cut(spark):
    rows = [(datetime(2024, 1, 1, hour, tzinfo=UTC),) for hour in range(20)]

    cuts = split_moments(spark.createDataFrame(rows, "event_timestamp timestamp"), Ranking())

    assert cuts == (datetime(2024, 1, 1, 16, tzinfo=UTC), datetime(2024, 1, 1, 18, tzinfo=UTC))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"train": [0, 1], "valid": [1], "test": [0, 1]},
            "The valid split of training_rows has label 1 only, must have",
        ),
        ({"train": [1], "valid": [1], "test": [1]}, "Set interactions.label and interactions.positive_from"),
        ({"train": [0, 1], "valid": [0, 1]}, "The test split of training_rows has 0 rows, must have at least 1"),
    ],
)
def test_splits_on_which_no_ranking_model_can_train_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        require_both_labels(labels)
