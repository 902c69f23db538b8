"""A setting that a file names twice: YAML silently takes the last, so that the first seems to hold and does not.

In: the text of a ``qarm.yaml``. Out: the first key that stands twice in one section, with its lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import yaml


class RepeatedKey(NamedTuple):
    """A key that stands twice in one section.

    Attributes:
        name: Name of the setting, such as ``codebooks.codebook_size``.
        first: Line of the first one, from 1.
        second: Line of the second one.
    """

    name: str
    first: int
    second: int


def repeated_key(text: str) -> RepeatedKey | None:
    r"""Return the first key that a text in YAML repeats in one section, or None.

    Example:
        >>> repeated_key("codebooks:\n  num_levels: 3\n  num_levels: 4\n")
        RepeatedKey(name='codebooks.num_levels', first=2, second=3)
    """
    tree = yaml.compose(text, Loader=yaml.SafeLoader)
    return None if tree is None else next(_repeated(tree, ""), None)


def _repeated(node: yaml.Node, name: str) -> Iterator[RepeatedKey]:
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            full = f"{name}.{key.value}".removeprefix(".")
            line = key.start_mark.line + 1
            if full in lines:
                yield RepeatedKey(full, lines[full], line)
            lines[full] = line
            yield from _repeated(value, full)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated(value, name)
