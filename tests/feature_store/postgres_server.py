"""A real PostgreSQL server in a folder of its own; a test makes databases in it and leaves them."""

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
from tests.server_programs import postgres_programs

USER, PASSWORD = "feast", "s3cret-word"


class PostgresServer:
    """A server on a free port that asks for a password and does not wait for its disk; skips where none is installed."""

    def __init__(self):
        self._bin, self._numbers = postgres_programs(), itertools.count()
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))  # an account other than ours can reach it
        self._as = {}
        if os.getuid() == 0:  # PostgreSQL does not run as root.
            account = _unprivileged_account()
            self._as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        self.port = free_port()
        self._server: subprocess.Popen | None = None

    def start(self) -> None:
        """Makes the server's files, starts it, and waits until it answers."""
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        data = self._folder / "data"
        words = ["-D", data, "-U", USER, "--pwfile", password, "-A", "scram-sha-256", "--no-sync", "--no-locale"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": self._folder, **self._as}
        programs = self._reachable_programs()
        subprocess.run([programs / "initdb", *words, "-E", "UTF8"], check=True, **quiet)
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder,
            "fsync": "off",
            "shared_buffers": "32MB",
        }
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self._server = subprocess.Popen([programs / "postgres", "-D", data, *flags], **quiet)
        for _ in range(200):
            try:
                psycopg.connect(self.conninfo("postgres")).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.05)
        raise TimeoutError(f"postgres on port {self.port} did not answer within 10 s.")

    def conninfo(self, database: str) -> str:
        """Returns the connection string for psycopg."""
        return f"host=127.0.0.1 port={self.port} user={USER} password={PASSWORD} dbname={database}"

    def new_database(self) -> str:
        """Creates an empty database and returns its name."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return name

    def registry_url(self, database: str) -> str:
        """Returns the registry's path for ``feature_store.yaml``."""
        return f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def online_store(self, database: str) -> dict:
        """Returns the section ``online_store`` of ``feature_store.yaml``."""
        where = {"host": "127.0.0.1", "port": self.port, "database": database}
        return {"type": "postgres", **where, "user": USER, "password": PASSWORD, "sslmode": "disable"}

    def stop(self) -> None:
        """Stops the server, whether or not connections are open, and removes its files."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(timeout=30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _reachable_programs(self) -> Path:
        """Returns the programs' folder, or a copy of it where root's own folders hide it from the server's account."""
        try:
            subprocess.run([self._bin / "postgres", "--version"], check=True, capture_output=True, cwd="/", **self._as)
            return self._bin
        except PermissionError:
            package = self._bin.parents[1]
            libraries = package.with_name(f"{package.name}.libs")
            copy = self._folder / "programs" / package.name / self._bin.parent.name
            shutil.copytree(self._bin.parent, copy)
            if libraries.exists():  # A wheel keeps them beside its package, and its programs look for them there.
                shutil.copytree(libraries, self._folder / "programs" / libraries.name)
            subprocess.run(["chmod", "-R", "a+rX", self._folder / "programs"], check=True)
            return copy / "bin"


def _unprivileged_account() -> pwd.struct_passwd:
    """Returns Debian's account for PostgreSQL, or the account that owns nothing."""
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")
