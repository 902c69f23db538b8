"""A real PostgreSQL server from Debian's package, in a folder of its own; a test makes databases in it and leaves them."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from tests.free_port import free_port

USER, PASSWORD = "feast", "s3cret-word"


def binaries() -> Path | None:
    """Returns the folder of the newest `initdb` and `postgres`, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class PostgresServer:
    """A server on a free port that asks for a password and does not care for its disk."""

    def __init__(self):
        self._bin, self._numbers = binaries(), itertools.count()
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))  # one that its own user can reach
        self._as = {}
        if os.getuid() == 0:  # PostgreSQL does not run as root
            account = pwd.getpwnam("postgres")
            self._as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        self.port = free_port()
        self._server: subprocess.Popen | None = None

    def start(self) -> None:
        """Makes its files, starts it, and waits until it answers."""
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        data = self._folder / "data"
        words = [
            "-D",
            data,
            "-U",
            USER,
            "--pwfile",
            password,
            "-A",
            "scram-sha-256",
            "--no-sync",
            "--no-locale",
            "-E",
            "UTF8",
        ]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": self._folder, **self._as}
        subprocess.run([self._bin / "initdb", *words], check=True, **quiet)
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder,
            "fsync": "off",
            "shared_buffers": "32MB",
        }
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self._server = subprocess.Popen([self._bin / "postgres", "-D", data, *flags], **quiet)
        for _ in range(200):
            try:
                psycopg.connect(self.conninfo("postgres")).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.05)
        raise TimeoutError(f"postgres on port {self.port} did not answer within 10 s.")

    def conninfo(self, database: str) -> str:
        """Returns what psycopg connects with."""
        return f"host=127.0.0.1 port={self.port} user={USER} password={PASSWORD} dbname={database}"

    def new_database(self) -> str:
        """Makes an empty database and returns its name."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return name

    def registry_url(self, database: str) -> str:
        """Returns what stands in feature_store.yaml."""
        return f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def online_store(self, database: str) -> dict:
        """Returns the section of feature_store.yaml."""
        where = {"host": "127.0.0.1", "port": self.port, "database": database}
        return {"type": "postgres", **where, "user": USER, "password": PASSWORD, "sslmode": "disable"}

    def stop(self) -> None:
        """Stops it, open connections or not, and removes its files."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(timeout=30)
        shutil.rmtree(self._folder, ignore_errors=True)
