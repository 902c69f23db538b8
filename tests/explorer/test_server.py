"""The explorer's server answers every path of the contract, only to this machine, and says errors in one sentence."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import typing

import httpx
import pytest
from fastapi.testclient import TestClient

from qarm_features.cli.explore import older_than_promoted
from qarm_features.explorer import contract
from qarm_features.explorer.page_files import PAGE
from qarm_features.explorer.server import listen, make_app, picture_type, url_of
from qarm_features.settings.load import load_settings
from qarm_features.storage.artifacts import write_json
from tests.explorer.live_server import live_server
from tests.explorer.planted_store import HOSTILE, write_planted_store
from tests.toy_catalog import write_toy_project


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    made = write_planted_store(tmp_path_factory.mktemp("artifacts"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(explorer):
    with live_server(explorer) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


QUERIES = {"q": "lamp", "item_id": "img", "user_id": "user/7 <b>"}


@pytest.mark.parametrize("path", [path for path in contract.PATHS if "picture" not in path])
def test_each_path_answers_in_the_form_of_the_contract(client, path):
    url, _, query = path.partition("?")
    names = [name.removesuffix("=") for name in query.split("&")]

    answer = client.get(url, params={name: QUERIES[name] for name in names if name in QUERIES})

    form = contract.PATHS[path]
    content = answer.json()[0] if typing.get_origin(form) is list else answer.json()
    form = typing.get_args(form)[0] if typing.get_origin(form) is list else form
    assert answer.status_code == 200
    assert set(content) == set(typing.get_type_hints(form))


@pytest.mark.parametrize("item_id", HOSTILE)
def test_an_id_of_any_letters_finds_its_item(client, item_id):
    page = client.get("/api/item", params={"item_id": item_id}).json()

    assert page["item"]["item_id"] == item_id
    assert page["item"]["title"] == HOSTILE[item_id]


def test_a_picture_has_the_type_of_its_first_bytes(client):
    picture = client.get("/api/picture?item_id=script")
    none = client.get("/api/picture?item_id=img")

    assert (picture.headers["content-type"], picture.content[:3]) == ("image/jpeg", b"\xff\xd8\xff")
    assert (none.status_code, none.json()) == (404, {"error": "Item img has no picture."})
    assert picture_type(b"<svg onload=alert(1)>") == "application/octet-stream"


def test_the_page_and_its_files_come_with_a_policy_that_allows_only_this_server(client):
    page, script = client.get("/"), client.get("/page/js/app.js")

    assert page.text == (PAGE / "index.html").read_text()
    assert script.headers["content-type"].startswith("text/javascript")
    for answer in (page, script, client.get("/api/summary"), client.get("/nowhere")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "name", ["../server.py", "%2e%2e/server.py", "js/none.js", "index.html", "js", "/etc/passwd.js"]
)
def test_only_files_of_the_page_are_served(client, name):
    answer = client.get(f"/page/{name}")

    assert answer.status_code == 404
    assert answer.json()["error"].startswith("There is no ")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""])
def test_a_name_of_a_stranger_is_refused(client, host):
    answer = client.get("/api/summary", headers={"host": host})

    assert (answer.status_code, answer.json()["error"].split(",")[0]) == (403, f"The server was asked as {host!r}")


@pytest.mark.parametrize(
    "host", ["localhost:8474", "LOCALHOST", "127.0.0.1", "[::1]:8474", "192.168.1.7:80", "my-host"]
)
def test_addresses_and_own_names_are_answered(explorer, host):
    client = TestClient(make_app(explorer, names=frozenset({"my-host"})))

    assert client.get("/api/summary", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_but_get_is_answered(client, method):
    answer = client.request(method, "/api/summary")

    assert (answer.status_code, answer.json()) == (
        405,
        {"error": f"The method is {method}, must be GET. The explorer only reads."},
    )


@pytest.mark.parametrize(
    ("url", "status", "sentence"),
    [
        ("/api/item?item_id=none", 404, "Item none is not in this explorer."),
        ("/api/tree?prefix=99", 404, "Prefix 99 does not exist in this release."),
        ("/api/items?limit=0", 400, "limit is '0': input should be greater than or equal to 1."),
        ("/api/items?offset=x", 400, "offset is 'x': input should be a valid integer"),
        ("/api/nothing", 404, "There is no page /api/nothing."),
        ("/docs", 404, "There is no page /docs."),
    ],
)
def test_an_error_is_one_sentence(client, url, status, sentence):
    answer = client.get(url)

    assert answer.status_code == status
    assert answer.json()["error"].startswith(sentence)


def test_a_failure_of_the_server_says_nothing_of_its_inside(explorer, monkeypatch):
    app = make_app(explorer)
    monkeypatch.setattr(explorer._read, "document", lambda name: 1 / 0)

    answer = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False).get("/api/figures")

    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "The server failed at this request. Its terminal shows the error."},
    )


def test_long_answers_are_compressed(client):
    assert client.get("/api/map").headers["content-encoding"] == "gzip"


def test_a_free_port_is_found_and_a_taken_one_is_named():
    with listen("127.0.0.1", 0) as opened:
        port = opened.getsockname()[1]

        assert url_of(opened) == f"http://127.0.0.1:{port}/"
        with pytest.raises(ValueError, match=rf"127.0.0.1 port {port} cannot be opened: .*Choose another with --port"):
            listen("127.0.0.1", port)


def test_without_fastapi_the_command_names_the_extra():
    code = "import sys; sys.modules['fastapi'] = None; import qarm_features.explorer.server"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stderr.splitlines()[-1].endswith("Run: pip install 'qarm-features[explore]'")


def test_the_command_serves_until_ctrl_c_without_spark_torch_and_feast(tmp_path):
    folder = write_toy_project(tmp_path)
    write_planted_store(folder / "artifacts").close()
    heavy = "import sys; [sys.modules.__setitem__(name, None) for name in ('pyspark', 'torch', 'feast')];"
    code = f"{heavy} sys.argv = ['qarm', 'explore', '--port', '0']; from qarm_features.cli.main import main; main()"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        said = process.stdout.readline()
        url = said.split()[4]
        answer = httpx.get(f"{url}api/summary", trust_env=False).json()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)

    assert said == f"The explorer is at {url} (Ctrl-C stops it)\n"
    assert answer["project"] == "planted <b>"
    assert (process.returncode, rest, errors) == (0, "The explorer has stopped.\n", "")


def test_a_project_without_an_explorer_says_what_builds_one(tmp_path):
    folder = write_toy_project(tmp_path)
    code = "import sys; sys.argv = ['qarm', 'explore']; from qarm_features.cli.main import main; main()"

    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)

    assert done.returncode == 1
    assert " ".join(done.stderr.split()).endswith("holds no explorer. Run: qarm build-explorer")


@pytest.mark.parametrize(
    ("promoted", "sentence"),
    [
        (None, None),
        ({"codebook_version": 1, "history": [{"at": "2026-11-20T00:00:00+00:00"}]}, None),
        ({"codebook_version": 2}, "This explorer shows codebook version 1, and readers get version 2."),
        (
            {"codebook_version": 1, "history": [{"at": "2026-11-22T00:00:00+00:00"}]},
            "and the release was published again",
        ),
    ],
)
def test_an_explorer_older_than_the_promoted_release_says_so(tmp_path, explorer, promoted, sentence):
    settings = load_settings(write_toy_project(tmp_path) / "qarm.yaml")
    if promoted:
        (settings.artifacts_path / "releases").mkdir(parents=True)
        write_json(settings.artifacts_path / "releases" / "promoted.json", promoted)

    said = older_than_promoted(settings, explorer.summary())

    assert (said or "").endswith("To renew it, run: qarm build-explorer" if sentence else "")
    assert (sentence or "") in (said or "")
    assert bool(said) == bool(sentence)


def test_a_listening_socket_of_version_6_has_a_url_with_brackets():
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        opened = listen("::1", 0)
    except ValueError:
        pytest.skip("this machine has no IPv6")
    with opened:
        assert url_of(opened) == f"http://[::1]:{opened.getsockname()[1]}/"
