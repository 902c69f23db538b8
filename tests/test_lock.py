"""The locked dependencies: each has the hashes of its files, and nothing is installed without them."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
LOCKS = {"requirements.lock": LOCK, "airflow": (ROOT / "examples" / "airflow" / "requirements.lock").read_text()}
_PINNED = re.compile(r"^([a-z0-9][a-z0-9._-]*)==[^ ;]+(?: ; [^\\]*)? \\$")


def _name(requirement: str) -> str:
    """Returns the name of a package as the lock writes it."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_version_and_at_least_one_hash(lock):
    lines = LOCKS[lock].splitlines()

    unhashed = [
        line
        for number, line in enumerate(lines)
        if not line.startswith("    --hash=sha256:")
        and not (_PINNED.match(line) and lines[number + 1].startswith("    --hash=sha256:"))
    ]

    assert unhashed == []
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in lines if line.startswith(" "))


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_server_and_no_folder(lock):
    assert re.findall(r"://|--index|--find-links|--extra-index| @ |file:", LOCKS[lock]) == []


def test_the_environment_of_airflow_is_not_part_of_ours():
    assert "apache-airflow" not in LOCK


def test_every_dependency_and_what_builds_the_package_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [
        *project["project"]["dependencies"],
        *(name for extra in project["project"]["optional-dependencies"].values() for name in extra),
        *project["build-system"]["requires"],
        "editables",
    ]

    locked = {found[1] for line in LOCK.splitlines() if (found := _PINNED.match(line))}

    assert {_name(requirement) for requirement in asked} - locked == set()


def test_setup_installs_nothing_without_a_hash():
    makefile = (ROOT / "Makefile").read_text()

    installs = re.findall(r"pip install.*", makefile)

    assert [
        line for line in installs if "--require-hashes" not in line and "--no-build-isolation --no-deps" not in line
    ] == []
    assert len(installs) == 3
