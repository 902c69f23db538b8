"""Redis as companies run it, in the smallest real form: a cluster of one server, a sentinel of one server, one with TLS."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from redis import Redis

from tests.feature_store.redis_patience import impatient_client, wait_until_it_answers
from tests.free_port import free_port
from tests.server_programs import openssl_program, redis_program, redis_program_with_tls


@contextlib.contextmanager
def one_server_cluster(folder: Path) -> Iterator[str]:
    """Yields ``host:port`` of a server that owns all slots of its cluster."""
    # By default the bus of the cluster listens 10,000 ports above the server; no such port exists above a high one.
    with _running(folder, f"cluster-enabled yes\ncluster-port {free_port()}") as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        for _ in range(200):
            if b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO", NEVER_DECODE=True):
                break
            time.sleep(0.05)
        yield _address(client)


@contextlib.contextmanager
def sentinel(folder: Path, master_port: int) -> Iterator[str]:
    """Yields ``host:port`` of a sentinel that knows the server on ``master_port`` as ``mymaster``."""
    with _running(folder, f"sentinel monitor mymaster 127.0.0.1 {master_port} 1", "--sentinel") as client:
        yield _address(client)


@contextlib.contextmanager
def tls_server(folder: Path, password: str) -> Iterator[str]:
    """Yields the connection string of a server that asks for TLS and a password."""
    program, openssl, port = redis_program_with_tls(), openssl_program(), free_port()
    key, certificate = folder.with_suffix(".key"), folder.with_suffix(".crt")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", key, "-out", certificate]
    new = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject, *files]
    subprocess.run(new, check=True, capture_output=True)
    lines = f"tls-port {port}\ntls-cert-file {certificate}\ntls-key-file {key}\ntls-auth-clients no"
    with _running(folder, lines, program=program) as client:
        client.config_set("requirepass", password)
        yield f"127.0.0.1:{port},ssl=true,ssl_ca_certs={certificate},password={password}"


def _address(client: Redis) -> str:
    return f"127.0.0.1:{client.connection_pool.connection_kwargs['port']}"


@contextlib.contextmanager
def _running(folder: Path, line: str, *flags: str, program: str | None = None) -> Iterator[Redis]:
    program, port = program or redis_program(), free_port()
    folder.mkdir()
    (folder / "redis.conf").write_text(f'port {port}\nbind 127.0.0.1\nsave ""\ndir {folder}\n{line}\n')
    log = folder / "redis.log"
    with log.open("wb") as lines:
        server = subprocess.Popen([program, str(folder / "redis.conf"), *flags], stdout=lines, stderr=lines)
    try:
        with impatient_client(port) as client:
            wait_until_it_answers(server, client, log)
            yield client
    finally:
        server.kill()
        server.wait(timeout=30)
