"""A row's URI reads a file under the allowed roots and nothing else."""

import ctypes
import os
import socket
import tempfile
import threading

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


ODD = {
    "file:///x/a%00.jpg": "image URI is empty or holds a null character",
    "s3://bucket/media/a%00.jpg": "image URI is empty or holds a null character",
    "file://[x/y.jpg": "image URI is not a URI",
    "file://[::1/y.jpg": "image URI is not a URI",
    "file://a\u2100b/y.jpg": "image URI is not a URI",  # the host would hold a slash after Unicode normalization
    "s3://a\u2100b/y.jpg": "image URI is not a URI",
    "file://other.host{root}/a%20b.png": "image URI names another computer",
    "file://{root}/a%20b\n.png": "image URI holds a control character",
    "s3://bucket/media/\x07": "image URI holds a control character",
    "{root}/a\nb.png": "image does not exist",  # a path may hold any character but null
    "{root}/" + "x" * 300: "image cannot be read",
    "{root}/" + "x/" * 3000: "image does not exist",
    "file://{root}/" + "%41" * 300: "image cannot be read",
    "{root}/\ud800.png": "image cannot be read",
    "s3://bucket/media/\ud800.png": "image cannot be read",
    "\ud800://bucket/a": "image cannot be read",
    "gopher://host/a.png": "image URI is outside media_roots",
    "://": "image does not exist",
    "//": "image URI is outside media_roots",
    "file://": "image URI is not a file",
    "/dev/zero": "image URI is outside media_roots",
    "{root}/zero": "image URI is outside media_roots",
    "{root}/socket": "image URI is not a file",
    "{root}/pipe": "image URI is not a file",
    "{root}/folder": "image URI is not a file",
    "{root}/folder/": "image URI is not a file",
    "{root}/a b.png/": "pixels",  # the real path has no slash at its end
    "{root}/a b.png/x": "image cannot be read",
}


def test_every_odd_uri_gives_a_reason_and_never_another_error(root, bucket, short_folder):
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    (root / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{short_folder}/socket")
    os.rename(f"{short_folder}/socket", root / "socket")

    def reason(uri):
        try:
            return read(uri.format(root=root) if "{" in uri else uri, [root, bucket]).decode()
        except BrokenContent as error:
            return str(error)

    found = {uri: reason(uri) for uri in ODD}

    assert {uri: found[uri] for uri in ODD if found[uri] != ODD[uri]} == {}
    with pytest.raises(BrokenContent, match="^image URI is not a file$"):
        read("/dev/zero", ["/dev"])
    assert all(media_state(uri.format(root=root), roots=[str(root)]) is None for uri in ODD if ODD[uri] != "pixels")


@pytest.fixture
def short_folder():
    """Returns a folder with a short path, as the address of a socket must be."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield folder


def test_a_folder_that_is_exchanged_for_a_link_during_the_reading_never_leads_outside(root):
    (root / "shop").mkdir()
    (root / "shop" / "secret").write_bytes(b"pixels")
    (root / "link").symlink_to(root.parent)
    done = threading.Event()

    def exchange():  # the folder and the link change places, without a moment in between
        while not done.is_set():
            _exchange(root / "shop", root / "link")

    racing = threading.Thread(target=exchange)
    racing.start()
    try:
        seen = set()
        for _ in range(5_000):
            try:
                seen.add(read("shop/secret", [root]).decode())
            except BrokenContent as error:
                seen.add(str(error))
    finally:
        done.set()
        racing.join()

    assert "secret" not in seen
    assert seen >= {"pixels", "image URI is outside media_roots"}


def _exchange(one, other):
    """Exchanges two names by renameat2 with RENAME_EXCHANGE, or by three renamings where the system has no such call."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None or call(-100, os.fsencode(one), -100, os.fsencode(other), 2) != 0:
        aside = f"{one}.aside"
        for source, target in ((one, aside), (other, one), (aside, other)):
            os.rename(source, target)


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
