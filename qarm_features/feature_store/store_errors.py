"""Errors of the online store as one line that names the store, the cause and the remedy.

In: an error of redis-py, of a database driver, or of a Spark job whose tasks got one. Out: an ``OnlineStoreError``.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feast import RepoConfig

_DRIVERS = ("redis", "sqlite3", "psycopg")
# The last line of a traceback that a Spark task sent to the driver.
_IN_A_TASK = re.compile(r"^\s*((?:redis|sqlite3|psycopg)[\w.]*\.\w+): (.+)$", re.MULTILINE)
_SERVER = re.compile(r"[\w.-]+(:\d+)?")
_REMEDIES = (
    ("OOM command not allowed", "Raise maxmemory of the server, retire releases (qarm release retire), or set publishing to "
     "publish fewer views. Then publish again"),
    ("MISCONF", "The server cannot save its data. Free its disk or set stop-writes-on-bgsave-error no"),
    ("NOAUTH", "The server asks for a password. Set password= in connection_string of feature_store.yaml"),
    ("Authentication required", "The server asks for a password. Set password= in connection_string of feature_store.yaml"),
    ("WRONGPASS", "Correct username= and password= in connection_string of feature_store.yaml"),
    ("invalid username-password", "Correct username= and password= in connection_string of feature_store.yaml"),
    ("invalid password", "Correct username= and password= in connection_string of feature_store.yaml"),
    ("AuthenticationError", "The server asks for a password. Set password= in connection_string of feature_store.yaml"),
    ("password authentication failed", "Correct user and password in feature_store.yaml"),
    ("NOPERM", "Let the server's user run the commands @read, @write, @hash and @connection on all keys"),
    ("has no permissions", "Let the server's user run the commands @read, @write, @hash and @connection on all keys"),
    ("WRONGTYPE", "Another program keeps something else under this key. Give the project a Redis database of its own (db=)"),
    ("readonly database", "Make the file of the online store writable for this user"),
    ("read only replica", "connection_string names a replica. Name the primary server, or its sentinels"),
    ("READONLY", "connection_string names a replica. Name the primary server, or its sentinels"),
    ("MOVED", "The server belongs to a cluster. Set redis_type: redis_cluster in feature_store.yaml"),
    ("CLUSTERDOWN", "Check the cluster: redis-cli cluster info"),
    ("cluster", "Check the cluster (redis-cli cluster info) and redis_type in feature_store.yaml"),
    ("max number of clients", "Raise maxclients of the server, or use fewer Spark cores"),
    ("SSL", "Check ssl= in connection_string of feature_store.yaml, and the server's certificate"),
    ("disk is full", "Free disk space, then publish again"),
    ("locked", "Another process writes to the file. Wait for it, or use Redis or PostgreSQL"),
    ("refused", "Start the server, or correct its address in feature_store.yaml"),
    ("Name or service not known", "Correct the address in feature_store.yaml"),
    ("Timeout", "Check that the server is running and reachable from Spark's executors"),
)  # fmt: skip
_OTHERWISE = "Check the server and the section online_store of feature_store.yaml"


class OnlineStoreError(ValueError):
    """The online store refused a command or could not be reached."""


@contextlib.contextmanager
def naming_the_store(config: RepoConfig) -> Iterator[None]:
    """Turn an error of the online store into one clear line.

    Args:
        config: Configuration of the feature repo.

    Raises:
        OnlineStoreError: The online store refused a command or could not be reached.
    """
    try:
        yield
    except Exception as error:
        clear = clear_store_error(error, config)
        if clear is None or clear is error:
            raise
        raise clear from error


def clear_store_error(error: BaseException, config: RepoConfig) -> OnlineStoreError | None:
    """Return the clear error of an error of the online store; None for any other error.

    Args:
        error: Error of a driver of the store, or of a Spark job whose tasks got one.
        config: Configuration of the feature repo.
    """
    if isinstance(error, OnlineStoreError):
        return error
    cause = _cause(error)
    if cause is None:
        return None
    kind, text = cause
    remedy = next((remedy for sign, remedy in _REMEDIES if sign.lower() in f"{kind} {text}".lower()), _OTHERWISE)
    return OnlineStoreError(f"The online store ({_place(config)}) failed: {text.rstrip('.')}. {remedy}.")


def _cause(error: BaseException) -> tuple[str, str] | None:
    """Return the name and the first line of the driver's error that is the cause of an error."""
    found: BaseException | None = error
    while found is not None:
        if type(found).__module__.startswith("sqlalchemy"):  # the registry's database, not the online store
            return None
        if type(found).__module__.split(".")[0] in _DRIVERS:
            return type(found).__name__, _first_line(str(found)) or type(found).__name__
        if type(found).__module__.startswith(("pyspark", "py4j")):
            in_task = _IN_A_TASK.findall(str(found))
            if in_task:
                return in_task[-1][0], _first_line(in_task[-1][1])
        found = found.__cause__ or found.__context__
    return None


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _place(config: RepoConfig) -> str:
    """Return type and address of the store, without a password."""
    store = config.online_store
    if store.type == "redis":
        servers = redis_servers(store.connection_string)
        return f"Redis at {', '.join(servers)}" if servers else "Redis, connection_string names no host:port"
    if store.type == "postgres":
        return f"PostgreSQL at {store.host}:{store.port}, database {store.database}"
    if store.type == "sqlite":
        return f"SQLite file {store.path}"
    return str(store.type)


def redis_servers(connection_string: str) -> list[str]:
    """Return the servers that a connection string of Feast names, and nothing that may be a part of a password.

    Example:
        >>> redis_servers("a.example:6379,b.example,ssl=true,password=x,y:1"), redis_servers("redis://:secret@host:6379")
        (['a.example:6379', 'b.example'], [])
    """
    first = itertools.takewhile(lambda part: "=" not in part, connection_string.split(","))
    return [part for part in first if _SERVER.fullmatch(part)]
