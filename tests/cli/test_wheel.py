"""The wheel holds all that a user needs, and works where nothing of the checkout can be imported."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import pytest

from qarm_features.cli.job_lists import JOBS, OTHER_JOBS
from tests.toy_catalog import write_toy_project

ROOT = Path(__file__).resolve().parents[2]
PAGE_FILES = ("index.html", "icon.svg", "js/app.js", "js/views/tree.js", "style/base.css", "vendor/echarts.min.js")
PAGE_FILES += ("vendor/echarts.LICENSE", "vendor/echarts.NOTICE", "vendor/echarts.LICENSE-d3")
NEEDED = (
    "qarm_features/py.typed",
    "qarm_features/report/templates/report.html",
    *[f"qarm_features/explorer/page/{name}" for name in PAGE_FILES],
    "qarm_features/feature_repo/feature_store.yaml",
    "qarm_features/feature_repo/feature_store.production.yaml",
    "qarm_features/feature_repo/feature_definitions.py",
    *[f"qarm_features/spark_jobs/{job}.py" for job in JOBS + OTHER_JOBS],
)
SITES = [place for place in sys.path if Path(place).name in ("site-packages", "dist-packages")]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYSPARK_PYTHON")}


def source_in_the_checkout(name: str) -> Path | None:
    """Returns the file that pyproject.toml puts into the wheel under a name; None if there is none."""
    target = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    places = {PurePosixPath(where): ROOT / folder for folder, where in target["force-include"].items()}
    places |= {PurePosixPath(folder): ROOT / folder for folder in target["packages"]}
    found = [places[p] / PurePosixPath(name).relative_to(p) for p in PurePosixPath(name).parents if p in places]
    return next((path for path in found if path.is_file()), None)


@pytest.mark.parametrize("name", NEEDED)
def test_the_build_puts_each_needed_file_into_the_wheel(name):
    assert source_in_the_checkout(name)


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    if find_spec("hatchling"):
        command.append("--no-build-isolation")
    run(*command, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The bin folder of an environment that has the wheel, and the packages of this environment, but not the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    run(*pip, str(wheel), cwd=folder)
    # A path in a .pth file is searched, but the .pth files in that path, as of an editable install, are not read.
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "packages_of_the_tests.pth").write_text("\n".join(SITES) + "\n")
    return folder / "bin"


@pytest.mark.slow
def test_the_wheel_holds_the_needed_files_and_no_top_level_package_but_its_own(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())

    assert set(NEEDED) - names == set()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"qarm_features"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_installed_wheel_starts_a_project_checks_the_machine_and_publishes(installed, tmp_path):
    qarm, python = installed / "qarm", installed / "python"
    folder = tmp_path / "mine"

    imported = run(python, "-c", "import qarm_features; print(qarm_features.__file__)", cwd=tmp_path)
    first = run(qarm, "init", "mine", cwd=tmp_path)
    write_toy_project(folder)
    found = run(qarm, "doctor", cwd=folder)
    launcher = Path(run(qarm, "job-file", "embed-items", cwd=folder).strip())
    help_of_the_launcher = run(python, launcher, "--help", cwd=folder)
    ran = run(qarm, "run", "--until", "publish-features", cwd=folder)

    assert Path(imported.strip()).is_relative_to(installed.parent)
    assert launcher.is_relative_to(installed.parent)
    assert "feature_store.yaml" in first
    assert "wrote and read 1 row" in found
    assert "Must have run before: ingest-catalog." in " ".join(help_of_the_launcher.split())
    assert "item_semantic_id now serves item_semantic_id__cb0" in ran
