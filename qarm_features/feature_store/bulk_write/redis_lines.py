"""A connection of redis-py that sends a whole chunk and reads its many short replies at once.

redis-py reads a reply in about 10 microseconds, more than the server takes to write a row. The connection itself, its TLS,
authentication and time limits stay redis-py's.
"""

from __future__ import annotations

import re

from redis import exceptions
from redis.connection import ConnectionPool

_INTEGERS = re.compile(rb"(?::\d+\r\n)*")
_ERROR = re.compile(rb"(?:^|\n)-([^\r]*)\r\n")
_PASSING = {
    "LOADING": exceptions.BusyLoadingError,
    "READONLY": exceptions.ReadOnlyError,
    "TRYAGAIN": exceptions.TryAgainError,
    "CLUSTERDOWN": exceptions.ClusterDownError,
    "MASTERDOWN": exceptions.MasterDownError,
}


class _Lines:
    """Mixed into the pool's own class of connections."""

    def integers(self, count: int) -> None:
        """Reads ``count`` replies that are integers.

        Raises:
            RedisError: The connection broke, or one of the replies is an error; all replies were read then.
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
        """Reads ``count`` replies that are strings, None for those that are absent.

        Raises:
            RedisError: As of ``integers``.
        """
        received, start, found = bytearray(), 0, []
        while len(found) < count:
            end = received.find(b"\r\n", start)
            size = int(received[start + 1 : end]) if end >= 0 and received[start] == ord("$") else None
            stop = end + 2 + (size + 2 if size is not None and size >= 0 else 0)
            if end >= 0 and size is None:
                self.disconnect()  # of the rest, nobody knows how much is still to come
                raise _error(bytes(received[start:]))
            if end < 0 or len(received) < stop:
                received += self._receive()
                continue
            found.append(bytes(received[end + 2 : stop - 2]) if size >= 0 else None)
            start = stop
        return found

    def _receive(self) -> bytes:
        try:
            piece = self._sock.recv(1 << 20)
        except TimeoutError as error:
            self.disconnect()
            raise exceptions.TimeoutError("Redis did not answer in time") from error
        except OSError as error:
            self.disconnect()
            raise exceptions.ConnectionError(f"Redis broke the connection: {error}") from error
        if not piece:
            self.disconnect()
            raise exceptions.ConnectionError("Redis closed the connection")
        return piece


def line_pool(pool: ConnectionPool) -> ConnectionPool:
    """Lets a pool make connections that read replies at once; they must speak protocol 2.

    Args:
        pool: A pool that has made no connection yet.
    """
    own = pool.connection_class
    pool.connection_class = type(f"{own.__name__}Lines", (_Lines, own), {})
    return pool


def _error(replies: bytes) -> exceptions.RedisError:
    found = _ERROR.search(replies)
    if found is None:
        return exceptions.InvalidResponse(f"Redis answered {replies[:40]!r}, must be integers.")
    text = found[1].decode(errors="replace")
    return _PASSING.get(text.split(" ", 1)[0], exceptions.ResponseError)(text)
