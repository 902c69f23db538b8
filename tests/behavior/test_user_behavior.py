"""A sequence has a timestamp just after its last item, so that a join gets only behavior strictly before its time."""

from datetime import UTC, datetime

from qarm_features.behavior.user_behavior import user_behavior


def at(hour):
    return datetime(2024, 1, 1, hour, tzinfo=UTC)


def sequences(frame):
    rows = frame.orderBy("user_id", "event_timestamp").collect()
    return [(r["user_id"], r["behavior_item_ids"], r["event_timestamp"].replace(tzinfo=UTC)) for r in rows]


def interactions(spark, *rows):
    return spark.createDataFrame(rows, "user_id int, item_id int, event_timestamp timestamp, label int")


def test_only_positives_count_the_latest_last_and_the_oldest_is_dropped_at_the_limit(spark):
    rows = interactions(
        spark, (7, 1, at(10), 1), (7, 2, at(11), 0), (7, 3, at(12), 1), (7, 4, at(13), 1), (8, 5, at(9), 1)
    )

    behavior = user_behavior(rows, max_length=2)

    assert sequences(behavior) == [
        (7, [1], at(10).replace(microsecond=1)),
        (7, [1, 3], at(12).replace(microsecond=1)),
        (7, [3, 4], at(13).replace(microsecond=1)),
        (8, [5], at(9).replace(microsecond=1)),
    ]


def test_positives_of_one_moment_appear_together(spark):
    rows = interactions(spark, (7, 9, at(10), 1), (7, 3, at(10), 1), (7, 5, at(11), 1)).repartition(3)

    behavior = user_behavior(rows, max_length=5)

    assert sequences(behavior) == [
        (7, [3, 9], at(10).replace(microsecond=1)),
        (7, [3, 9, 5], at(11).replace(microsecond=1)),
    ]
    assert behavior.orderBy("event_timestamp").first()["behavior_timestamps"] == [int(at(10).timestamp())] * 2
