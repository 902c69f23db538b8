"""A reader returns tensors of one release and starts no Spark session."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from qarm_features.feature_store.reading.reader import MixedReleaseError, SemanticIDReader
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS, USER_BEHAVIOR
from tests.feature_store.stock_store import code_values, flip, stock_store, write


@pytest.fixture
def sqlite_store(tmp_path):
    """A store that was written without Spark, with items 0 to 3 of 2 codes each, and its repo."""
    online_store = {"type": "sqlite", "path": str(tmp_path / "online.db")}
    store = stock_store(tmp_path, online_store, {item: [0, item] for item in range(4)})
    return store, tmp_path / "feature_repo"


@pytest.fixture(scope="module")
def reader(project):
    return SemanticIDReader(project.settings.feature_repo_path)


def test_codes_equal_the_table_and_unknown_items_are_minus_1(project, reader):
    table = {r["item_id"]: r["rq_codes"] for r in project.warehouse.read(ITEM_SEMANTIC_IDS).collect()}

    batch = reader.item_codes([63, 0, 999, 63])

    assert batch.codes.dtype == torch.int64
    assert batch.codes.tolist() == [table[63], table[0], [-1, -1], table[63]]
    assert batch.found.tolist() == [True, True, False, True]
    assert batch.codebook_version == 0


def test_the_reader_counts_the_items_that_it_was_asked_for_and_did_not_find(project):
    reader = SemanticIDReader(project.settings.feature_repo_path)
    before = reader.read_counts

    reader.item_codes([63, 0, 999, 63])
    reader.user_and_candidates(3, [999, 1])
    reader.behavior_codes([3])

    assert (before.items, before.unseen_rate) == (0, 0.0)
    assert (reader.read_counts.items, reader.read_counts.not_found) == (6, 2)
    assert reader.read_counts.unseen_rate == pytest.approx(1 / 3)


def test_batches_of_none_and_of_only_unknown_items_keep_their_shape(reader):
    assert reader.item_codes([]).codes.shape == (0, 2)
    assert reader.item_codes([999]).codes.tolist() == [[-1, -1]]
    empty = reader.behavior_codes([999])
    assert (empty.codes.shape, empty.mask.shape) == ((1, 0, 2), (1, 0))


def test_behavior_holds_the_latest_items_last_with_their_codes(project, reader):
    newest = (
        project.warehouse.read(USER_BEHAVIOR).where("user_id = 3").orderBy("event_timestamp", ascending=False).first()
    )
    expected = newest["behavior_item_ids"]

    batch = reader.behavior_codes([999, 3])

    assert batch.item_ids[1].tolist() == expected
    assert batch.mask.tolist() == [[False] * len(expected), [True] * len(expected)]
    assert batch.codes[1].tolist() == reader.item_codes(expected).codes.tolist()
    assert batch.codes[0].eq(-1).all()
    assert reader.behavior_codes([3], max_length=2).item_ids.tolist() == [expected[-2:]]


@pytest.mark.parametrize(
    ("codes", "version", "message"),
    [
        ([1, 1], 1, r"item_semantic_id__cb0 served codebook versions \[(0, )?1\], must be 0 alone. Run: qarm publish-"),
        ([1, 1, 1], 0, "item_semantic_id__cb0 served 3 codes for an item, must be 2. Run: qarm publish-"),
    ],
)
@pytest.mark.parametrize("cache_items", [0, 10])
def test_a_row_of_another_release_is_refused(sqlite_store, codes, version, message, cache_items):
    store, repo = sqlite_store
    write(store, "item_semantic_id__cb0", {2: codes}, lambda row: code_values(row, version))
    reader = SemanticIDReader(repo, cache_items=cache_items)
    assert reader.item_codes([1]).codes.tolist() == [[0, 1]]

    with pytest.raises(MixedReleaseError, match=message):
        reader.item_codes([1, 2])


def test_an_item_without_its_version_is_missing(sqlite_store):
    store, repo = sqlite_store
    write(store, "item_semantic_id__cb0", {9: [1, 1]}, lambda row: {"rq_codes": code_values(row, 0)["rq_codes"]})

    batch = SemanticIDReader(repo).item_codes([9, 1])

    assert batch.codes.tolist() == [[-1, -1], [0, 1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_items": -1}, "cache_items is -1, must be at least 0"),
        ({"timeout": 0}, "timeout is 0, must be above 0 seconds"),
        ({"on_timeout": "skip"}, 'on_timeout is \'skip\', must be "raise" or "missing"'),
    ],
)
def test_an_option_that_means_nothing_is_refused(sqlite_store, options, message):
    with pytest.raises(ValueError, match=message):
        SemanticIDReader(sqlite_store[1], **options)


def test_an_id_of_another_type_is_named(sqlite_store):
    reader = SemanticIDReader(sqlite_store[1])
    with pytest.raises(TypeError, match="item_ids holds 'one', must be integers as in the catalog"):
        reader.item_codes(["one"])
    with pytest.raises(TypeError, match="candidate_ids holds 1.5, must be integers as in the catalog"):
        reader.user_and_candidates(7, [1.5])


def test_without_behavior_sequences_reading_them_says_what_to_run(sqlite_store):
    store, repo = sqlite_store
    store.registry.delete_feature_view("user_behavior", store.project)

    with pytest.raises(ValueError, match="The feature store has no view user_behavior. Run: qarm publish"):
        SemanticIDReader(repo).behavior_codes([7])


def test_a_reader_follows_a_service_that_came_after_it_was_cached(sqlite_store):
    store, repo = sqlite_store
    reader = SemanticIDReader(repo)
    store.registry.delete_feature_service("item_semantic_id", store.project)
    reader._store.refresh_registry()

    flip(store, repo.parent, 0, {1: [0, 1]})

    assert reader.item_codes([1]).codes.tolist() == [[0, 1]]


def test_an_unknown_service_says_what_to_run(project):
    with pytest.raises(
        ValueError, match="service is item_codes, must be a feature service or view of qarm. Run: qarm publish-"
    ):
        SemanticIDReader(project.settings.feature_repo_path, "item_codes")
    with pytest.raises(ValueError, match="service is item_semantic_id__cb7, must be a feature service or view of qarm"):
        SemanticIDReader(project.settings.feature_repo_path, "item_semantic_id__cb7")


def test_a_reading_process_needs_no_java_and_starts_no_spark_session(project, tmp_path):
    code = (
        "import sys; from qarm_features.feature_store import SemanticIDReader\n"
        f"reader = SemanticIDReader({str(project.settings.feature_repo_path)!r})\n"
        "print(reader.item_codes([0]).codes.shape[1])\n"
        "from pyspark import SparkContext; assert SparkContext._active_spark_context is None"
    )
    without_java = {"PATH": str(tmp_path), "JAVA_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=without_java, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2", done.stderr
