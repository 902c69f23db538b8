"""Text of others on the terminal and in logs: it is shown as it is, and it does nothing."""

from __future__ import annotations

import ast
import io
import logging
import subprocess
import sys

import pytest

from qarm_features.cli import main, run_jobs
from qarm_features.cli.doctor import Check
from qarm_features.jobs.job import Counts
from qarm_features.report.prefix_neighbors import ItemCard, Neighbor
from qarm_features.report.terminal import item_table
from qarm_features.terminal import OneLine, lines_of, one_line, plain_console
from tests.import_graph import modules

HOSTILE = "sku[/red]7 [spark] :smile: \x1b[2J\x9b31m\u202eevil\r\nerror: none\x07"
SHOWN = r"sku[/red]7 [spark] :smile: \x1b[2J\x9b31m\u202eevil\r\nerror: none\x07"


@pytest.fixture
def screen(monkeypatch):
    """The console of the command line, which writes into a text."""
    written = io.StringIO()
    console = plain_console(width=400)
    console.file = written
    monkeypatch.setattr(main, "console", console)
    return written


def test_a_line_shows_what_cannot_be_seen_and_keeps_what_can():
    assert one_line(HOSTILE) == SHOWN
    assert one_line("für 日本 👩\u200d🚀 \ud800\u2028") == "für 日本 👩\u200d🚀 \\ud800\\u2028"
    assert lines_of("a\r\nb\rc") == "a\nb\\rc"


def test_items_with_markup_and_controls_in_their_ids_and_titles_are_shown(screen):
    cards = [
        ItemCard(HOSTILE, HOSTILE, [1, 2], [Neighbor(HOSTILE, HOSTILE, [1, 3], 1)]),
        ItemCard("[bold]", "[/]", [1, 2], []),
    ]

    main.console.print(item_table(cards, codebook_version=0))

    lines = [line.split(None, 0)[0].rstrip() for line in screen.getvalue().splitlines()]
    assert lines[2].count(SHOWN) == lines[3].count(SHOWN) == 2
    assert lines[4].split()[:2] == ["[bold]", "[/]"]
    assert "\x1b" not in screen.getvalue()


def test_remarks_and_warnings_of_a_job_are_shown_as_they_are(screen):
    run_jobs._print(main.console, main.Text("1/9 ingest-catalog"), Counts(3, 2, 1, HOSTILE, (HOSTILE,)), 1.0)

    lines = screen.getvalue().splitlines()
    assert lines[0].startswith("✓ 1/9 ingest-catalog  3 rows in")
    assert lines[1:] == [f"    {SHOWN}", f"    WARNING: {SHOWN}"]


def test_the_doctor_shows_an_extra_and_what_it_found(screen, monkeypatch):
    def fail():
        raise ValueError(HOSTILE.replace("\n", " "))

    found = [Check("Feast", fail, "Run: pip install 'qarm-features[feast]'")]
    monkeypatch.setattr("qarm_features.cli.doctor.checks", lambda config: found)

    with pytest.raises(main.typer.Exit):
        main.doctor(main._CONFIG)

    lines = screen.getvalue().splitlines()
    assert "sku[/red]7 [spark] :smile: " in lines[0]
    assert lines[1] == "    To repair it: Run: pip install 'qarm-features[feast]'"
    assert "\x1b" not in screen.getvalue()


def test_a_log_message_is_one_line():
    record = logging.LogRecord("qarm", logging.INFO, "x.py", 1, "rejected %s", (HOSTILE,), None)

    assert OneLine("%(name)s %(message)s").format(record) == f"qarm rejected {SHOWN}"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (
            "raise ValueError('item ' + HOSTILE)",
            r"item sku[/red]7 [spark] :smile: \x1b[2J\x9b31m\u202eevil error: none",
        ),
        ("raise ImportError(\"Run: pip install 'qarm-features[spark]'\")", "Run: pip install 'qarm-features[spark]'"),
    ],
)
def test_an_error_is_shown_as_it_is(tmp_path, code, shown):
    program = f"import sys\nfrom qarm_features.cli import main\nHOSTILE = {HOSTILE!r}\ndef fail(): {code}\n"
    program += "main.app = fail\nsys.argv[:] = ['qarm', 'doctor']\nmain.main()"

    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {shown}")
    assert len(done.stderr.splitlines()) == 1
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stderr)


def test_further_lines_of_an_error_cannot_pass_for_lines_of_their_own(capsys):
    main._say_on_stderr("error:", lines_of("seed is -1 [x]\nerror: none"))

    assert capsys.readouterr().err == "error: seed is -1 [x]\n       error: none\n"


def test_no_help_is_taken_for_markup():
    from rich.text import Text

    helps = [command.callback.__doc__ or "" for command in main.app.registered_commands]

    assert [text for text in helps if Text.from_markup(text).plain != text] == []
    assert Text.from_markup(main._needs("pip install 'x[spark]'").__doc__).plain == "pip install 'x[spark]'"


def test_only_one_module_makes_consoles_and_nobody_prints_a_text_with_values_in_it():
    """A value belongs into ``literal``; a console takes no markup, but control characters still act."""
    found = []
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called == "Console" and name not in ("terminal", "alignment.run"):
                found.append(f"{path.name}:{node.lineno} makes a Console")
            is_print = called.endswith(("console.print", "console.status", "add_row", "add_column"))
            if is_print and any(isinstance(argument, ast.JoinedStr) for argument in node.args) and _holds_text(node):
                found.append(f"{path.name}:{node.lineno} prints a text with values")
            if called.endswith("from_markup"):
                found.append(f"{path.name}:{node.lineno} reads markup")

    assert found == []


def _holds_text(node):
    """Returns True unless all values of the texts are formatted as numbers."""
    values = [value for argument in node.args for value in ast.walk(argument) if isinstance(value, ast.FormattedValue)]
    return any(value.format_spec is None for value in values)
