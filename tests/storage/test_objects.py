"""A path in an object store does what the records and versions need, on a real S3 server."""

from __future__ import annotations

import logging
import pickle
import sys
import threading

import pytest

from qarm_features.storage import objects
from qarm_features.storage.json_files import write_json
from qarm_features.storage.objects import ObjectPath, ObjectStoreError, any_path
from tests.s3_server import KEYS


def test_an_object_is_read_as_it_was_written(bucket):
    path = ObjectPath(bucket) / "a folder" / "release 1.json"

    write_json(path, {"name": "Straße"})

    assert path.is_file() and not path.parent.is_file()
    assert path.read_text() == '{\n  "name": "Stra\\u00dfe"\n}'
    assert pickle.loads(pickle.dumps(path)) == path


def test_a_pattern_matches_names_part_by_part(bucket):
    root = any_path(f"{bucket}/shop")
    for name in ("releases/cb0.json", "releases/cb1.json", "releases/vectors/enc0.json", "banks/v0/manifest.json"):
        (root / name).write_text("{}")
    (any_path(bucket) / "shopping" / "releases" / "cb9.json").write_text("{}")

    found = [sorted(map(str, root.glob(pattern))) for pattern in ("releases/*.json", "*/v*/manifest.json", "*.json")]

    assert found == [
        [f"{bucket}/shop/releases/cb0.json", f"{bucket}/shop/releases/cb1.json"],
        [f"{bucket}/shop/banks/v0/manifest.json"],
        [],
    ]
    assert sorted((root / "releases").glob("cb*.json")) == [root / "releases" / f"cb{n}.json" for n in (0, 1)]
    assert root.folders() == ["banks", "releases"]


def test_of_many_who_create_an_object_one_wins(bucket):
    path, winners = ObjectPath(bucket) / "mark", []

    def create(number):
        if path.create(str(number).encode()):
            winners.append(str(number))

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [path.read_text()] == winners


def test_who_created_an_object_and_lost_the_answer_is_told_so_when_asking_again(bucket):
    path = ObjectPath(bucket) / "mark"

    assert [path.create(b"mine"), path.create(b"mine"), path.create(b"of somebody else")] == [True, True, False]


def test_a_large_file_goes_in_parts_and_comes_back_the_same(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "_CHUNK", 5 << 20)
    (tmp_path / "weights.bin").write_bytes(bytes(range(256)) * 50_000)
    path = ObjectPath(bucket) / "weights.bin"

    path.upload(tmp_path / "weights.bin")
    path.download(tmp_path / "back.bin")

    assert (tmp_path / "back.bin").read_bytes() == (tmp_path / "weights.bin").read_bytes()
    assert [(one.name, one.bytes) for one in ObjectPath(bucket).objects()] == [("weights.bin", 12_800_000)]


def test_what_is_not_there_is_a_missing_file(bucket, tmp_path):
    path = ObjectPath(bucket) / "nothing"

    for attempt in (path.read_bytes, path.unlink, path.modified, lambda: path.download(tmp_path / "x")):
        with pytest.raises(FileNotFoundError, match="/nothing does not exist"):
            attempt()
    path.unlink(missing_ok=True)


def test_an_error_of_the_store_names_the_path_and_shows_neither_address_nor_keys(s3_server, bucket, caplog):
    caplog.set_level(logging.DEBUG)
    path = ObjectPath("s3://no-such-bucket/x")

    with pytest.raises(
        ObjectStoreError, match="s3://no-such-bucket/x cannot be written .*404.*AWS_ENDPOINT_URL"
    ) as error:
        path.write_text("7")

    said = f"{error.value!r} {error.value.__cause__} {caplog.text}"
    assert not any(part in said for part in (*KEYS.values(), str(s3_server.port), "Signature"))


@pytest.mark.parametrize(
    "uri", ["hdfs://name/folder", "s3://", "s3://bucket?region=eu", "s3://b/x?region=eu", "artifacts"]
)
def test_what_is_no_object_store_is_refused(uri):
    with pytest.raises(
        ObjectStoreError, match=r"is no folder of an object store, must begin with one of s3://, .*Mount"
    ):
        ObjectPath(uri)


def test_without_the_package_the_extra_is_named(monkeypatch):
    for module in ("obstore", "obstore.exceptions", "obstore.store"):
        monkeypatch.setitem(sys.modules, module, None)

    for attempt in (ObjectPath("s3://bucket/x").is_file, lambda: ObjectPath("s3://bucket/x").create(b"7")):
        with pytest.raises(ImportError, match=r"object store need the package obstore.*qarm-features\[objects\]"):
            attempt()
