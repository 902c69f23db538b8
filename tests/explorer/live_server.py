"""The explorer's server on a free port of this machine, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from qarm_features.explorer.server import listen, make_app, url_of
from qarm_features.explorer.store import Explorer


@contextmanager
def live_server(explorer: Explorer) -> Iterator[str]:
    """Yields the URL of a server that answers until the block ends."""
    with listen("127.0.0.1", 0) as opened:
        server = uvicorn.Server(uvicorn.Config(make_app(explorer), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield url_of(opened)
        server.should_exit = True
        thread.join()
