"""Feast's own feature server answers every read over HTTP while a release is published and promoted."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from qarm_features.feature_store.publishing.releases import publish_release
from tests.feature_store.two_versions import release, write_two_versions
from tests.free_port import free_port

ITEMS = {"feature_service": "item_semantic_id", "entities": {"item_id": [1, 2, 3]}}
USERS = {"features": ["user_behavior:behavior_item_ids"], "entities": {"user_id": [7]}}


class FeastServer:
    """A process of ``feast serve`` on a free port.

    Args:
        repo: Folder of ``feature_store.yaml``.
        log: File for what the process prints.
    """

    def __init__(self, repo: Path, log: Path):
        self._port, self._log, feast = free_port(), log, Path(sys.executable).parent / "feast"
        command = [feast, "-c", repo, "serve", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--registry_ttl_sec", "1", "--max-requests", "0"]
        with log.open("wb") as lines:
            self.process = subprocess.Popen(command, stdout=lines, stderr=lines, cwd=repo)

    def answer(self, question: dict) -> list:
        """Returns the values of the feature that is a list, or the error."""
        url, headers = f"http://127.0.0.1:{self._port}/get-online-features", {"Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(question).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                content = json.load(response)
        except urllib.error.HTTPError as error:
            return [error.code, error.read().decode()]
        lists = [one["values"] for one in content["results"] if isinstance(one["values"][0], list)]
        return lists[0] if lists else [content]

    def wait(self) -> None:
        """Returns once the server answers."""
        until = time.monotonic() + 120
        while time.monotonic() < until and self.process.poll() is None:
            try:
                self.answer(ITEMS)
                return
            except OSError:
                time.sleep(0.3)
        raise RuntimeError(f"feast serve does not answer: {self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        """Ends the process."""
        self.process.terminate()
        self.process.wait(timeout=30)


@pytest.mark.slow
def test_no_read_is_refused_while_a_release_is_published(spark, tmp_path):
    context = write_two_versions(tmp_path / "project", spark)
    settings = context.settings
    config = yaml.safe_load((settings.feature_repo_path / "feature_store.yaml").read_text())
    assert config["registry"]["serve_features_while_materializing"] is True
    publish_release(spark, settings, release(0))
    server = FeastServer(settings.feature_repo_path, tmp_path / "serve.log")
    answers: dict[str, list] = {"items": [], "users": []}
    done = threading.Event()

    def ask(name: str, question: dict) -> None:
        while not done.is_set():
            answers[name].append(server.answer(question))
            time.sleep(0.02)

    try:
        server.wait()
        asking = [threading.Thread(target=ask, args=pair) for pair in (("items", ITEMS), ("users", USERS))]
        for thread in asking:
            thread.start()
        publish_release(spark, settings, release(0))
        publish_release(spark, settings, release(1))
        until = time.monotonic() + 60
        while answers["items"][-1] != [[1, 1], [1, 2], [1, 3]] and time.monotonic() < until:
            time.sleep(0.1)
        done.set()
        for thread in asking:
            thread.join()
    finally:
        done.set()
        server.stop()

    old, new = [[0, 1], [0, 2], [0, 3]], [[1, 1], [1, 2], [1, 3]]
    assert len(answers["items"]) > 20
    assert [answer for answer in answers["items"] if answer not in (old, new)] == []
    assert (answers["items"][0], answers["items"][-1]) == (old, new)
    assert [answer for answer in answers["users"] if answer != [[1, 3]]] == []
