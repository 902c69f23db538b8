"""The examples in the docstrings of ``qarm_features`` run and print what they show.

A module is found by the ``>>>`` in its text, so that no other module, and with it Spark or Feast, is imported for this.
"""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = re.compile(r"^\s*>>> ", re.MULTILINE)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

EXAMPLES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): len(EXAMPLE.findall(text))
    for path in sorted((ROOT / "qarm_features").rglob("*.py"))
    if EXAMPLE.search(text := path.read_text())
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_a_module_print_what_they_show(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)

    assert result.failed == 0
    assert result.attempted == EXAMPLES[name], "an example stands where doctest does not find it"
