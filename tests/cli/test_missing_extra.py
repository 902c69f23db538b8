"""A package that is not installed is named together with the extra that brings it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from qarm_features.cli.missing_extra import explain_missing


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ModuleNotFoundError("No module named 'faiss'", name="faiss"),
            "The package faiss is not installed. Run: pip install 'qarm-features[spark]'",
        ),
        (
            ModuleNotFoundError("No module named 'PIL.Image'", name="PIL.Image"),
            "The package PIL is not installed. Run: pip install 'qarm-features[torch]'",
        ),
        (
            ImportError("Run: pip install 'qarm-features[audio]'", name="torch"),
            "Run: pip install 'qarm-features[audio]'",
        ),
        (ModuleNotFoundError("No module named 'mine'", name="mine"), "No module named 'mine'"),
        (ImportError("cannot import name 'a' from 'b'"), "cannot import name 'a' from 'b'"),
    ],
    ids=lambda value: getattr(value, "name", None) or "",
)
def test_the_message_names_the_package_and_the_extra(error, message):
    assert explain_missing(error) == message


def test_the_item_encoder_without_torch_names_the_extra():
    code = "import sys; sys.modules['torch'] = None; import qarm_features; qarm_features.ItemEncoder"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "pip install 'qarm-features[torch]'" in done.stderr.splitlines()[-1]
