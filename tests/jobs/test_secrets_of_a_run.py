"""A whole run with a secret in every setting that can hold one: no file, screen, log or process list shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.feature_store.redis_server import RedisServer
from tests.secret_texts import MARK, places_of
from tests.server_programs import redis_program
from tests.toy_catalog import SETTINGS, write_toy_project

QARM = str(Path(sys.executable).with_name("qarm"))
PASSWORD = f'{MARK} it\'s "1", #2: $3 \\4'
MORE = """
encoder: {media_roots: ['s3://${S3_KEY}:${S3_SECRET}@bucket/media?region=us-east-1', media]}
spark:
  conf:
    spark.hadoop.fs.s3a.secret.key: ${S3_SECRET}
    spark.hadoop.fs.s3a.access.key: ${S3_KEY}
    spark.executorEnv.SHOP_TOKEN: ${S3_SECRET}
    spark.eventLog.enabled: "true"
    spark.eventLog.compress: "false"
    spark.eventLog.dir: EVENTS
"""


class SeenProcesses:
    """The command lines of all processes while a block runs."""

    def __enter__(self) -> SeenProcesses:
        self.lines: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.3):
            done = subprocess.run(["ps", "-eo", "args", "-ww"], capture_output=True, text=True, check=False)
            self.lines.update(done.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_output_of_a_run_holds_a_secret(tmp_path):
    server = RedisServer(tmp_path, password=PASSWORD)
    folder = write_toy_project(tmp_path / "shop")
    (folder / "temporary").mkdir()
    (folder / "events").mkdir()
    (folder / "qarm.yaml").write_text(SETTINGS + MORE.replace("EVENTS", str(folder / "events")))
    store = folder / "feature_repo" / "feature_store.yaml"
    redis = "type: redis\n  connection_string: |2-\n    ${QARM_REDIS}\n  skip_dedup: true"
    store.write_text(store.read_text().replace("type: sqlite\n  path: online_store.db", redis))
    as_json = json.dumps(PASSWORD).replace(",", "\\u002c")
    right = {"QARM_REDIS": f"127.0.0.1:{server.port},password={as_json}"}
    right |= {"S3_SECRET": f"{PASSWORD}/+", "S3_KEY": f"{MARK}key"}
    wrong = {**right, "QARM_REDIS": right["QARM_REDIS"].replace(MARK, f"{MARK}wrong")}
    said = []

    def qarm(*arguments, variables=right):
        environment = {**os.environ, **variables, "TMPDIR": str(folder / "temporary"), "COLUMNS": "1000"}
        done = subprocess.run(
            [QARM, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        said.append(f"{arguments}: {done.stdout}\n{done.stderr}")
        return done.returncode

    server.start()
    try:
        with SeenProcesses() as seen:
            good = [qarm("run"), qarm("doctor")]
            bad = [qarm("publish-features", variables=wrong)]
            (folder / "catalog" / "items.parquet").write_bytes(b"PAR1 nothing PAR1")
            bad += [qarm("ingest-catalog", variables={**right, "QARM_DEBUG": "1"})]
            server.stop(keep=False)
            bad += [qarm("publish-features")]
    finally:
        server.stop(keep=False)

    assert good == [0, 0], "\n".join(said)
    assert all(bad), "\n".join(said)
    assert any("SparkSubmit" in line for line in seen.lines)
    assert [line for line in said if MARK in line] == []
    of_server = Path(redis_program()).name
    assert [line for line in seen.lines if MARK in line and of_server not in line] == []
    assert places_of(MARK, folder) == []
    logs = list((folder / "artifacts" / "logs").iterdir())
    assert len(logs) >= 2
    assert {file.stat().st_mode & 0o077 for file in logs} == {0}
