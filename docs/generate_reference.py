"""Write the reference pages from the code, so that they cannot say anything else than the code does.

In: ``Settings``, the tables of ``storage/tables.py``, the declarations of the jobs and the command line.
Out: ``docs/reference/settings.md``, ``tables.md``, ``jobs.md`` and ``commands.md``. No Spark session is started.

Run ``make docs``. ``tests/test_docs.py`` fails when a page differs from what this script would write.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel, Secret, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from qarm_features.cli import job_lists
from qarm_features.cli import main as cli
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import TABLES, Column

FOLDER = Path(__file__).resolve().parent / "reference"
_GENERATED = (
    "<!-- Written by docs/generate_reference.py. Do not edit it by hand: change the code and run `make docs`. -->"
)
_BOUNDS = {
    "ge": "at least {}",
    "gt": "above {}",
    "le": "at most {}",
    "lt": "below {}",
    "multiple_of": "a multiple of {}",
}

_SETTINGS_INTRO = """
A project has one file of settings, `qarm.yaml`. Three places can set a value, and the later one wins: the file, then an
environment variable, then a flag of the command. The variable of a setting is `QARM_` and the name in capital letters, with
two underscores between a section and its setting: `QARM_CODEBOOKS__NUM_LEVELS=4`. Relative paths count from the folder of
`qarm.yaml`.
"""
_TABLES_INTRO = """
All tables are Delta tables under the setting `warehouse`. In the column types, `<item_id>` and `<user_id>` stand for the
type of your IDs: `bigint` where `items.item_id_type` or `interactions.user_id_type` is `integer`, else `string`. An optional
column is null, or missing, in tables that were written before the column existed. [Layout of arrays](arrays.md) shows by
examples how codes lie in the columns, and which tensors are made of them.
"""
_JOBS_INTRO = """
Every job runs one stage of the flow. `qarm run` runs the jobs marked with yes, in this order, in one Spark session, and
skips each job whose inputs have not changed. Every job also has a command of its own and a launcher in `spark_jobs/` for
`spark-submit`. A name that ends in `/` is a folder of versioned artifacts under the setting `artifacts`; the other names
are [tables](tables.md). `qarm run --until NAME` stops after the job NAME, which is one of {until}.
"""
_COMMANDS_INTRO = """
These are all commands of `qarm` with their arguments and options. `qarm COMMAND --help` prints the same on the screen. A
wrong input ends in one line and exit code 1; `QARM_DEBUG=1` adds the traceback.
"""


def pages() -> dict[str, str]:
    """Return the text of every reference page by its file name."""
    return {
        "settings.md": settings_page(),
        "tables.md": tables_page(),
        "jobs.md": jobs_page(),
        "commands.md": commands_page(),
    }


def settings_page() -> str:
    """Return the page of all settings: a table per section with type, default, range and meaning."""
    top = {name: field for name, field in Settings.model_fields.items() if _section(field) is None}
    parts = [
        "# Settings",
        _SETTINGS_INTRO.strip(),
        "## Top level",
        _settings_table(top),
    ]
    for name, field in Settings.model_fields.items():
        section = _section(field)
        if section is not None:
            parts += [f"## Section `{name}`", _first_paragraph(section), _settings_table(section.model_fields)]
            parts += _nested_sections(name, section)
    return _page(parts)


def tables_page() -> str:
    """Return the page of all Delta tables: key, writer and columns."""
    parts = [
        "# Tables",
        _TABLES_INTRO.strip(),
        _table(("table", "content"), [(f"[`{table.name}`](#{table.name})", table.doc) for table in TABLES]),
    ]
    for table in TABLES:
        key = ", ".join(f"`{name}`" for name in table.key) or "none: the table can hold a row more than once"
        facts = [f"- Key: {key}.", f"- Written by: `qarm {table.written_by}`."]
        if table.partition_by:
            facts.append(f"- Partitioned by: {', '.join(f'`{name}`' for name in table.partition_by)}.")
        columns = [(f"`{one.name}`", f"`{one.type}`", _column_meaning(one)) for one in table.columns]
        parts += [f"## {table.name}", table.doc, "\n".join(facts), _table(("column", "type", "meaning"), columns)]
    return _page(parts)


def jobs_page() -> str:
    """Return the page of all jobs: what must have run before, what a job reads, writes and depends on."""
    jobs = [job_lists.load(name) for name in job_lists.JOBS + job_lists.OTHER_JOBS]
    rows = [
        (
            f"[`{job.name}`](#{job.name})",
            job.after.replace("-", "_"),
            _names(job.reads),
            _names(job.writes),
            "yes" if job.name in job_lists.JOBS else "no",
        )
        for job in jobs
    ]
    parts = [
        "# Jobs",
        _JOBS_INTRO.strip().format(until=_names(_command_name(name) for name in job_lists.JOBS)),
        _table(("job", "must have run before", "reads", "writes", "part of `qarm run`"), rows),
    ]
    for job in jobs:
        facts = [
            f"- Command: [`qarm {_command_name(job.name)}`](commands.md#qarm-{_command_name(job.name)}).",
            f"- Launcher: `spark_jobs/{job.name}.py`.",
            f"- Must have run before: {job.after}.",
            f"- Reads: {_names(job.reads)}.",
            f"- Writes: {_names(job.writes)}.",
            f"- Runs again when one of these [settings](settings.md) changes: {_names(job.settings) or 'none'}.",
        ]
        if job.name in job_lists.ALIGNMENT_JOBS:
            facts.append("- `qarm run` leaves this job out unless `encoder.align` is true.")
        parts += [f"## {job.name}", inspect.getdoc(job.function) or "", "\n".join(facts)]
    return _page(parts)


def commands_page() -> str:
    """Return the page of all commands: help text, arguments and options."""
    if not any(command.name == "embed-items" for command in cli.app.registered_commands):
        cli._add_jobs(job_lists.JOBS + job_lists.OTHER_JOBS)
    parts = [
        "# Commands",
        _COMMANDS_INTRO.strip(),
    ]
    for name, command in _all_commands():
        options = [
            (f"`{_option_name(option)}`", _option_default(option), option.help or "") for option in command.params
        ]
        parts += [f"## {name}", inspect.cleandoc(command.help or "")]
        if options:
            parts.append(_table(("argument or option", "default", "meaning"), options))
    return _page(parts)


def _all_commands() -> list[tuple[str, Any]]:
    """Return every command with its full name, those of a group behind each other."""
    found = []
    for name, command in sorted(typer.main.get_command(cli.app).commands.items()):
        for part, inner in sorted(getattr(command, "commands", {"": command}).items()):
            found.append((f"qarm {name} {part}".strip(), inner))
    return found


def _option_name(option: Any) -> str:
    if option.param_type_name == "argument":
        return option.name.upper()
    return " / ".join([*option.opts, *option.secondary_opts])


def _option_default(option: Any) -> str:
    if option.required:
        return "required"
    default = option.default
    if default is None or callable(default) or repr(default).startswith("Sentinel"):
        return ""
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"`{getattr(default, 'value', default)}`"


def _command_name(job_name: str) -> str:
    return job_lists.shown_as(job_name)


def _names(names: Iterable[object]) -> str:
    return ", ".join(name if name.startswith("your ") else f"`{name}`" for name in map(str, names))


def _column_meaning(column: Column) -> str:
    return f"{column.doc} Optional." if column.optional else column.doc


def _nested_sections(path: str, section: type[BaseModel]) -> list[str]:
    """Return the parts of the page for models inside a section, for example ``publishing.user_embeddings``."""
    parts = []
    for name, field in section.model_fields.items():
        inner = _section(field)
        if inner is not None:
            parts += [f"### `{path}.{name}`", _first_paragraph(inner), _settings_table(inner.model_fields)]
    return parts


def _settings_table(fields: dict[str, FieldInfo]) -> str:
    rows = [
        (f"`{name}`", _type_name(field.annotation), _default(field), _limits(field), field.description or "")
        for name, field in fields.items()
    ]
    return _table(("setting", "type", "default", "range", "meaning"), rows)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a field that is a section of its own, or None."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _type_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_type_name(one) for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is list:
        return f"list of {_type_name(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return "mapping"
    if get_origin(kind) is Annotated:
        return _type_name(get_args(kind)[0])
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "section"
    if isinstance(kind, type) and issubclass(kind, (Secret, SecretStr)):
        return "text, hidden where it is a secret"
    return {str: "text", int: "integer", float: "number", bool: "true or false", datetime: "date and time"}.get(
        kind, str(kind)
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None or field.default is PydanticUndefined:
        return "none"
    value = field.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def _limits(field: FieldInfo) -> str:
    found = [
        text.format(f"{getattr(limit, name):,}")
        for limit in field.metadata
        for name, text in _BOUNDS.items()
        if getattr(limit, name, None) is not None
    ]
    return ", ".join(found)


def _first_paragraph(model: type[BaseModel]) -> str:
    return " ".join((inspect.getdoc(model) or "").split("\n\n")[0].split())


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        f"| {' | '.join(' '.join(cell.replace('|', chr(92) + '|').split()) for cell in row)} |" for row in lines
    )


def _page(parts: Iterable[str]) -> str:
    title, *rest = parts
    return "\n\n".join([title, _GENERATED, *rest]) + "\n"


def write(folder: Path = FOLDER, log: Callable[[str], None] = print) -> None:
    """Write every page into a folder.

    Args:
        folder: Folder of the pages.
        log: Function that is given one line per file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)
        log(f"wrote {folder / name}")


if __name__ == "__main__":
    write()
