"""``qarm import``: a public data set becomes a project that is ready to run.

In: a format, a folder of its files and a folder of the project. Out: two Parquet files, ``qarm.yaml`` with the settings that
name their columns, and counts of all rows.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from qarm_features.cli.new_project import settings_text, write_project
from qarm_features.importers.plan import Format, ImportPlan, Options, Setting, TablePlan
from qarm_features.importers.tally import Tally
from qarm_features.terminal import literal, plain_console

_HEAD = 1000
_EXAMPLES = 3
_HIGHEST_LIMIT = 1_000_000  # the IDs of the items of so many rows are held in memory
_LARGEST_CODEBOOK = 256
_ITEMS_PER_CODE = 20
console = plain_console()


def import_files(
    format_name: Annotated[str | None, typer.Argument(metavar="FORMAT", help="Format, see --list.")] = None,
    source: Annotated[Path | None, typer.Argument(help="Folder with the files of the data set.")] = None,
    project: Annotated[Path | None, typer.Argument(help="Folder of the project to write.")] = None,
    list_formats: Annotated[bool, typer.Option("--list", help="Explain each format, and write nothing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read the heads of the files, and write nothing.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(help="Write the first rows of the log only, and their items.", min=1, max=_HIGHEST_LIMIT),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files of the project that exist.")] = False,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Column of a role, for criteo and recbole, for example item_id=C3. May be given many times."),
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="For mind: make rows of the click history, with made-up times.")
    ] = False,
    encoding: Annotated[str | None, typer.Option(help="For movielens: encoding of the movies, else found out.")] = None,
) -> None:
    """Turns the files of a public data set into a catalog, a click log and a qarm.yaml. Nothing is downloaded."""
    from qarm_features.importers.formats import FORMATS
    from qarm_features.importers.write_tables import write_tables

    if list_formats:
        for one in FORMATS.values():
            console.print(explained(one), soft_wrap=True)
        return
    if format_name is None or source is None or project is None:
        raise ValueError(
            "FORMAT, SOURCE and PROJECT must be given, for example: qarm import movielens ml-1m my_project"
        )
    if format_name not in FORMATS:
        raise ValueError(
            f"FORMAT is {format_name}, must be one of {', '.join(FORMATS)}. qarm import --list explains them."
        )
    chosen = FORMATS[format_name]
    _require_options(chosen, FORMATS, {"columns": bool(column), "history": history, "encoding": encoding is not None})
    _require_encoding(encoding)
    plan = chosen.plan(source, Options(columns_of(column or []), history, encoding))
    _say(f"found {plan.found} in {source}")
    if dry_run:
        _show_head(plan, project)
        return
    _require_absent(project, force=force)
    items, interactions = write_tables(plan, project / "catalog", limit=limit, say=_say)
    _write_settings(plan, project, items.written)
    for tally in (items, interactions):
        _show_counts(tally, project)
    for caution in (*plan.cautions, f"License: {chosen.license}."):
        _say(f"note: {caution}")
    _say("Next steps:")
    for number, step in enumerate((f"Look at {project / 'qarm.yaml'}.", f"cd {project} && qarm doctor", "qarm run"), 1):
        _say(f"  {number}. {step}")


def explained(one: Format) -> Text:
    """Returns what ``--list`` says about a format.

    Args:
        one: The format.
    """
    facts = {"needs": one.looks_for, "from": one.from_whom, "license": one.license}
    lines = [literal(f"  {name}: {fact}") for name, fact in facts.items()]
    return Text("\n").join([Text.assemble((one.name, "bold"), ": ", literal(one.title)), *lines])


def columns_of(given: list[str]) -> dict[str, str]:
    """Returns the columns that were given by ``--column ROLE=NAME``.

    Args:
        given: Values of the flag.

    Raises:
        ValueError: A value has no equals sign.
    """
    pairs = [one.partition("=") for one in given]
    for whole, (role, equals, name) in zip(given, pairs, strict=True):
        if not (role and equals and name):
            raise ValueError(f"--column is {whole}, must be ROLE=NAME, for example item_id=sku.")
    return {role: name for role, _, name in pairs}


def codebook_size(items: int) -> int:
    """Returns a number of centroids for a catalog: a power of two, at most a twentieth of the items, from 2 to 256.

    Args:
        items: Number of items.

    Example:
        >>> [codebook_size(items) for items in (10, 1_682, 1_000_000)]
        [2, 64, 256]
    """
    return min(max(2, 1 << max(items // _ITEMS_PER_CODE, 1).bit_length() - 1), _LARGEST_CODEBOOK)


def codebook_setting(items: int, *, exact: bool = True) -> Setting:
    """Returns the setting of the codebook size with its reason.

    Args:
        items: Number of items.
        exact: Whether the number is counted and not estimated.
    """
    about = "" if exact else "about "
    return Setting(
        codebook_size(items), f"Fits {about}{items:,} items: at least {_ITEMS_PER_CODE} items for each code."
    )


def _say(line: str) -> None:
    console.print(literal(line), soft_wrap=True)


def _require_encoding(encoding: str | None) -> None:
    try:
        codecs.lookup(encoding or "utf-8")
    except LookupError:
        raise ValueError(f"--encoding is {encoding}, must be one that Python knows, for example latin-1.") from None


def _require_options(chosen: Format, formats: Mapping[str, Format], given: dict[str, bool]) -> None:
    flags = {"columns": "--column", "history": "--history", "encoding": "--encoding"}
    for name, is_given in given.items():
        if is_given and name not in chosen.options:
            for_others = ", ".join(one.name for one in formats.values() if name in one.options)
            raise ValueError(
                f"{flags[name]} is given, and {chosen.name} leaves no choice there. It is for: {for_others}."
            )


def _require_absent(project: Path, *, force: bool) -> None:
    if project.exists() and not project.is_dir():
        raise ValueError(f"PROJECT is {project}, a file, must be a folder.")
    names = ("qarm.yaml", "catalog/items.parquet", "catalog/interactions.parquet")
    present = [name for name in names if (project / name).exists()]
    if present and not force:
        raise ValueError(
            f"{project} has {', '.join(present)} already. Give another folder, or replace them with --force, which keeps the "
            "old qarm.yaml as qarm.yaml.old."
        )


def _write_settings(plan: ImportPlan, project: Path, items: int) -> None:
    """Writes ``qarm.yaml`` and the feature repo. A former ``qarm.yaml`` stays under a name that is free."""
    known = {
        "items.path": Setting("catalog/items.parquet", f"Imported from {plan.found}."),
        "interactions.path": Setting("catalog/interactions.parquet", f"Imported from {plan.found}."),
        **plan.settings,
        "codebooks.codebook_size": codebook_setting(items),
    }
    config = project / "qarm.yaml"
    if config.exists() and config.read_text() != settings_text(known):
        names = ("qarm.yaml.old", *(f"qarm.yaml.old{number}" for number in range(2, 1000)))
        old = next(config.with_name(name) for name in names if not config.with_name(name).exists())
        config.rename(old)
        _say(f"the former qarm.yaml is {old} now")
    for path in write_project(project, known):
        _say(f"wrote {path}")


def _show_counts(tally: Tally, project: Path) -> None:
    from qarm_features.importers.write_tables import LEFT_OUT

    left_out = tally.left_out.total()
    _say(f"{tally.table}: {tally.read:,} rows read = {tally.written:,} written + {left_out:,} left out")
    for reason, rows in tally.left_out.most_common():
        _say(f"  {rows:,} left out: {reason}")
        for example in tally.examples[reason][:_EXAMPLES]:
            place = f"line {example.line} of {example.file}" if example.line else example.file
            _say(f"    {place}: {example.text!r}")
    if tally.left_out:
        _say(f"  more of them are in {project / 'catalog' / LEFT_OUT}")


def _show_head(plan: ImportPlan, project: Path) -> None:
    """Prints the columns and the settings that an import would write, from the first rows of each table."""
    from qarm_features.importers.write_tables import first_rows

    for table in (plan.items, plan.interactions):
        rows, tally = first_rows(table, _HEAD)
        console.print(_columns(table, rows), soft_wrap=False)
        reasons = "".join(f"; {count:,} left out: {reason}" for reason, count in tally.left_out.most_common())
        heads = f"{table.name}: {len(rows):,} rows from the first {_HEAD:,} lines of each file{reasons}"
        _say(heads)
    for name, setting in plan.settings.items():
        _say(f"  {name}: {setting.value}  # {setting.why}")
    for caution in plan.cautions:
        _say(f"note: {caution}")
    _say(
        f"Would write qarm.yaml, feature_repo, catalog/items.parquet and catalog/interactions.parquet to "
        f"{project}. Nothing was written."
    )


def _columns(table: TablePlan, rows: list[tuple[str | list[str] | None, ...]]) -> Table:
    shown = Table(title=literal(table.name), title_justify="left")
    for heading in ("column", "from", "examples"):
        shown.add_column(heading)
    for place, column in enumerate(table.columns):
        values = [str(row[place])[:40] for row in rows[:_EXAMPLES]]
        shown.add_row(*map(literal, (column.name, column.origin, " / ".join(values))))
    return shown
