"""The front of the ranking package: each public name loads when it is first used, and nothing heavier than it needs."""

import subprocess
import sys
from pathlib import Path

import pytest

from qarm_features import ranking

ROOT = Path(__file__).resolve().parents[2]


def printed(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


@pytest.mark.parametrize("name", ranking.__all__)
def test_every_public_name_can_be_imported(name):
    assert getattr(ranking, name).__name__ == name


def test_every_public_name_is_listed_once():
    assert sorted(set(ranking.__all__)) == ranking.__all__
    assert set(ranking.__all__) == set(ranking._MODULES)
    assert set(ranking.__all__) <= set(dir(ranking))


def test_a_name_that_does_not_exist_is_refused():
    with pytest.raises(AttributeError, match="module 'qarm_features.ranking' has no attribute 'Absent'"):
        getattr(ranking, "Absent")  # noqa: B009 - a plain attribute is a useless expression to the linter


@pytest.mark.parametrize(("statement", "absent"), [
    ("import qarm_features.ranking", ("torch", "numpy", "pyarrow", "huggingface_hub", "transformers")),
    ("from qarm_features.ranking import TrainingOptions", ("torch", "numpy", "pyarrow")),
    (
        "from qarm_features.ranking.serve.request import Candidates",
        ("transformers", "huggingface_hub", "pyarrow", "pandas", "safetensors"),
    ),
    ("from qarm_features.ranking import Candidates", ("transformers", "huggingface_hub", "pyarrow", "pandas")),
])  # fmt: skip
def test_a_name_loads_nothing_heavier_than_it_needs(statement, absent):
    assert printed(f"import sys; {statement}; print([name for name in {absent!r} if name in sys.modules])") == "[]"


def test_without_torch_the_error_names_the_extra_to_install():
    code = (
        "import sys; sys.modules['torch'] = None; import qarm_features.ranking as ranking\n"
        "try: ranking.RankingModel\n"
        "except ImportError as error: print(error)"
    )

    assert printed(code) == (
        "qarm_features.ranking.RankingModel needs torch, which is not installed. "
        "Install it with: pip install 'qarm-features[torch]'"
    )
