"""The share of rejected rows has a limit per table and per reason, and one error names all that are over theirs."""

from __future__ import annotations

import pytest

from qarm_features.catalog.checks import IngestError
from qarm_features.catalog.rejections import RowCounts, require_few_rejected
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.settings.load import SettingsError, load_settings
from qarm_features.settings.sources import InteractionSource, ItemSource, RejectedShares
from tests.toy_catalog import open_project, toy_interactions, toy_items, write_toy_project

GUESTS = RowCounts("interactions", 75, {"user_id is null": 20, "label is null": 5})
ITEMS = RowCounts("items", 90, {"item_id is null": 2, "content is empty": 8})


@pytest.fixture
def load(tmp_path):
    def write(line):
        (tmp_path / "qarm.yaml").write_text(f"items: {{path: a.csv}}\ninteractions: {{path: b.csv}}\n{line}\n")
        return load_settings(tmp_path / "qarm.yaml")

    return write


def test_every_table_over_its_share_is_named_with_its_reasons():
    with pytest.raises(IngestError) as error:
        require_few_rejected([ITEMS, GUESTS], RejectedShares())

    assert str(error.value).splitlines() == [
        "10 of 100 rows of items are rejected (10.0%), must be at most 5.0% (max_rejected_share.items). "
        "By reason: content is empty: 8; item_id is null: 2. The rows are in rejected_rows.",
        "25 of 100 rows of interactions are rejected (25.0%), must be at most 5.0% (max_rejected_share.interactions). "
        "By reason: user_id is null: 20; label is null: 5. The rows are in rejected_rows.",
    ]


def test_a_reason_that_is_named_has_its_own_share_and_does_not_count_for_its_table():
    require_few_rejected([GUESTS], RejectedShares(reasons={"user_id is null": 0.2}))

    message = r'20 of 100 rows .* at most 10.0% \(max_rejected_share.reasons\["user_id is null"\]\)'
    with pytest.raises(IngestError, match=message):
        require_few_rejected([GUESTS], RejectedShares(interactions=1, reasons={"user_id is null": 0.1}))


def test_a_reason_that_no_row_has_is_named_when_a_share_is_too_large():
    message = "max_rejected_share.reasons names user_id is nul, for which no row was rejected."
    with pytest.raises(IngestError, match=message):
        require_few_rejected([GUESTS], RejectedShares(reasons={"user_id is nul": 0.3}))


def test_a_source_without_rows_is_refused():
    with pytest.raises(IngestError, match="items has no rows at its source, must have at least 1. Check its path."):
        require_few_rejected([RowCounts("items", 0, {})], RejectedShares())


def test_one_number_is_the_share_of_both_tables(load, monkeypatch):
    assert load("max_rejected_share: 0.2").max_rejected_share == RejectedShares(items=0.2, interactions=0.2)
    assert load("max_rejected_share: {items: 0.1}").max_rejected_share == RejectedShares(items=0.1)
    assert load("").max_rejected_share == RejectedShares(items=0.05, interactions=0.05)
    monkeypatch.setenv("QARM_MAX_REJECTED_SHARE", "0.3")
    assert load("max_rejected_share: 0.2").max_rejected_share.items == 0.3
    monkeypatch.delenv("QARM_MAX_REJECTED_SHARE")
    monkeypatch.setenv("QARM_MAX_REJECTED_SHARE__ITEMS", "0.4")
    assert load("").max_rejected_share.items == 0.4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_rejected_share: 2", "^max_rejected_share is 2: must be a number from 0 to 1, or a section with items, "),
        ("max_rejected_share: few", "^max_rejected_share is 'few': must be a number from 0 to 1"),
        ("max_rejected_share: {item: 1}", r"^max_rejected_share.item in .* is not a setting. Did you mean items\?"),
        ("max_rejected_share: {items: 2}", "^max_rejected_share.items is 2: .* by QARM_MAX_REJECTED_SHARE__ITEMS.$"),
        (
            "max_rejected_share: {reasons: {user_id is null: 3}}",
            r"^max_rejected_share.reasons.user_id is null is 3: .* Change it in [^ ]*qarm.yaml\.$",
        ),
        ("max_unknown_item_share: 2", "^max_unknown_item_share is 2: .*less than or equal to 1"),
    ],
)
def test_a_wrong_share_is_named(load, line, message):
    with pytest.raises(SettingsError, match=message):
        load(line)


def test_duplicates_by_a_column_need_its_name():
    with pytest.raises(ValueError, match="latest_by is not set, must name the column whose largest value is latest"):
        ItemSource(path="a.csv", duplicates="latest")
    with pytest.raises(ValueError, match="order_by is not set, must name the column whose largest number is latest"):
        InteractionSource(path="a.csv", duplicates="latest")


@pytest.mark.slow
def test_a_log_with_guests_is_ingested_when_their_reason_is_allowed_and_else_both_tables_are_named(spark, tmp_path):
    folder = write_toy_project(tmp_path)
    log, items = toy_interactions().astype({"user_id": "Int64"}), toy_items()
    log.loc[::5, "user_id"] = None
    items.loc[:7, ["title", "plot"]] = ""
    log.to_parquet(folder / "catalog" / "interactions.parquet", index=False)
    items.to_parquet(folder / "catalog" / "items.parquet", index=False)
    text = (folder / "qarm.yaml").read_text()

    (folder / "qarm.yaml").write_text(text.replace("max_rejected_share: 0.5\n", ""))
    with pytest.raises(
        IngestError, match=r"8 of 64 rows of items .*\n160 of 800 rows of interactions .*user_id is null: 160"
    ):
        ingest_catalog(open_project(folder, spark))
    shares = "{items: 0.2, reasons: {user_id is null: 0.2}}"
    (folder / "qarm.yaml").write_text(text.replace("max_rejected_share: 0.5", f"max_rejected_share: {shares}"))
    counts = ingest_catalog(open_project(folder, spark))

    assert counts[:3] == (864, 56 + 640, 168)
