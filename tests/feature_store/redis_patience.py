"""Patience for Redis servers that tests start."""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ConnectionError
from redis.retry import Retry


def impatient_client(port: int, password: str | None = None) -> Redis:
    """Returns a client of bytes that never tries again: its own retries take seconds each."""
    return Redis(port=port, password=password, retry=Retry(NoBackoff(), 0))


def wait_until_it_answers(server: subprocess.Popen, client: Redis, log: Path) -> None:
    """Returns once this very server answers: another one may have taken the port first, and would be emptied by its test.

    Raises:
        RuntimeError: the server has ended, or is silent after 20 s; shows the end of its log.
    """
    until = time.monotonic() + 20
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(ConnectionError, BusyLoadingError):
            if client.info("server")["process_id"] == server.pid:
                return
        time.sleep(0.05)
    raise RuntimeError(
        f"{' '.join(server.args)} does not answer (exit code {server.poll()}): {log.read_text()[-2000:]}"
    )
