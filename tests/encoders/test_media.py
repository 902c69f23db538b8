"""A row's URI reads a file under the allowed roots and nothing else."""

import os

import pytest
from pyarrow import fs as arrow_fs

from qarm_features.encoders import media
from qarm_features.encoders.media import media_bytes, media_state, read_media
from qarm_features.fusion.tokens import BrokenContent


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "posters"
    folder.mkdir()
    (folder / "a b.png").write_bytes(b"pixels")
    (tmp_path / "secret").write_bytes(b"secret")
    return folder


def read(uri, roots, max_bytes=100):
    return read_media(str(uri), roots=[str(root) for root in roots], max_bytes=max_bytes, medium="image")


def test_a_path_a_file_uri_and_a_path_relative_to_the_root_name_the_same_file(root):
    uris = [root / "a b.png", f"file://{root}/a%20b.png", "a b.png"]

    contents = [read(uri, [root]) for uri in uris]

    assert contents == [b"pixels"] * 3


def test_a_root_may_be_a_file_uri(root):
    assert read(root / "a b.png", [f"file://{root}"]) == b"pixels"


@pytest.mark.parametrize(
    "uri", ["{root}/../secret", "file://{root}/../secret", "file://{root}/%2e%2e/secret", "../secret", "{root}2/x", "/"]
)
def test_no_path_leads_out_of_the_roots(root, uri):
    with pytest.raises(BrokenContent, match="^image URI is outside media_roots$"):
        read(uri.format(root=root), [root])


def test_no_roots_allow_nothing(root):
    for roots in ([], [""]):
        with pytest.raises(BrokenContent, match="^image URI is outside media_roots$"):
            read(root / "a b.png", roots)


def test_a_symlink_is_judged_by_where_it_leads(root):
    (root / "out.png").symlink_to(root.parent / "secret")
    (root / "in.png").symlink_to(root / "a b.png")

    assert read(root / "in.png", [root]) == b"pixels"
    with pytest.raises(BrokenContent, match="^image URI is outside media_roots$"):
        read(root / "out.png", [root])


def test_a_larger_file_is_refused_before_it_is_read(root):
    with (root / "large.png").open("wb") as stream:
        stream.truncate(10**12)  # a sparse file of a terabyte

    assert read(root / "a b.png", [root], max_bytes=6) == b"pixels"
    with pytest.raises(BrokenContent, match="^image is larger than 5 bytes$"):
        read(root / "a b.png", [root], max_bytes=5)
    with pytest.raises(BrokenContent, match="^image is larger than 100 bytes$"):
        read(root / "large.png", [root])


def test_what_is_no_readable_file_is_refused_and_does_not_block(root):
    os.mkfifo(root / "pipe")
    (root / "loop").symlink_to(root / "loop")

    for name, reason in {
        "missing.png": "image does not exist",
        "pipe": "image URI is not a file",
        ".": "image URI is not a file",
        "loop": "image cannot be read",
        "x\0y": "image URI is empty or holds a null character",
    }.items():
        with pytest.raises(BrokenContent, match=f"^{reason}$"):
            read(f"{root}/{name}", [root])


@pytest.fixture
def bucket(monkeypatch):
    """Returns a pyarrow filesystem whose root is s3://key:secret@bucket/media."""
    filesystem, folder = arrow_fs.FileSystem.from_uri("mock:///bucket/media")
    filesystem.create_dir(folder)
    for path in (f"{folder}/a b.png", "bucket/secret"):
        with filesystem.open_output_stream(path) as stream:
            stream.write(b"pixels")
    monkeypatch.setattr(media, "_open_root", {"s3://key:secret@bucket/media": (filesystem, folder)}.__getitem__)
    return "s3://key:secret@bucket/media"


def test_a_uri_is_read_with_the_credentials_of_its_root(bucket):
    assert read("s3://bucket/media/a%20b.png", [bucket]) == b"pixels"
    with pytest.raises(BrokenContent, match="^image is larger than 5 bytes$"):
        read("s3://bucket/media/a%20b.png", [bucket], max_bytes=5)
    with pytest.raises(BrokenContent, match="^image does not exist$"):
        read("s3://bucket/media/c.png", [bucket])
    with pytest.raises(BrokenContent, match="^image URI is not a file$"):
        read("s3://bucket/media", [bucket])


@pytest.mark.parametrize(
    "uri",
    ["s3://bucket/secret", "s3://bucket/media/../secret", "s3://bucket/media/%2E%2E/secret", "s3://bucket/media//x",
     "s3://bucket/media2/x", "s3://other/media/x", "gs://bucket/media/x", "http://bucket/media/x"],
)  # fmt: skip
def test_no_uri_leads_out_of_the_roots(bucket, uri):
    with pytest.raises(BrokenContent, match="^image URI is outside media_roots$"):
        read(uri, [bucket, "/tmp"])


def test_a_row_brings_no_credentials_and_no_endpoint_and_no_reason_shows_them(bucket):
    for uri in ("s3://key:secret@bucket/media/a.png", "s3://bucket/media/a.png?endpoint_override=evil"):
        with pytest.raises(
            BrokenContent, match="^image URI holds credentials or options, which belong in media_roots$"
        ):
            read(uri, [bucket])
    with pytest.raises(BrokenContent, match="^image URI is not a URI$"):
        read("s3://[bucket", [bucket])


def test_a_root_that_cannot_be_opened_is_a_wrong_setting_and_hides_its_credentials():
    with pytest.raises(ValueError, match=r"encoder.media_roots holds nofs://host/media, must be a place") as caught:
        read("nofs://host/media/a.png", ["nofs://key:secret@host/media"])
    assert not isinstance(caught.value, BrokenContent)
    assert "secret" not in str(caught.value)


def test_bytes_are_taken_as_they_are_and_bounded():
    options = {"roots": [], "max_bytes": 4, "medium": "audio"}

    assert media_bytes(bytearray(b"data"), **options) == b"data"
    for raw, reason in {b"": "audio is empty", b"datum": "audio is larger than 4 bytes", 7: "audio is neither"}.items():
        with pytest.raises(BrokenContent, match=reason):
            media_bytes(raw, **options)


def test_the_state_of_a_local_file_changes_with_its_size_or_time_and_others_have_none(root):
    file, roots = root / "a b.png", [str(root)]
    os.utime(file, ns=(5, 1_000))
    first = media_state("a b.png", roots=roots)
    os.utime(file, ns=(5, 2_000))

    second = media_state(f"file://{root}/a%20b.png", roots=roots)

    assert (first, second) == ("6 1000", "6 2000")
    outside = [str(root.parent / "secret"), "none.png", "s3://bucket/a.png", str(root), "a\0b", " ", None]
    assert [media_state(uri, roots=roots) for uri in outside] == [None] * 7
    assert media_state(str(file), roots=[]) is None
