"""Every `qarm` command in the documentation is one that the command line understands, with its arguments and options."""

from __future__ import annotations

import functools
import re
import shlex
from typing import Any

import pytest
import typer

from qarm_features.cli import job_lists
from qarm_features.cli import main as cli
from tests.docs.blocks import blocks, inline_commands

_LEFT_OUT = ("Missing", "NoArgsIsHelp", "requires an argument", "valid integer")  # a sentence may leave out values
_STARTS = re.compile(r"(?:^|&& |\$\(|`)(?:[A-Z_]+=\S+ )*(?:\S*/)?qarm ")


@functools.cache
def app() -> Any:
    if not any(command.name == "embed-items" for command in cli.app.registered_commands):
        cli._add_jobs(job_lists.JOBS + job_lists.OTHER_JOBS)
    return typer.main.get_command(cli.app)


class NotUnderstood(Exception):
    """The command line refuses the words."""


def commands_of(line: str) -> list[list[str]]:
    """Returns the words of each ``qarm`` command of a shell line, without comments and what a shell makes of the rest."""
    found = []
    for start in _STARTS.finditer(line):
        rest = line[start.end() :]
        rest = rest.split(")")[0] if start[0].startswith("$(") else rest
        words = shlex.split(rest, comments=True)
        ends = [number for number, word in enumerate(words) if word in ("&&", "|", ";", ">")]
        found.append(words[: ends[0]] if ends else words)
    return found


def parse(words: list[str]) -> None:
    """Lets the command line read the words as it would read them from a shell, and runs nothing.

    Raises:
        NotUnderstood: A command, an argument or an option does not exist, or one is missing.
    """
    command, context = app(), None
    words = [word for word in words if word != "..."]
    try:
        while hasattr(command, "commands") and words:
            context = command.context_class(command, info_name="qarm", parent=context)
            _, command, words = command.resolve_command(context, words)
        command.make_context("qarm", words, parent=context)
    except Exception as error:  # typer brings its own classes of click
        raise NotUnderstood(f"{type(error).__name__}: {error}") from error


SHELL = [
    (block.place, line, words)
    for block in blocks("bash", "shell", "sh", "console")
    for line in block.code.replace("\\\n", " ").splitlines()
    for words in commands_of(line)
]


@pytest.mark.parametrize(("place", "line", "words"), SHELL, ids=[f"{p} {line}"[:90] for p, line, _ in SHELL])
def test_every_command_of_a_shell_block_is_understood(place, line, words):
    parse(words)


def test_every_command_inside_a_sentence_is_understood():
    wrong = []
    for page, text in inline_commands():
        words = [word for word in shlex.split(text, comments=True)[1:] if word]
        if words in ([], ["COMMAND", "--help"]):
            continue
        try:
            parse(words)
        except NotUnderstood as error:
            if not any(reason in str(error) for reason in _LEFT_OUT):
                wrong.append(f"{page}: {text}: {error}")

    assert wrong == []


@pytest.mark.parametrize("wrong", ["run --untill publish-features", "embed-item", "release promote", "show A100 B200"])
def test_what_the_command_line_does_not_know_is_noticed(wrong):
    with pytest.raises(NotUnderstood):
        parse(shlex.split(wrong))
