"""A real Redis server that a test starts, stops and starts again."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from redis import Redis

from tests.feature_store.redis_patience import impatient_client, wait_until_it_answers
from tests.free_port import free_port
from tests.server_programs import redis_program


class RedisServer:
    """A Redis server on a free port, whose rows survive ``stop()`` and ``start()``; skips where none is installed.

    Args:
        folder: Folder of the server's dump.
        password: Password that clients must send; None asks for none.
    """

    def __init__(self, folder: Path, password: str | None = None):
        self._password = password
        self._log = folder / "redis.log"
        self.port = free_port()
        words = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": folder}
        if password:
            words["requirepass"] = password
        self._command = [redis_program(), *(w for k, v in words.items() for w in (f"--{k}", str(v)))]
        self._server: subprocess.Popen | None = None

    @property
    def connection_string(self) -> str:
        """The ``connection_string`` of ``feature_store.yaml``."""
        return f"127.0.0.1:{self.port}"

    def client(self) -> Redis:
        """Returns a new raw client, which reads bytes."""
        return Redis(port=self.port, password=self._password)

    def start(self) -> None:
        """Starts the server with the rows of its dump, and waits until it answers."""
        with self._log.open("wb") as lines:
            self._server = subprocess.Popen(self._command, stdout=lines, stderr=lines)
        with impatient_client(self.port, self._password) as client:
            wait_until_it_answers(self._server, client, self._log)

    def stall(self) -> None:
        """Lets the server keep its connections and answer nothing, until ``go_on()``."""
        self._server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends a ``stall()``."""
        self._server.send_signal(signal.SIGCONT)

    def stop(self, keep: bool = True) -> None:
        """Stops the server, which breaks its connections; ``keep`` writes the dump first, so that no row is lost."""
        if self._server is None:
            return
        if keep:
            with self.client() as client:
                client.shutdown(save=True)
        else:
            self._server.kill()
        self._server.wait(timeout=30)
        self._server = None
