"""Exchange messages over a socket: a JSON object and bytes. No message is unpickled, so none can run code.

In: a stream socket. Out: the two parts of a message.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

_LENGTHS = struct.Struct(">IQ")  # of the JSON object and of the bytes
_LONGEST_HEADER = 1 << 20
_SMALL = 1 << 17  # bytes that are copied, because one call is cheaper than two


def send(connection: socket.socket, header: Mapping[str, Any], body: bytes | memoryview = b"") -> None:
    """Send a message.

    Args:
        connection: Stream socket.
        header: Object that JSON can hold.
        body: Bytes that follow it.

    Raises:
        OSError: The other side is gone.
    """
    text = json.dumps(header).encode()
    start = _LENGTHS.pack(len(text), len(body)) + text
    if len(body) < _SMALL:
        connection.sendall(start + bytes(body))
    else:
        connection.sendall(start)
        connection.sendall(body)


def receive(connection: socket.socket, *, most: int) -> tuple[dict[str, Any], bytearray]:
    """Receive a message.

    Args:
        connection: Stream socket.
        most: Greatest number of bytes of the body.

    Returns:
        The object and the bytes.

    Raises:
        EOFError: The other side closed the connection.
        OSError: The message is larger than allowed, or the connection failed.
    """
    header_length, length = _LENGTHS.unpack(_exactly(connection, _LENGTHS.size))
    if header_length > _LONGEST_HEADER or length > most:
        raise OSError("The message is larger than allowed.")
    return json.loads(_exactly(connection, header_length)), _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytearray:
    body = bytearray(length)
    view, read = memoryview(body), 0
    while read < length:
        count = connection.recv_into(view[read:])
        if count == 0:
            raise EOFError("The other side closed the connection.")
        read += count
    return body
