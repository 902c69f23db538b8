"""An S3 server on this machine: moto's, which answers one request after the other, so that its conditional writes are atomic.

In: the ``dev`` extra. Out: a running server, its buckets, and the variables by which programs reach it.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

KEYS = {"AWS_ACCESS_KEY_ID": "a-test-key-id", "AWS_SECRET_ACCESS_KEY": "a-test-secret-key"}


def store_of(bucket: str, variables: dict[str, str]) -> Any:
    """Returns a client of a bucket of a server.

    Args:
        bucket: URI of the bucket.
        variables: Those of the server.
    """
    from obstore.store import S3Store  # tests without a server run without it

    config = {name.lower(): value for name, value in variables.items() if name != "AWS_ALLOW_HTTP"}
    return S3Store.from_url(bucket, config=config, client_options={"allow_http": True})


class S3Server:
    """A server in a process of its own, which lives as long as this object is used."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.s3_server"],
            stdin=subprocess.PIPE,  # it closes when this process ends, however it ends, and the server with it
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        self.port = int(self._process.stdout.readline())

    @property
    def variables(self) -> dict[str, str]:
        """Endpoint, region and credentials."""
        url = f"http://127.0.0.1:{self.port}"
        return {"AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1", **KEYS}

    def new_bucket(self) -> str:
        """Returns the name of a new, empty bucket."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        scope = f"{KEYS['AWS_ACCESS_KEY_ID']}/{datetime.now(UTC):%Y%m%d}/us-east-1/s3/aws4_request"
        connection.request("PUT", f"/{name}", headers={"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}"})
        assert connection.getresponse().status == 200
        return name

    def stop(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


def _serve() -> None:
    """Prints a port and answers there."""
    import threading

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application, alone = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_by_one(environ, start_response):
        with alone:
            return list(application(environ, start_response))

    server = make_server("127.0.0.1", 0, one_by_one, threaded=True)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    _serve()
