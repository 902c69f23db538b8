"""The messages that the troubleshooting page explains are those that the code raises."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
MESSAGES = re.findall(r"^\| `(.+?)` \|", PAGE.read_text(), flags=re.M)


def texts_of_the_code() -> list[str]:
    """Returns every text of the package, with a NUL for each part that differs from case to case."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "qarm_features").rglob("*.py")]
    named = named_texts(trees)
    texts = []
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.JoinedStr):
            texts.append("".join(text_of_part(part, named) for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    return texts


def named_texts(trees: list[ast.Module]) -> dict[str, str]:
    """Returns the texts that a module of the package gives a name, by that name."""
    return {
        statement.targets[0].id: statement.value.value
        for tree in trees
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    }


def text_of_part(part: ast.expr, named: dict[str, str]) -> str:
    """Returns what a part of an f-string shows: its text, the text of a name, or a NUL for what differs."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name):
        return named.get(part.value.id, "\0")
    return "\0"


TEXTS = texts_of_the_code()


def pieces(message: str) -> list[str]:
    """Returns the parts of a documented message that stand in the code: what lies between dots, without the ends."""
    return [part.strip(" .") for part in re.split(r"\.{3,}", message) if part.strip(" .")]


def is_raised(message: str) -> bool:
    """Returns whether one text of the code holds all pieces of a message, one after the other."""
    pattern = re.compile(".*".join(re.escape(piece) for piece in pieces(message)), re.S)
    return any(pattern.search(text) for text in TEXTS)


def test_the_page_explains_many_messages():
    assert len(MESSAGES) > 60


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_of_the_page_is_one_of_the_code(message):
    assert is_raised(message)


def test_a_message_that_the_code_does_not_have_is_noticed():
    assert not is_raised("codebooks.codebook_size is ..., must be a prime number")
