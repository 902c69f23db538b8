"""Eight threads share one reader while the service moves back and forth. Every batch comes from one release."""

from __future__ import annotations

import threading
import time

import pytest

from qarm_features.feature_store.reading.reader import SemanticIDReader
from tests.feature_store.stock_store import add_release, flip, stock_store

CODES = {version: {item: [version, item % 100, item] for item in range(300)} for version in (0, 1)}
BEHAVIORS = {7: ([5, 9, 299], [1, 2, 3])}


@pytest.mark.parametrize("cache_items", [0, 100])
@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_no_thread_sees_an_error_or_two_releases_in_a_batch(tmp_path, request, kind, cache_items):
    settings = {"type": "sqlite", "path": str(tmp_path / "online.db")}
    if kind == "redis":
        server = request.getfixturevalue("redis_server")
        settings = {"type": "redis", "connection_string": server.connection_string, "skip_dedup": True}
    store = stock_store(tmp_path, settings, CODES[0], BEHAVIORS, cache_seconds=1)
    add_release(store, tmp_path, 1, CODES[1])
    reader = SemanticIDReader(tmp_path / "feature_repo", cache_items=cache_items)
    seen, wrong, stop = [set() for _ in range(8)], [], threading.Event()

    def read(thread: int) -> None:
        step = 0
        try:
            while not stop.is_set():
                step += 1
                ids = [(thread * 31 + step * 7 + place) % 300 for place in range(40)]
                both = reader.user_and_candidates(7, ids)
                expected = CODES[both.candidates.codebook_version]
                asked, served = [5, 9, 299, *ids], [*both.behavior.codes[0].tolist(), *both.candidates.codes.tolist()]
                if served != [expected[item] for item in asked]:
                    wrong.append(asked)
                seen[thread].add(both.candidates.codebook_version)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=read, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for version in (1, 0, 1):
        flip(store, tmp_path, version, CODES[version])
        time.sleep(1.3)
    stop.set()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert seen == [{0, 1}] * 8
