"""``qarm env pack`` makes one file of the environment, with which executors run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from qarm_features.cli.env_pack import pack, packed_extras, write_pack
from qarm_features.cli.main import app


def test_extras_of_executors_are_packed_and_those_of_a_person_are_not():
    extras = packed_extras(None)

    assert {"spark", "torch", "feast", "redis"} <= set(extras)
    assert not {"dev", "cluster", "explore", "mlflow"} & set(extras)
    assert packed_extras(["torch", "spark", "torch"]) == ["spark", "torch"]


def test_an_unknown_extra_and_one_that_is_not_installed_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"--extra is sparks, must be one of .*spark, torch"):
        packed_extras(["sparks"])
    monkeypatch.setattr("qarm_features.cli.env_pack._missing", lambda extra: ["redis"] if extra == "redis" else [])
    with pytest.raises(ValueError, match=r"--extra is redis, but redis is not installed here. Run: pip install 'qarm-"):
        packed_extras(["redis"])
    assert "redis" not in packed_extras(None)


def test_a_file_that_exists_is_kept(tmp_path):
    (tmp_path / "env.pex").write_text("somebody's")

    with pytest.raises(ValueError, match=r"--output is .*env.pex, which exists. Use --force to replace it."):
        pack(output=tmp_path / "env.pex")

    assert (tmp_path / "env.pex").read_text() == "somebody's"


def test_without_pex_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pex", None)

    with pytest.raises(ImportError, match=r"Packs of an environment need the package pex.*qarm-features\[cluster\]"):
        pack(output=tmp_path / "env.pex")


def test_a_pack_that_fails_leaves_no_file_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "nowhere"))

    with pytest.raises(ValueError, match=r"The environment .*nowhere could not be packed: .+"):
        write_pack(tmp_path / "env.pex", ["spark"])

    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_pack_starts_where_nothing_is_installed_and_leaves_pyspark_to_spark(tmp_path):
    done = CliRunner().invoke(app, ["env", "pack", "--output", str(tmp_path / "env.pex"), "--extra", "spark"])
    assert done.exit_code == 0, done.output

    code = (
        "import importlib.util as u; import qarm_features.quantizers.arrays, deltalake; print(u.find_spec('pyspark'), "
        "deltalake.__version__)"
    )
    environment = {"PATH": os.environ["PATH"], "PEX_ROOT": str(tmp_path / "root")}
    python = [f"{sys.base_prefix}/bin/python3", str(tmp_path / "env.pex")]
    found = subprocess.run(
        [*python, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert found.stdout.startswith("None "), found.stderr
    assert "spark-submit --files" in done.output
