"""A connection of redis-py that sends a whole chunk of commands and reads their many short replies at once.

In: a connection pool of redis-py. Out: the pool, whose connections can read many replies at once. redis-py takes about 10
microseconds for a reply, more than the server takes to write a row. The connection itself, its TLS, authentication and time
limits stay redis-py's.
"""

from __future__ import annotations

import re

from redis import exceptions
from redis.connection import AbstractConnection, ConnectionPool

from qarm_features.feature_store.feast_internals import receive_bytes

_INTEGERS = re.compile(rb"(?::\d+\r\n)*")
_ERROR = re.compile(rb"(?:^|\n)-([^\r]*)\r\n")
_PASSING = {
    "LOADING": exceptions.BusyLoadingError,
    "READONLY": exceptions.ReadOnlyError,
    "TRYAGAIN": exceptions.TryAgainError,
    "CLUSTERDOWN": exceptions.ClusterDownError,
    "MASTERDOWN": exceptions.MasterDownError,
}


class ReplyLines(AbstractConnection):
    """Reads many replies at once. ``line_pool`` mixes it into the connection class of a pool."""

    def integers(self, count: int) -> None:
        """Read ``count`` replies that are integers.

        Raises:
            RedisError: The connection broke, or a reply is an error. In the second case all replies have been read.
        """
        received = bytearray()
        lines = 0
        while lines < count:
            piece = self._receive()
            lines += piece.count(b"\n")
            received += piece
        if not _INTEGERS.fullmatch(received):
            raise _error(bytes(received))

    def strings(self, count: int) -> list[bytes | None]:
        """Read ``count`` replies that are strings; an absent string is None.

        Raises:
            RedisError: The connection broke, or a reply is an error. The connection is closed in both cases.
        """
        received, start = bytearray(), 0
        strings: list[bytes | None] = []
        while len(strings) < count:
            end = received.find(b"\r\n", start)
            if end < 0:
                received += self._receive()
                continue
            if received[start] != ord("$"):
                self.disconnect()  # the size of the remaining replies is unknown
                raise _error(bytes(received[start:]))
            size = int(received[start + 1 : end])
            stop = end + 2 + (size + 2 if size >= 0 else 0)
            if len(received) < stop:
                received += self._receive()
                continue
            strings.append(bytes(received[end + 2 : stop - 2]) if size >= 0 else None)
            start = stop
        return strings

    def _receive(self) -> bytes:
        try:
            piece = receive_bytes(self, 1 << 20)
        except TimeoutError as error:
            self.disconnect()
            raise exceptions.TimeoutError("Redis did not answer in time.") from error
        except OSError as error:
            self.disconnect()
            raise exceptions.ConnectionError(f"The connection to Redis broke: {error}") from error
        if not piece:
            self.disconnect()
            raise exceptions.ConnectionError("Redis closed the connection.")
        return piece


def line_pool(pool: ConnectionPool) -> ConnectionPool:
    """Make a pool open connections that can read many replies at once, and return the pool.

    Args:
        pool: Pool of connections with protocol 2 that has opened no connection yet.
    """
    connection_class = pool.connection_class
    pool.connection_class = type(f"{connection_class.__name__}Lines", (ReplyLines, connection_class), {})
    return pool


def _error(replies: bytes) -> exceptions.RedisError:
    """Return the first error among replies, as the exception of redis-py that its first word names."""
    match = _ERROR.search(replies)
    if match is None:
        return exceptions.InvalidResponse(f"Redis sent a reply of an unexpected kind: {replies[:40]!r}.")
    text = match[1].decode(errors="replace")
    return _PASSING.get(text.split(" ", 1)[0], exceptions.ResponseError)(text)
