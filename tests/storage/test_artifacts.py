"""A version appears whole or not at all, and is never changed."""

import json
import threading

import pytest

from qarm_features.storage.artifacts import ArtifactError, Artifacts, open_version, sha256
from qarm_features.storage.objects import any_path


@pytest.fixture(params=["a folder", "an object store"])
def root(request, tmp_path):
    """Where the artifacts are: the same holds in both places."""
    if request.param == "a folder":
        return tmp_path / "artifacts"
    return any_path(f"{request.getfixturevalue('bucket')}/artifacts")


def write_number(number):
    return lambda folder: (folder / "number.txt").write_text(str(number))


def test_versions_count_from_0_and_the_manifest_says_what_they_hold(root):
    codebooks = Artifacts(root, "codebooks")

    versions = [codebooks.publish(write_number(n), seed=n).version for n in (7, 8)]

    assert versions == [0, 1]
    assert codebooks.latest().manifest["seed"] == 8
    assert codebooks.find(seed=7).version == 0
    assert codebooks.find(seed=9) is None
    assert (codebooks.get(0).verify().path / "number.txt").read_text() == "7"


def test_a_writer_that_fails_leaves_nothing(root):
    codebooks = Artifacts(root, "codebooks")

    def fail(folder):
        (folder / "half.bin").write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        codebooks.publish(fail)
    assert codebooks.versions() == []
    assert list(codebooks.drafts().glob("*")) + list(codebooks.folder.glob("*")) == []


def test_a_removed_version_is_gone_at_once_and_its_number_is_not_given_again(root):
    codebooks = Artifacts(root, "codebooks")
    for number in range(2):
        codebooks.publish(write_number(number), seed=number)
    kept = codebooks.get(1)

    codebooks.remove(1)

    assert codebooks.versions() == [0]
    assert [file.name for file in codebooks.folder.glob("v1/*")] == []
    assert codebooks.publish(write_number(7), seed=7).version == 2
    with pytest.raises(ArtifactError, match="no version 1"):
        codebooks.remove(1)
    with pytest.raises((ArtifactError, FileNotFoundError)):
        (kept.path / "number.txt").read_text()


def test_publishers_at_the_same_time_get_different_versions(root):
    codebooks = Artifacts(root, "codebooks")
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


def rewrite(artifact, **changed):
    """Changes entries of a manifest, as somebody could who can write there, and reads the version again."""
    (artifact.path / "manifest.json").write_text(json.dumps({**artifact.manifest, **changed}))
    return open_version(artifact.path)


def test_a_manifest_without_files_verifies_nothing_and_is_refused(tmp_path):
    artifact = Artifacts(tmp_path, "codebooks").publish(write_number(7))
    without = {name: value for name, value in artifact.manifest.items() if name != "files"}

    for files in ({}, None, ["number.txt"]):
        with pytest.raises(ArtifactError, match="manifest.json names no files"):
            rewrite(artifact, files=files).verify()
    (artifact.path / "manifest.json").write_text(json.dumps(without))
    with pytest.raises(ArtifactError, match="manifest.json names no files"):
        open_version(artifact.path).verify()


def test_a_manifest_names_files_of_its_own_folder_only(tmp_path):
    artifact = Artifacts(tmp_path / "artifacts", "codebooks").publish(write_number(7))
    (tmp_path / "secret.txt").write_text("7")
    digest = sha256(tmp_path / "secret.txt")
    inside = {"number.txt": sha256(artifact.path / "number.txt")}

    for name in (
        "../../../secret.txt",
        str(tmp_path / "secret.txt"),
        "x/../number.txt",
        "./number.txt",
        "",
        "manifest.json",
    ):
        with pytest.raises(ArtifactError, match="must lie in its folder"):
            rewrite(artifact, files={**inside, name: digest}).verify()


def test_a_file_that_the_manifest_does_not_name_is_refused_and_a_hidden_one_is_not_read(tmp_path):
    artifact = Artifacts(tmp_path, "codebooks").publish(write_number(7))
    (artifact.path / ".DS_Store").write_text("")
    (artifact.path / "item_features").mkdir()
    artifact.verify()
    (artifact.path / "item_features" / "more.npy").write_text("")

    with pytest.raises(ArtifactError, match="item_features/more.npy is not in the manifest"):
        artifact.verify()
    artifact.verify(besides=("item_features",))
    (artifact.path / "adapter_config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="adapter_config.json is not in the manifest"):
        artifact.verify(besides=("item_features",))


def test_symbolic_links_are_no_part_of_a_version(tmp_path):
    artifacts = Artifacts(tmp_path / "artifacts", "codebooks")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "number.txt").write_text("7")

    def write_link(folder):
        (folder / "number.txt").symlink_to(tmp_path / "elsewhere" / "number.txt")

    with pytest.raises(ArtifactError, match="codebooks: number.txt is a symbolic link"):
        artifacts.publish(write_link)
    in_folder = artifacts.publish(
        lambda folder: ((folder / "x").mkdir(), (folder / "x" / "number.txt").write_text("7"))
    )
    (in_folder.path / "x").rename(tmp_path / "moved")
    (in_folder.path / "x").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="x is a symbolic link, must be a file or folder of its own"):
        in_folder.verify()
    flat = artifacts.publish(write_number(7))
    (flat.path / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="more is not in the manifest"):
        flat.verify()


def test_two_versions_with_the_same_files_have_the_same_content_hash(root):
    codebooks = Artifacts(root, "codebooks")

    seven, again, eight = (codebooks.publish(write_number(n), seed=seed) for seed, n in enumerate((7, 7, 8)))

    assert seven.content_hash == again.content_hash != eight.content_hash


def test_a_version_that_is_not_there_is_named_with_those_present(root):
    codebooks = Artifacts(root, "codebooks")
    codebooks.publish(write_number(7))

    with pytest.raises(ArtifactError, match="codebooks has no version 5 in .* Present: 0."):
        codebooks.get(5)
