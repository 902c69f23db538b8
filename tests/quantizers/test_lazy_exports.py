"""The package exports its quantizers lazily, and a missing dependency names the extra to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qarm_features import quantizers

ROOT = Path(__file__).resolve().parents[2]


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


def test_the_package_alone_imports_neither_spark_nor_torch():
    done = run("import sys, qarm_features.quantizers; print([n for n in ('pyspark', 'torch') if n in sys.modules])")

    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_quantizer_without_spark_names_the_extra_to_install():
    done = run("import sys; sys.modules['pyspark'] = None; from qarm_features.quantizers import ResidualKMeans")

    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "ImportError: ResidualKMeans needs pyspark, which is not installed. "
        "Install it: pip install 'qarm-features[spark]'"
    )


def test_every_exported_name_has_a_home_and_others_are_refused():
    assert set(quantizers.__all__) == set(quantizers._HOME)
    with pytest.raises(AttributeError, match=r"module 'qarm_features\.quantizers' has no attribute 'KMeans'"):
        quantizers.KMeans  # noqa: B018  # the access itself raises
