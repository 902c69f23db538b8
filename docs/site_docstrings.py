"""Shows the examples of docstrings as code.

In: docstrings with a section "Example:", as this project writes it. Out: the section "Examples:", which is the one that the
reader of docstrings knows. mkdocs.yml names the class.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class ExamplesAsCode(griffe.Extension):
    """Renames the section in every docstring that is read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.M)
