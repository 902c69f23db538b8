"""The pair filter drops pairs whose texts are too different, and the job writes the other pairs in one commit."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from math import sqrt

import numpy as np
import pyarrow as pa
import pytest

from qarm_features.item_pairs import flag_kept_pairs, load_filter, text_overlap, text_similarity
from qarm_features.item_pairs.pair_filter import judge_batches
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.mine_item_pairs import mine_item_pairs
from qarm_features.settings.sections import ItemPairs
from qarm_features.storage.tables import INTERACTIONS, ITEM_PAIRS, ITEMS

TEXTS = {1: "Pirates of the sea", 2: "A pirate at sea", 3: "Rocket to Mars", 4: None, 5: "  "}


def test_text_overlap_is_the_shared_part_of_the_word_stems():
    scores = text_overlap(
        ["Pirates of the sea", "The astronauts", "", "東京の夜"],
        ["the PIRATES", "the astronautical", "sea", "東京の朝"],
    )

    # pirate, of, the, sea against the, pirate; the, astron; nothing; three characters of five
    assert scores.tolist() == [2 / 4, 1.0, 0.0, 3 / 5]


def test_text_similarity_is_high_for_one_meaning_in_other_words_and_stays_in_0_to_1():
    scores = text_similarity(
        ["a ship on the ocean", "a ship on the ocean"] * 2, ["a boat at sea", "a judge in court", "tax law", ""]
    )

    assert scores[0] > 0.5 > scores[1]
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("overlap", "item_pairs.filter is overlap, must be text-overlap, text-similarity or module:function. Name an"),
        ("no_such_module:judge", "item_pairs.filter is no_such_module:judge, .* No module named 'no_such_module'. Install"),
        ("math:judge", "item_pairs.filter is math:judge, .*has no attribute 'judge'"),
        ("math:pi", "item_pairs.filter is math:pi, .* pi is float, not a function."),
    ],
)  # fmt: skip
def test_a_filter_that_does_not_exist_is_named(name, message):
    with pytest.raises(ValueError, match=message):
        load_filter(name)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.5], r"Shape of the scores of pair filter judge is \(1,\), must be \(2,\). Return one score per pair"),
        ([0.5, 1.5], r"A score of pair filter judge is 1.5, must be in \[0, 1\]"),
        ([float("nan"), 0.5], r"A score of pair filter judge is nan, must be in \[0, 1\]"),
    ],
)
def test_a_filter_that_returns_wrong_scores_is_named(monkeypatch, scores, message):
    monkeypatch.setitem(load_filter.__globals__["_BUILT_IN"], "judge", lambda triggers, targets: np.array(scores))
    rows = pa.record_batch({"trigger_text": ["a", "b", None], "target_text": ["c", "d", "e"]})

    with pytest.raises(ValueError, match=message):
        list(judge_batches(iter([rows]), filter_name="judge", threshold=0.5))


def test_a_filter_of_the_users_own_drops_pairs_below_the_threshold_and_keeps_items_without_text(spark, tmp_path):
    module = tmp_path / "first_letters.py"
    module.write_text(
        "def judge(triggers, targets):\n    return [float(a[0] == b[0]) for a, b in zip(triggers, targets)]\n"
    )
    spark.sparkContext.addPyFile(str(module))
    items = spark.createDataFrame(list(TEXTS.items()), "item_id int, text string")
    pairs = spark.createDataFrame(
        [(1, 2, "x"), (1, 3, "x"), (1, 4, "x"), (5, 3, "x"), (9, 3, "x"), (1, 1, "y")],
        "trigger_item_id int, target_item_id int, source string",
    )

    flagged = flag_kept_pairs(pairs, items, filter_name="first_letters:judge", threshold=0.5)

    kept = {(r["trigger_item_id"], r["target_item_id"]): r["kept"] for r in flagged.collect()}
    assert kept == {(1, 2): False, (1, 3): False, (1, 4): True, (5, 3): True, (9, 3): True, (1, 1): True}


@pytest.fixture
def context(settings, spark, tmp_path):
    """Return a project in which users 7 and 8 like items 1, 2, 3 in this order, then 7 likes 4. Items 1 and 2 are similar."""
    vectors = [(1, [1.0, 0.0]), (2, [1.0, 0.1]), (3, [0.0, 1.0]), (4, [1.0, 1.0])]
    vectors = spark.createDataFrame(vectors, "item_id int, vector array<float>")
    vectors.write.parquet(str(tmp_path / "vectors.parquet"))
    pairs = ItemPairs(min_support=1, item_vectors="vectors.parquet", filter="text-overlap", filter_threshold=0.1)
    context = JobContext(settings.model_copy(update={"item_pairs": pairs}))
    context.spark = spark
    log = [(user, item, datetime(2024, 1, 1, item, user, tzinfo=UTC), 1) for user in (7, 8) for item in (1, 2, 3)]
    log += [(7, 4, datetime(2024, 1, 2, tzinfo=UTC), 1), (8, 4, datetime(2024, 1, 1, tzinfo=UTC), 0)]
    items = context.warehouse.empty(ITEMS).schema
    rows = [tuple({"item_id": item, "text": text}.get(name) for name in items.names) for item, text in TEXTS.items()]
    context.warehouse.overwrite(ITEMS, spark.createDataFrame(rows, items))
    schema = "user_id int, item_id int, event_timestamp timestamp, label int"
    context.warehouse.overwrite(INTERACTIONS, spark.createDataFrame(log, schema))
    return context


def table(context):
    rows = context.warehouse.read(ITEM_PAIRS).collect()
    return {(r["source"], r["trigger_item_id"], r["target_item_id"]): r["weight"] for r in rows}


@pytest.mark.slow
def test_the_job_writes_what_the_filter_keeps_tells_the_share_dropped_and_ignores_the_future(context):
    counts = mine_item_pairs(context, until="2024-02-01")

    # Swing: 1, 2, 3 each way: 6, of which 3 with a rocket: 4 dropped. A user: 1 -> 2, 2 -> 3 (dropped), 2 -> 4 (no text)
    swing = pytest.approx(1 / sqrt(4 * 3) / (1 + 3))
    assert table(context) == {
        ("item-to-item", 1, 2): swing,
        ("item-to-item", 2, 1): swing,
        ("user-to-item", 1, 2): 2.0,
        ("user-to-item", 2, 4): 1.0,
    }
    assert counts[:3] == (9, 4, 5)
    assert counts.remark == (
        "7 positives gave item-to-item 2 (66.7% dropped), user-to-item 2 (33.3% dropped); "
        "0.0% of 5 consecutive positives share their moment with the one before"
    )
    assert context.warehouse.version(ITEM_PAIRS) == 0

    counts = mine_item_pairs(context)  # of 8 rows the train split holds those before 3:00

    assert counts.remark.startswith("4 positives gave item-to-item 2 (0.0% dropped), user-to-item 1 (0.0% dropped); ")
    assert set(table(context)) == {("item-to-item", 1, 2), ("item-to-item", 2, 1), ("user-to-item", 1, 2)}
    latest = context.warehouse.read(ITEM_PAIRS).agg({"event_timestamp": "max"}).first()[0]
    assert latest == datetime(2024, 1, 1, 2, 8)


def test_a_wrong_until_is_named_before_spark_starts(settings):
    with pytest.raises(ValueError, match="--until is noon, must be an ISO 8601 time, for example 2024-05-01T00:00:00."):
        mine_item_pairs(JobContext(settings), until="noon")


def test_a_log_without_positives_is_named(context):
    with pytest.raises(ValueError, match="interactions has 0 positives before 2023-01-01 00:00, must have at least 1."):
        mine_item_pairs(context, until="2023-01-01")


def test_without_spark_the_import_names_the_extra_to_install():
    code = "import sys; sys.modules['pyspark'] = None; import qarm_features.item_pairs"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "ImportError: Item pairs need the package pyspark, which is not installed. Run: pip install" in done.stderr
    assert "'qarm-features[spark]'" in done.stderr
