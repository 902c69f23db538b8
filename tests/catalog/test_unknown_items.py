"""Rows of the click log whose item the catalog lacks are kept and counted, and too many of them stop the run."""

from __future__ import annotations

import pytest

from qarm_features.catalog.checks import remarks
from qarm_features.catalog.ingest import IngestError
from qarm_features.catalog.unknown_items import count_unknown_items, require_known_items, user_ids_like_floats
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.storage.tables import INTERACTIONS
from tests.toy_catalog import open_project, toy_interactions, toy_items, write_toy_project


def project(folder, items, log, spark, id_type="string"):
    write_toy_project(folder)
    items.to_parquet(folder / "catalog" / "items.parquet", index=False)
    log.to_parquet(folder / "catalog" / "interactions.parquet", index=False)
    settings = (
        (folder / "qarm.yaml").read_text().replace("  title: title", f"  title: title\n  item_id_type: {id_type}")
    )
    (folder / "qarm.yaml").write_text(settings)
    return open_project(folder, spark)


def test_a_log_of_floats_joins_a_catalog_of_integers(spark, tmp_path):
    log = toy_interactions().astype({"item_id": float})
    log.loc[0, "item_id"] = None
    context = project(tmp_path, toy_items(), log, spark)

    counts = ingest_catalog(context)

    assert counts.remark == "rejected_rows: 1 interactions: item_id is null"
    found = {row["item_id"] for row in context.warehouse.read(INTERACTIONS).select("item_id").distinct().collect()}
    assert found <= {str(n) for n in range(64)}


def test_text_that_pandas_made_of_floats_is_refused_with_ids_of_both_sides_and_the_remedy(spark, tmp_path):
    log = toy_interactions().astype({"item_id": float}).astype({"item_id": str})
    context = project(tmp_path, toy_items(), log, spark)

    message = (
        r"800 of 800 rows of interactions \(100.0%\) name \d+ items that the catalog lacks, must be at most 50.0% "
        r"\(max_unknown_item_share\). The log has item IDs such as '0.0', '1.0', '10.0', the catalog '0', '1', '10'. "
        r"800 of these rows name items of the catalog if item IDs are compared without the .0 at their ends. .* "
        "Set items.item_id_type: integer."
    )
    with pytest.raises(IngestError, match=message):
        ingest_catalog(context)


def test_rows_of_delisted_items_are_kept_and_counted(spark, tmp_path):
    items, log = toy_items(), toy_interactions()
    unknown = int((log["item_id"] < 10).sum())
    context = project(tmp_path, items[items["item_id"] >= 10], log, spark, "integer")

    counts = ingest_catalog(context)

    share = f"{unknown / 800:.1%}"
    assert counts.remark == f"{unknown} of 800 rows of interactions ({share}) name 10 items that the catalog lacks"
    assert context.warehouse.read(INTERACTIONS).count() == 800


@pytest.mark.parametrize(
    ("catalog", "log", "remedy"),
    [
        (
            ["a1", "b"],
            ["A1", "A1", "c"],
            "2 of these rows name items of the catalog if item IDs are compared in lower case",
        ),
        (
            ["0012"],
            ["12"],
            "1 of these rows .* compared without zeros at their starts. Write them alike in both sources.",
        ),
        (["a"], ["x"], "Check item_id of items and interactions."),
    ],
)
def test_ids_that_are_written_in_two_ways_are_told(spark, catalog, log, remedy):
    items = spark.createDataFrame([(item,) for item in catalog], "item_id string")
    interactions = spark.createDataFrame([(item,) for item in log], "item_id string")
    unknown = count_unknown_items(items, interactions)

    with pytest.raises(IngestError, match=remedy):
        require_known_items(unknown, items, interactions, 0.5)


def test_user_ids_that_pandas_made_of_floats_are_told(spark):
    users = spark.createDataFrame([("10.0",), ("11.0",), ("u",)], "user_id string")

    (remark,) = remarks(users, [user_ids_like_floats()])
    assert remark.startswith("2 rows of interactions have a user_id that ends in .0")
    assert remarks(users.where("user_id = 'u'"), [user_ids_like_floats()]) == []
