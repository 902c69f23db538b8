"""A locked registry: commands wait for it for a limited time, and then say in one line who holds it and what to do.

In: the configuration of a feature repo, and an error of the registry's database. Out: a ``RegistryError``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from feast.repo_config import RegistryConfig, RepoConfig
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

REGISTRY_WAIT_SECONDS = 30.0
_SIGNS = ("database is locked", "lock timeout", "Lock wait timeout")  # SQLite, PostgreSQL, MySQL


class RegistryError(ValueError):
    """The registry stayed locked for longer than a command waits."""


def wait_for_locks(registry: RegistryConfig, seconds: float) -> None:
    """Limit how long connections to the registry wait for locks: SQLite's driver gives up after 5 s, PostgreSQL never does.

    A limit that ``sqlalchemy_config_kwargs`` of ``feature_store.yaml`` sets is left as it is.

    Args:
        registry: Section ``registry``, which is changed.
        seconds: Longest time to wait.
    """
    if registry.path.startswith("sqlite"):
        limit: dict[str, Any] = {"timeout": seconds}
    elif registry.path.startswith("postgresql") and "options=" not in registry.path:
        limit = {"options": f"-c lock_timeout={round(seconds * 1000)}"}
    else:
        return
    options: dict[str, Any] = registry.sqlalchemy_config_kwargs
    registry.sqlalchemy_config_kwargs = {**options, "connect_args": {**limit, **options.get("connect_args", {})}}


@contextlib.contextmanager
def naming_the_registry(config: RepoConfig) -> Iterator[None]:
    """Turn the error of a registry that stayed locked into one clear line.

    Args:
        config: Configuration of the feature repo.

    Raises:
        RegistryError: The registry stayed locked.
    """
    try:
        yield
    except DBAPIError as error:
        if not any(sign in str(error.orig) for sign in _SIGNS):
            raise
        raise RegistryError(_locked(config.registry)) from error


def _locked(registry: RegistryConfig) -> str:
    url = make_url(registry.path)
    again = "Wait until it ends, or end it, and run the same command again."
    if url.get_backend_name() != "sqlite":
        look = (
            "Look for open transactions: SELECT pid, usename, state, query FROM pg_stat_activity WHERE state <> 'idle'."
        )
        return (
            f"The registry (database {url.database} on {url.host}) stayed locked by another connection. {look} {again}"
        )
    file = Path(url.database or "")
    holders = " and ".join(_holders(file)) or "another process"
    return f"The registry ({file}) stayed locked by {holders}. {again} To see who has it open, run: fuser -v {file}"


def _holders(file: Path) -> list[str]:
    """Return the processes that lock a file, where the system tells (Linux)."""
    try:
        inode = file.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    fields = [line.replace("-> ", "").split() for line in lines]
    pids = {int(line[4]) for line in fields if len(line) > 5 and line[5].split(":")[-1] == str(inode)}
    return [f"process {pid}{_command(pid)}" for pid in sorted(pids) if pid > 0]


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return f" ({' '.join(' '.join(words).split())[:80]})"
