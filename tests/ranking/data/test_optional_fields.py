"""Optional columns of training rows become optional fields of a batch. Columns that are not asked for are not read."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

from qarm_features.ranking import ItemVocabulary, RankingModel, TrainingRows

AT = datetime(2024, 1, 11, tzinfo=UTC)
DAYS_BEFORE = {days: int(AT.timestamp()) - days * 86_400 for days in (1, 2, 4)}
ROWS = {
    "user_id": pa.array([7, 8]),
    "item_id": pa.array([10, 20]),
    "label": pa.array([1, 0], pa.int32()),
    "item_codes": pa.array([[5, 6], None], pa.list_(pa.int32())),
    "behavior_item_ids": pa.array([[10, 30], None], pa.list_(pa.int64())),
    "behavior_codes": pa.array([[1, 2, 3, 4], None], pa.list_(pa.int32())),
}
TIMES = {
    "event_timestamp": pa.array([AT, AT], pa.timestamp("us", "UTC")),
    "behavior_timestamps": pa.array([[DAYS_BEFORE[2], DAYS_BEFORE[1]], None], pa.list_(pa.int64())),
}
IMPRESSIONS = {
    "impression_item_ids": pa.array([[10, 20, 30], []], pa.list_(pa.int64())),
    "impression_labels": pa.array([[1, 0, 1], []], pa.list_(pa.int32())),
    "impression_timestamps": pa.array([[DAYS_BEFORE[d] for d in (4, 2, 1)], []], pa.list_(pa.int64())),
    "impression_codes": pa.array([[1, 2, -1, -1, 3, 4], []], pa.list_(pa.int32())),
}
COUNTERS = {
    "user_positive_count": pa.array([2, None], pa.int64()),
    "user_impression_count": pa.array([3, None], pa.int64()),
    "item_positive_count": pa.array([40, 0], pa.int64()),
    "item_impression_count": pa.array([50, 6], pa.int64()),
}
ALL = ROWS | TIMES | IMPRESSIONS | COUNTERS


def read(folder, columns: dict[str, pa.Array], **options):
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    options = {"num_levels": 2, "batch_size": 8, "behavior_length": 3, "impression_length": 2} | options
    return TrainingRows([str(folder / "rows.parquet")], ItemVocabulary([10, 20, 30]), **options)


def test_every_optional_column_is_read_padded_and_cut_to_the_latest(tmp_path):
    (batch,) = read(tmp_path, ALL)

    assert batch.behavior_age.tolist() == [[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert batch.impression_index.tolist() == [[2, 3], [0, 0]]
    assert batch.impression_codes.tolist() == [[[-1, -1], [3, 4]], [[-1, -1], [-1, -1]]]
    assert batch.impression_label.tolist() == [[0, 1], [0, 0]]
    assert batch.impression_age.tolist() == [[2.0, 1.0], [0.0, 0.0]]
    assert batch.impression_mask.tolist() == [[True, True], [False, False]]
    assert batch.counters.tolist() == [[2.0, 3.0, 40.0, 50.0], [0.0, 0.0, 0.0, 6.0]]
    assert [batch.impression_index.dtype, batch.impression_label.dtype] == [torch.int64] * 2
    assert [batch.behavior_age.dtype, batch.impression_age.dtype, batch.counters.dtype] == [torch.float32] * 3


def test_impressions_are_as_many_as_behaviors_unless_a_length_is_given(tmp_path):
    (batch,) = read(tmp_path, ALL, impression_length=None)

    assert batch.impression_index.tolist() == [[1, 2, 3], [0, 0, 0]]


def test_without_the_columns_the_fields_are_none_and_the_model_still_takes_the_first_five(tmp_path):
    (batch,) = read(tmp_path, ROWS, shuffle_rows=4)

    assert batch[7:] == (None,) * 7
    assert batch.to("cpu").counters is None
    assert RankingModel(num_items=3, num_levels=2, codebook_size=7)(batch).shape == (2,)


def test_ages_to_the_second_whatever_the_unit_of_the_timestamp(tmp_path):
    half_a_day = {"event_timestamp": pa.array([AT.replace(hour=12), AT]).cast(pa.timestamp("ns"))}

    (batch,) = read(tmp_path, ALL | half_a_day)

    assert batch.behavior_age[0].tolist() == [2.5, 1.5, 0.0]


def test_only_the_fields_asked_for_are_read(tmp_path):
    rows = read(tmp_path, ALL, optional_fields=["counters", "impression_label"])
    (batch,) = rows

    read_fields = [name for name, tensor in zip(batch._fields, batch) if tensor is not None]
    assert read_fields[7:] == ["impression_label", "counters"]
    assert set(rows.columns) == set(ROWS) | set(COUNTERS) | {"impression_item_ids", "impression_labels"}


def test_workers_shuffle_and_rebatch_optional_fields_with_their_rows(tmp_path):
    many = {name: pa.concat_arrays([column] * 50) for name, column in ALL.items()}
    rows = read(tmp_path, many, batch_size=16, shuffle_rows=40)

    batches = list(DataLoader(rows, batch_size=None, num_workers=2, multiprocessing_context="spawn"))

    seen = [
        (user, *labels, counters[3])
        for batch in batches
        for user, labels, counters in zip(
            batch.user_group.tolist(), batch.impression_label.tolist(), batch.counters.tolist()
        )
    ]
    assert sorted(seen) == [(7, 0, 1, 50.0)] * 50 + [(8, 0, 0, 6.0)] * 50


@pytest.mark.parametrize(("change", "message"), [
    ({"impression_labels": pa.array([[1, 0], []])}, "impression_labels holds 2 values, must hold 3"),
    ({"impression_labels": pa.array([[1, 0, 5], []])}, "impression_labels is 5, must be 0 or 1"),
    ({"impression_timestamps": pa.array([[1], []])}, "impression_timestamps holds 1 values, must hold 3"),
    ({"impression_codes": pa.array([[1, 2, 3], []])}, "impression_codes holds 3 codes, must hold 6 or none"),
    ({"behavior_timestamps": pa.array([None, [3]], pa.list_(pa.int64()))}, "behavior_timestamps holds 0 values"),
])  # fmt: skip
def test_lists_that_do_not_fit_their_items_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        list(read(tmp_path, ALL | change))


def test_a_field_asked_for_needs_its_columns(tmp_path):
    with pytest.raises(ValueError, match=r"has no column item_impression_count, item_positive_count, user_"):
        read(tmp_path, ROWS, optional_fields=["counters"])


def test_a_field_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="optional_fields name color, must be of behavior_age, impression_index"):
        read(tmp_path, ALL, optional_fields=["color"])


def test_an_impression_length_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="impression_length is 0, must be at least 1"):
        read(tmp_path, ALL, impression_length=0)
