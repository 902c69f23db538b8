"""Tensors out, from one release, by a process that never loads Spark."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from qarm_features.feature_store.reader import MixedReleaseError, SemanticIDReader
from qarm_features.tables import ITEM_SEMANTIC_IDS, USER_BEHAVIOR


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


def test_a_batch_of_two_codebook_versions_is_refused(reader, monkeypatch):
    rows = {"rq_codes": [[0, 0], [1, 1]], "codebook_version": [0, 1]}
    monkeypatch.setattr(reader, "_fetch", lambda *_: rows)

    with pytest.raises(
        MixedReleaseError, match=r"item_semantic_id__cb0 served codebook versions \[0, 1\], must be 0 alone"
    ):
        reader.item_codes([1, 2])


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
