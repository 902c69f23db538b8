"""The state of a source in an object store: it tells which files came and which changed, without Spark."""

from __future__ import annotations

import socket
import time

import pytest

from qarm_features.catalog.reading.new_files import new_files
from qarm_features.jobs import states
from qarm_features.jobs.states import UNKNOWN, path_state
from qarm_features.settings.sources import ItemSource
from qarm_features.storage.objects import ObjectPath


def test_files_that_came_to_a_folder_of_a_store_are_new_and_a_changed_one_is_told(bucket):
    folder, uri = ObjectPath(bucket) / "catalog" / "items", f"{bucket}/catalog/items/".replace("s3://", "s3a://")
    (folder / "a.csv").write_text("item_id\n1\n")
    (ObjectPath(bucket) / "catalog" / "items_of_others" / "c.csv").write_text("item_id\n3\n")
    source = ItemSource(path=uri, format="csv", text=["title"])

    first = path_state(uri)
    (folder / "day" / "b.csv").write_text("item_id\n2\n")
    (folder / "day" / "_SUCCESS").write_text("")
    second = path_state(uri)
    (folder / "a.csv").write_text("item_id\n7\n")  # as long as before
    third = path_state(uri)

    as_recorded = [list(one) for one in first]
    came = new_files("items", source, uri, as_recorded, [list(one) for one in second])
    changed = new_files("items", source, uri, as_recorded, [list(one) for one in third])
    assert [name for name, *_ in second] == ["a.csv", "day/_SUCCESS", "day/b.csv"]
    assert (came.paths, came.fault) == ((f"{uri}day/b.csv",), "")
    assert changed.fault == "1 files of items changed, for example a.csv"
    assert abs(first[0][2] / 1e9 - time.time()) < 600


def test_one_object_is_a_source_and_what_is_not_there_has_no_files(bucket):
    (ObjectPath(bucket) / "items.csv").write_text("item_id\n1\n")

    assert [one[:2] for one in path_state(f"{bucket}/items.csv")] == [("", 10)]
    assert path_state(f"{bucket}/item") == []
    assert path_state(f"{bucket}/*.csv") == UNKNOWN
    assert path_state("hdfs://name/items.csv") == UNKNOWN


@pytest.mark.parametrize("endpoint", ["the tests' own", "a closed port"])
def test_a_store_that_cannot_be_listed_leaves_the_state_unknown(endpoint, bucket, monkeypatch, caplog):
    with socket.socket() as closed:  # it is bound, so nobody else takes it, and does not listen
        closed.bind(("127.0.0.1", 0))
        if endpoint == "a closed port":
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with caplog.at_level("INFO", logger=states.log.name):
            found = path_state("s3://another-bucket/items")

    assert found == UNKNOWN
    assert "s3://another-bucket/items is read whole, because it cannot be listed without Spark" in caplog.text
