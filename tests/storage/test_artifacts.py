"""A version appears whole or not at all, and is never changed."""

import threading

import pytest

from qarm_features.storage.artifacts import ArtifactError, Artifacts


def write_number(number):
    return lambda folder: (folder / "number.txt").write_text(str(number))


def test_versions_count_from_0_and_the_manifest_says_what_they_hold(tmp_path):
    codebooks = Artifacts(tmp_path, "codebooks")

    versions = [codebooks.publish(write_number(n), seed=n).version for n in (7, 8)]

    assert versions == [0, 1]
    assert codebooks.latest().manifest["seed"] == 8
    assert codebooks.find(seed=7).version == 0
    assert codebooks.find(seed=9) is None
    assert (codebooks.get(0).verify().path / "number.txt").read_text() == "7"


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    codebooks = Artifacts(tmp_path, "codebooks")

    def fail(folder):
        (folder / "half.bin").write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        codebooks.publish(fail)
    assert codebooks.versions() == []
    assert list(codebooks.folder.iterdir()) == []


def test_publishers_at_the_same_time_get_different_versions(tmp_path):
    codebooks = Artifacts(tmp_path, "codebooks")
    threads = [
        threading.Thread(target=codebooks.publish, args=(write_number(n),), kwargs={"seed": n}) for n in range(8)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert codebooks.versions() == list(range(8))
    assert sorted(codebooks.get(v).manifest["seed"] for v in range(8)) == list(range(8))


def test_a_changed_file_is_noticed(tmp_path):
    artifact = Artifacts(tmp_path, "codebooks").publish(write_number(7))
    (artifact.path / "number.txt").write_text("8")

    with pytest.raises(ArtifactError, match="number.txt is missing or differs from its manifest"):
        artifact.verify()


def test_a_version_that_is_not_there_is_named_with_those_present(tmp_path):
    codebooks = Artifacts(tmp_path, "codebooks")
    codebooks.publish(write_number(7))

    with pytest.raises(ArtifactError, match="codebooks has no version 5 in .* Present: 0."):
        codebooks.get(5)
