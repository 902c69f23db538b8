"""A port for a server that a test starts."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Returns a port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
