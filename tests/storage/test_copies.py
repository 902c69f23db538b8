"""A version in an object store is copied to a machine once, whole and checked, and a copy that is damaged is made anew."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qarm_features.storage.artifacts import ArtifactError, Artifacts
from qarm_features.storage.copies import beside, cache_folder, local_folder
from qarm_features.storage.objects import any_path

PUBLISH = """
import sys
from qarm_features.storage.artifacts import Artifacts
def write(folder):
    (folder / "number.txt").write_text(sys.argv[2])
    print("ready", flush=True)
    sys.stdin.readline()
Artifacts(sys.argv[1], "codebooks").publish(write, made_by=sys.argv[2])
"""
KILLED = """
import os, signal, sys
from qarm_features.storage import artifacts
from qarm_features.storage.objects import ObjectPath
ObjectPath.create, create = (
    lambda path, content: os.kill(os.getpid(), signal.SIGKILL) if path.name == "manifest.json" else create(path, content)
), ObjectPath.create
artifacts.Artifacts(sys.argv[1], "codebooks").publish(lambda folder: (folder / "number.txt").write_text("6"))
"""


def write_number(number):
    def write(folder):
        (folder / "parts").mkdir()
        (folder / "parts" / "number.txt").write_text(str(number))

    return write


def another_machine(monkeypatch, folder: Path) -> Path:
    """Makes this process one of a machine that has no copies yet."""
    monkeypatch.setenv("QARM_CACHE_DIR", str(folder))
    return folder


def copies(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.glob("*/codebooks/v*"))


def test_a_version_is_fetched_on_first_use_and_only_then(bucket, tmp_path, monkeypatch):
    codebooks = Artifacts(bucket, "codebooks")
    codebooks.publish(write_number(7), seed=0)
    codebooks.publish(write_number(8), seed=1)
    cache = another_machine(monkeypatch, tmp_path / "elsewhere")

    found = codebooks.find(seed=0)
    before = copies(cache)
    text = (found.path / "parts" / "number.txt").read_text()

    assert (found.version, before, text, copies(cache)) == (0, [], "7", ["v0"])
    for name in [f"{found.place}/parts/number.txt"]:
        any_path(name).unlink()
    assert (codebooks.get(0).verify().path / "parts" / "number.txt").read_text() == "7"  # from the copy


def test_a_damaged_or_incomplete_copy_is_fetched_anew(bucket):
    version = Artifacts(bucket, "codebooks").publish(write_number(7))
    file = version.path / "parts" / "number.txt"

    file.write_text("8")
    version.verify()
    damaged = file.read_text()
    shutil.rmtree(file.parent)
    again = Artifacts(bucket, "codebooks").get(0).path

    assert (damaged, (again / "parts" / "number.txt").read_text()) == ("7", "7")


def test_an_object_that_differs_from_its_manifest_is_refused_and_no_copy_is_made(bucket, tmp_path, monkeypatch):
    version = Artifacts(bucket, "codebooks").publish(write_number(7))
    cache = another_machine(monkeypatch, tmp_path / "elsewhere")

    (version.place / "parts" / "number.txt").write_text("8")
    with pytest.raises(ArtifactError, match=r"v0/parts/number.txt differs from its manifest. Restore it"):
        _ = Artifacts(bucket, "codebooks").get(0).path
    (version.place / "parts" / "number.txt").unlink()
    with pytest.raises(ArtifactError, match=r"v0/parts/number.txt is missing. Restore it"):
        _ = Artifacts(bucket, "codebooks").get(0).path

    assert copies(cache) == []


def test_a_manifest_in_an_object_store_cannot_write_outside_of_the_copy(bucket, tmp_path, monkeypatch):
    version = Artifacts(bucket, "codebooks").publish(write_number(7))
    another_machine(monkeypatch, tmp_path / "elsewhere")
    manifest = (version.place / "manifest.json").read_text()

    (version.place / "manifest.json").write_text(manifest.replace("parts/number.txt", "../../../stranger.txt"))

    with pytest.raises(ArtifactError, match=r"names the file ../../../stranger.txt, which must lie in its folder"):
        _ = Artifacts(bucket, "codebooks").get(0).path


def test_a_version_made_anew_under_an_old_number_takes_the_place_of_the_old_copy(bucket):
    first = Artifacts(bucket, "codebooks").publish(write_number(7))
    old_copy = first.path
    for one in list(any_path(bucket).objects()):
        (any_path(bucket) / one.name).unlink()

    second = Artifacts(bucket, "codebooks").publish(write_number(8))

    assert (first.version, second.version, second.path) == (0, 0, old_copy)
    assert (second.path / "parts" / "number.txt").read_text() == "8"


def test_two_machines_that_publish_at_once_get_two_whole_versions(bucket, tmp_path):
    def publisher(number):
        variables = {**os.environ, "QARM_CACHE_DIR": str(tmp_path / f"machine-{number}")}
        command = [sys.executable, "-c", PUBLISH, bucket, str(number)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=variables)

    publishers = [publisher(number) for number in (7, 8)]
    assert [one.stdout.readline() for one in publishers] == ["ready\n", "ready\n"]
    for one in publishers:
        one.communicate("go\n")

    codebooks = Artifacts(bucket, "codebooks")
    texts = {(codebooks.get(n).verify().path / "number.txt").read_text() for n in codebooks.versions()}
    assert (codebooks.versions(), texts) == ([0, 1], {"7", "8"})
    assert {codebooks.get(n).manifest["made_by"] for n in (0, 1)} == {"7", "8"}


def test_a_publisher_that_is_killed_before_the_manifest_leaves_no_version_and_its_number_is_not_given_again(bucket):
    killed = subprocess.run([sys.executable, "-c", KILLED, bucket], check=False)
    codebooks = Artifacts(bucket, "codebooks")

    left = [one.name for one in codebooks.folder.objects()]
    versions = codebooks.versions()
    next_one = codebooks.publish(write_number(7))

    assert killed.returncode == -signal.SIGKILL
    assert sorted(left) == [".numbers/0", "v0/number.txt"]
    assert (versions, next_one.version, codebooks.versions()) == ([], 1, [1])
    with pytest.raises(ArtifactError, match="codebooks has no version 0 in s3://.* Present: 1."):
        codebooks.get(0)


def _fetch(place: str) -> str:
    return (local_folder(place) / "parts" / "number.txt").read_text()


def test_processes_of_a_machine_that_ask_at_once_get_one_copy(bucket, tmp_path, monkeypatch):
    version = Artifacts(bucket, "codebooks").publish(write_number(7))
    cache = another_machine(monkeypatch, tmp_path / "elsewhere")

    with multiprocessing.get_context("spawn").Pool(4) as processes:
        texts = processes.map(_fetch, [str(version.place)] * 8)

    assert (texts, copies(cache)) == (["7"] * 8, ["v0"])
    assert list(cache.rglob(".part-*")) == []


def test_another_version_is_found_beside_a_folder_and_beside_a_copy(bucket, tmp_path, monkeypatch):
    for root in (tmp_path / "artifacts", any_path(bucket)):
        Artifacts(root, "banks").publish(write_number(7))
        Artifacts(root, "codebooks").publish(write_number(8))
    another_machine(monkeypatch, tmp_path / "elsewhere")

    found = [beside(Artifacts(root, "banks").get(0).path, "codebooks", 0) for root in (tmp_path / "artifacts", bucket)]

    assert found[0] == tmp_path / "artifacts" / "codebooks" / "v0"
    assert [(folder / "parts" / "number.txt").read_text() for folder in found] == ["8", "8"]


def test_a_uri_that_is_no_version_is_refused(bucket, tmp_path):
    assert local_folder(str(tmp_path)) == tmp_path
    with pytest.raises(ArtifactError, match=r"banks/v3 has no manifest.json, so it is no version"):
        local_folder(f"{bucket}/banks/v3")


def test_copies_lie_in_the_folder_of_the_user_or_else_in_one_of_the_system(tmp_path, monkeypatch):
    monkeypatch.delenv("QARM_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    of_the_user = cache_folder()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    of_the_system = cache_folder()
    monkeypatch.setattr(os, "getuid", lambda: 12_345)
    (tmp_path / "qarm-12345").mkdir()

    assert of_the_user == tmp_path / "home" / "qarm"
    assert of_the_system == tmp_path / f"qarm-{os.stat(tmp_path).st_uid}"
    with pytest.raises(ArtifactError, match=r"qarm-12345 belongs to another user. Set QARM_CACHE_DIR"):
        cache_folder()
