"""The lines for clusters use options that spark-submit has, settings that Spark knows, and files of this repository."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pyspark
import pytest

from qarm_features.cli.job_lists import JOBS, OTHER_JOBS
from tests.docs.blocks import ROOT, blocks

SPARK_HOME = Path(pyspark.__file__).parent
LINES = [
    (block.place, line)
    for block in blocks("bash")
    for line in block.code.replace("\\\n", " ").splitlines()
    if line.startswith("spark-submit ")
]


@pytest.fixture(scope="module")
def options() -> set[str]:
    """Options that spark-submit prints."""
    environment = {**os.environ, "SPARK_HOME": str(SPARK_HOME)}
    done = subprocess.run(
        [SPARK_HOME / "bin" / "spark-submit", "--help"], env=environment, capture_output=True, text=True, check=False
    )
    return set(re.findall(r"^ +(--[a-z-]+)", done.stderr, flags=re.M))


def words_of(line: str) -> tuple[dict[str, list[str]], str, list[str]]:
    """Returns the options of spark-submit with their values, the program, and its own words."""
    words = shlex.split(line.replace("$(qarm job-file ", "job:").replace(") --config", " --config"))[1:]
    given: dict[str, list[str]] = {}
    while words[0].startswith("--"):
        name, value, *words = words
        given.setdefault(name, []).append(value)
    return given, words[0], words[1:]


@pytest.mark.parametrize(("place", "line"), LINES, ids=[place for place, _ in LINES])
def test_every_line_for_spark_submit_has_options_that_exist_and_a_job_that_exists(place, line, options):
    given, program, rest = words_of(line)

    job = re.sub(r"^job:|^local:///opt/jobs/|\.py$", "", program).replace("-", "_")
    files = [value for name in ("--properties-file",) for value in given.get(name, ())]

    assert set(given) - options == set()
    assert job in JOBS + OTHER_JOBS
    assert [file for file in files if not (ROOT / file).is_file()] == []
    assert all(re.match(r"spark\.[\w.]+=\S", pair) for pair in given.get("--conf", ()))
    assert rest[:1] == ["--config"]


def test_the_pages_have_a_line_for_every_kind_of_cluster():
    masters = {re.split(r"[:?]", words_of(line)[0]["--master"][0])[0] for _, line in LINES}

    assert masters == {"spark", "yarn", "k8s"}


def test_an_option_that_spark_submit_lacks_is_noticed(options):
    given, _, _ = words_of("spark-submit --mastr yarn job:embed-items --config qarm.yaml")

    assert set(given) - options == {"--mastr"}


def test_every_file_and_folder_of_the_examples_that_the_page_names_exists():
    page = (ROOT / "docs" / "guides" / "clusters.md").read_text()
    named = set(re.findall(r"examples/[\w/.-]*\w", page))
    rows = set(re.findall(r"^\| `([\w.]+)`", page, flags=re.M)) | {"submit.conf", "templates"}

    assert [name for name in named if not (ROOT / name).exists()] == []
    assert [name for name in rows if not (ROOT / "examples" / "kubernetes" / name).exists()] == []
