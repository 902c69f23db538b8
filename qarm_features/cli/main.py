"""The command line: ``qarm init``, ``qarm run``, one command per job, and commands that show results.

Heavy libraries are imported by the command that needs them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.logging import RichHandler
from rich.markup import escape
from rich.text import Text

from qarm_features.cli import env_pack
from qarm_features.cli import release as cli_release
from qarm_features.cli.explore import explore
from qarm_features.cli.import_files import import_files
from qarm_features.cli.job_lists import (
    JOBS,
    OTHER_JOBS,
    RANKING_JOBS,
    SHOWN_AS,
    comparing,
    jobs_of,
    jobs_until,
    load,
    load_in_background,
    shown_as,
)
from qarm_features.cli.missing_extra import explain_missing
from qarm_features.cli.plan import plan
from qarm_features.cli.vacuum import vacuum
from qarm_features.jobs.failures import report, traceback_text
from qarm_features.jobs.interruption import EXIT_CODE, LINE, was_interrupted
from qarm_features.settings.load import Settings, load_settings
from qarm_features.settings.secrets import RedactingFilter, redacted
from qarm_features.terminal import OneLine, lines_of, literal, one_line, plain_console, wide_console

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Trainable semantic IDs in Feast.",
)
app.add_typer(cli_release.app, name="release")
app.add_typer(env_pack.app, name="env")
app.command("import")(import_files)
app.command(name="vacuum")(vacuum)
app.command(name="explore")(explore)
app.command(name="plan")(plan)
console = plain_console()
Config = Annotated[Path, typer.Option(help="Settings of the project.")]
_CONFIG = Path("qarm.yaml")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the new project.")],
    from_: Annotated[
        list[Path] | None,
        typer.Option("--from", help="File whose columns are guessed: the catalog, and once more for the click log."),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Column of a role, for example item_id=sku. May be given many times.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take guesses that are not sure.")] = False,
) -> None:
    """Writes a qarm.yaml that explains every setting, and the feature repo. It changes no file that exists.

    With --from, the columns are guessed from files of yours. What is not sure is asked.
    """
    from qarm_features.cli.new_project import write_project

    if folder.exists() and not folder.is_dir():
        raise ValueError(f"FOLDER is {folder}, a file, must be a folder.")
    known = None
    if from_ or column or yes:
        from qarm_features.cli.guess_columns import guessed_settings

        known = guessed_settings(folder, from_ or [], column or [], yes=yes, console=console)
    written = write_project(folder, known)
    for path in written:
        console.print(literal(f"wrote {path}"))
    if not written:
        console.print(literal(f"All files of a project exist already in {folder}. Nothing was written."))
    config = folder / "qarm.yaml"
    first = "Set the paths and columns of items and interactions" if known is None else "Check the guesses"
    typer.echo("Next steps:")
    for number, step in enumerate((f"{first} in {config}.", f"cd {folder} && qarm doctor", "qarm run"), 1):
        typer.echo(f"  {number}. {one_line(step)}")


@app.command()
def run(
    config: Config = _CONFIG,
    until: Annotated[str | None, typer.Option(help="Last job to run, for example publish-features.")] = None,
    force: Annotated[
        bool, typer.Option(help="Run every job over all rows, even if its inputs have not changed.")
    ] = False,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Measure the aligned encoder beside the frozen one, and make codes of both."),
    ] = False,
) -> None:
    """Runs all jobs in one Spark session. A job is skipped if its inputs have not changed.

    Alignment is left out while encoder.align is false. Without interactions.label every row is positive, and the training
    set and the ranking models are left out. With --compare the last screen shows what alignment changed.
    """
    from qarm_features.cli.run_jobs import run_jobs
    from qarm_features.jobs.project_lock import held_for_run

    settings = load_settings(config)
    wanted = jobs_until(until)
    names = jobs_of(wanted, settings)
    if compare:
        names = comparing(names, settings)
    with held_for_run(settings):
        loading = load_in_background(names)
        jobs = ((shown_as(name), loading[name].result()) for name in names)
        run_jobs(settings, jobs, count=len(names), force=force, spark_log_on_stderr=_debug(), console=console)
    if settings.interactions.label is None and set(wanted) & set(RANKING_JOBS):
        console.print(
            "- build-training-set and train-ranking-model were left out: interactions.label is not set, so every row is "
            "positive, and a ranking model needs both labels."
        )
    if wanted == JOBS:
        _print_summary(settings)


@app.command()
def show(
    item_id: Annotated[str, typer.Argument(help="Item ID, as in the catalog.")],
    config: Config = _CONFIG,
    neighbors: Annotated[int, typer.Option(help="Number of neighbors to show.", min=1, max=1000)] = 10,
) -> None:
    """Shows an item's semantic ID and its neighbors, which share the longest code prefix."""
    from qarm_features.report.prefix_neighbors import item_cards
    from qarm_features.report.terminal import item_table
    from qarm_features.storage.warehouse import Warehouse

    settings = load_settings(config)
    version = _latest_codebooks(settings)
    cards = item_cards(
        Warehouse(settings.warehouse_path, **settings.id_types),
        [item_id],
        codebook_version=version,
        num_neighbors=neighbors,
    )
    console.print(item_table(cards, codebook_version=version))


@app.command()
def status(
    config: Config = _CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Shows what is served and since when, who works in the project, and of each job its last run and what has changed.

    It reads records and starts no Spark.
    """
    from qarm_features.cli.status import status_lines
    from qarm_features.jobs.status import project_status

    settings = load_settings(config)
    found = project_status(settings, [load(name) for name in jobs_of(JOBS, settings)])
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
        return
    for line in status_lines(found):
        wide_console(console).print(line)


@app.command()
def doctor(
    config: Config = _CONFIG,
    clean: Annotated[bool, typer.Option("--clean", help="Remove what killed runs left among the artifacts.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --clean: list it and remove nothing.")] = False,
) -> None:
    """Tries Java, Spark, Delta, Feast, the encoder and Redis, and says how to repair what fails."""
    from qarm_features.cli.doctor import checks, clean_up

    if clean:
        for line in clean_up(load_settings(config), dry_run=dry_run):
            typer.echo(one_line(line))
        return
    failed = 0
    for check in checks(config):
        with console.status(literal(f"checking {check.name}")):
            result = check.run()
        mark = {"ok": ("✓", "green"), "skipped": ("-", "dim"), "failed": ("✗", "red")}[result.state]
        console.print(Text.assemble(mark, f" {check.name}: {lines_of(result.found)}"))
        if result.state == "failed":
            console.print(literal(f"    To repair it: {check.repair}"))
            failed += 1
    raise typer.Exit(1 if failed else 0)


@app.command(name="job-file")
def job_file(job: Annotated[str, typer.Argument(help="Name of a job, for example embed-items.")]) -> None:
    """Prints the path of a job's launcher, for spark-submit $(qarm job-file embed-items) --config qarm.yaml."""
    from qarm_features.cli.job_file import launcher

    typer.echo(launcher(job))


def _debug() -> bool:
    return bool(os.environ.get("QARM_DEBUG"))


def _latest_codebooks(settings: Settings) -> int:
    from qarm_features.storage.artifacts import Artifacts

    latest = Artifacts(settings.artifacts_path, "codebooks").latest()
    if latest is None:
        raise ValueError("There are no codebooks yet. Run: qarm run")
    return latest.version


def _print_summary(settings: Settings) -> None:
    from qarm_features.report.run_summary import summary

    report_folder = settings.artifacts_path / "report"
    console.print(summary(report_folder=report_folder, feature_repo=settings.feature_repo_path))


def _add_jobs(names: tuple[str, ...]) -> None:
    """Adds the command of each job; where a package is missing, a command that names the extra to install."""
    for name in names:
        shown = shown_as(name)
        try:
            from qarm_features.jobs.command import command

            app.command(shown)(command(load(name), spark_log_on_stderr=_debug()))
        except ImportError as error:
            if _debug():
                raise
            arguments = {"ignore_unknown_options": True, "allow_extra_args": True}
            app.command(shown, context_settings=arguments)(_needs(explain_missing(error)))


def _needs(message: str) -> Callable[[], None]:
    """Returns a command that only fails, with a message that says what to install."""

    def fail() -> None:
        raise ImportError(message)

    fail.__doc__ = escape(message)  # the help of a command is markup
    return fail


def main() -> None:
    """Runs the command line. Any error ends in one line and exit code 1; QARM_DEBUG=1 shows the traceback too."""
    handler = RichHandler(console=console, show_path=False, show_time=False, show_level=False)
    handler.setFormatter(OneLine("%(message)s"))
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.startswith("qarm"))
    handler.addFilter(RedactingFilter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    wanted = sys.argv[1].replace("-", "_") if len(sys.argv) > 1 else ""
    jobs = JOBS + OTHER_JOBS
    named = tuple(name for name in jobs if wanted in (name, SHOWN_AS.get(name)))
    try:
        # Importing all jobs takes seconds, which other commands can do without.
        if named or wanted in ("", "__help", "_h"):
            _add_jobs(named or jobs)
        app()
    except BaseException as error:
        if was_interrupted(error):
            _say_on_stderr(LINE)
            _leave(EXIT_CODE)
        if isinstance(error, SystemExit):
            _leave(error.code)
        if _debug():
            print(traceback_text(error), file=sys.stderr)
        message = redacted(explain_missing(error)) if isinstance(error, ImportError) else report(error, sys.argv)
        _say_on_stderr("error:", lines_of(message))
        _leave(1)


def _say_on_stderr(mark: str, message: str = "") -> None:
    # Further lines are set in, so that none of them can pass for a line of its own.
    text = "\n       ".join(message.split("\n"))
    plain_console(stderr=True).print(
        Text.assemble((mark, "red" if message else ""), f" {text}".rstrip()), soft_wrap=True
    )


def _leave(code: int | str | None) -> NoReturn:
    """Ends the process at once: threads of Arrow and torch can abort an interpreter that shuts down around them."""
    if isinstance(code, str):
        print(code, file=sys.stderr)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
