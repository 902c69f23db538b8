"""The command line: ``qarm init``, ``qarm run``, one command per job, and commands that show what was made.

Heavy libraries are imported by the command that needs them.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler

from qarm_features.cli import release as cli_release
from qarm_features.settings.load import load_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Trainable semantic IDs in Feast.",
)
app.add_typer(cli_release.app, name="release")
console = Console(highlight=False)
Config = Annotated[Path, typer.Option(help="Settings of the project.")]
_CONFIG = Path("qarm.yaml")

# In the order in which they run. The name of a module is the name of its job.
JOBS = (
    "ingest_catalog",
    "mine_item_pairs",
    "align_encoder",
    "embed_items",
    "fit_codebooks",
    "assign_semantic_ids",
    "build_user_behavior",
    "publish_features",
    "build_training_set",
    "train_ranking_model",
    "write_report",
)
ALIGNMENT_JOBS = ("mine_item_pairs", "align_encoder")  # nothing to do while encoder.align is false
OTHER_JOBS = (
    "evaluate_encoder",
    "find_nearest_items",
    "evaluate_codes",
    "export_semantic_ids",
    "write_content_tokens",
    "export_encoder",
)  # those that `qarm run` leaves out
_SHOWN_AS = {"write_report": "report"}


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="Folder of the new project.")]) -> None:
    """Writes a commented qarm.yaml and the feature repo; files that are there already are left alone."""
    from qarm_features.cli.new_project import write_project

    for path in write_project(folder):
        console.print(f"wrote {path}")
    console.print(f"Next: name your catalog and click log in {folder / 'qarm.yaml'}, then run: cd {folder} && qarm run")


@app.command()
def run(
    config: Config = _CONFIG,
    until: Annotated[str | None, typer.Option(help="Last job to run, for example publish-features.")] = None,
    force: Annotated[bool, typer.Option(help="Run every job, though nothing has changed.")] = False,
) -> None:
    """Runs all jobs in one Spark session, each skipped where its inputs have not changed."""
    from qarm_features.jobs.context import JobContext
    from qarm_features.jobs.skipping import inputs, is_current, last_run, record_run

    settings = load_settings(config)
    context = JobContext(settings, spark_log_on_stderr=_debug())
    names = JOBS
    if until is not None:
        if until.replace("-", "_") not in JOBS:
            raise ValueError(f"--until is {until}, must be one of {', '.join(n.replace('_', '-') for n in JOBS)}.")
        names = JOBS[: JOBS.index(until.replace("-", "_")) + 1]
    whole = names == JOBS
    names = tuple(name for name in names if settings.encoder.align or name not in ALIGNMENT_JOBS)
    ran = False
    loaded = _load_in_background(names)
    for number, name in enumerate(names, 1):
        job = loaded[name].result()
        label = f"[bold]{number}/{len(names)} {name.replace('_', '-')}[/bold]"
        if not force and is_current(job, settings):
            remark = last_run(job, settings)["remark"]
            console.print(f"[dim]= {label}  unchanged, skipped{f' ({remark})' if remark else ''}[/dim]")
            continue
        if not ran:
            with console.status("starting Spark"):
                _ = context.spark
        ran, started, seen = True, time.perf_counter(), inputs(job, settings)
        with console.status(f"{label}: {job.after} done; reading {', '.join(map(str, job.reads))}"):
            counts = job(context)
        seconds = time.perf_counter() - started
        record_run(job, settings, seen, counts, seconds)
        console.print(
            f"[green]✓[/green] {label}  {counts.rows_in:,} rows in, {counts.rows_out:,} out, "
            f"{counts.rows_rejected:,} rejected, {seconds:.1f} s, {counts.rows_in / seconds:,.0f} rows/s"
            + (f"\n    {counts.remark}" if counts.remark else "")
        )
    if whole:
        _print_summary(settings)


@app.command()
def show(
    item_id: Annotated[str, typer.Argument(help="ID of an item, as the catalog names it.")],
    config: Config = _CONFIG,
    neighbors: Annotated[int, typer.Option(help="Neighbors shown.", min=1, max=1000)] = 10,
) -> None:
    """Shows an item's semantic ID and its neighbors by shared prefix."""
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
def doctor(config: Config = _CONFIG) -> None:
    """Checks Java, Spark, Delta, Feast, the encoder and Redis for real, and says how to mend what fails."""
    from qarm_features.cli.doctor import checks

    failed = 0
    for check in checks(config):
        with console.status(f"checking {check.name}"):
            result = check.run()
        mark = {"ok": "[green]✓[/green]", "skipped": "[dim]-[/dim]", "failed": "[red]✗[/red]"}[result.state]
        console.print(
            f"{mark} {check.name}: {result.found}" + (f"\n    mend: {check.mend}" if result.state == "failed" else "")
        )
        failed += result.state == "failed"
    raise typer.Exit(min(failed, 1))


def _debug() -> bool:
    return bool(os.environ.get("QARM_DEBUG"))


def _load(name: str):
    from importlib import import_module

    return getattr(import_module(f"qarm_features.jobs.{name}"), name)


def _load_in_background(names: tuple[str, ...]) -> dict[str, Future]:
    """Imports the jobs one after another in a thread: Feast and torch take over ten seconds, in which Spark can work."""
    thread = ThreadPoolExecutor(1)
    return {name: thread.submit(_load, name) for name in names}


def _latest_codebooks(settings) -> int:
    from qarm_features.storage.artifacts import Artifacts

    latest = Artifacts(settings.artifacts_path, "codebooks").latest()
    if latest is None:
        raise ValueError("There are no codebooks yet. Run: qarm run")
    return latest.version


def _print_summary(settings) -> None:
    from qarm_features.report.terminal import summary
    from qarm_features.storage.warehouse import Warehouse

    warehouse = Warehouse(settings.warehouse_path, **settings.id_types)
    report_folder = settings.artifacts_path / "report"
    console.print(summary(warehouse, report_folder=report_folder, feature_repo=settings.feature_repo_path))


def _add_jobs(names: tuple[str, ...]) -> None:
    from qarm_features.jobs.command import command

    for name in names:
        app.command(_SHOWN_AS.get(name, name.replace("_", "-")))(command(_load(name), spark_log_on_stderr=_debug()))


def main() -> None:
    """Runs the command line. A wrong input ends in one clear line and exit code 1; QARM_DEBUG=1 adds the traceback."""
    handler = RichHandler(console=console, show_path=False, show_time=False, show_level=False)
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.startswith("qarm"))
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    logging.getLogger("py4j").setLevel(logging.WARNING)
    wanted = sys.argv[1].replace("-", "_") if len(sys.argv) > 1 else ""
    jobs = JOBS + OTHER_JOBS
    named = [name for name in jobs if wanted in (name, _SHOWN_AS.get(name))]
    if named or wanted in ("", "__help", "_h"):  # importing all jobs takes seconds that the other commands need not pay
        _add_jobs(tuple(named) or jobs)
    try:
        app()
    except ValueError as error:
        if _debug():
            raise
        Console(stderr=True, highlight=False).print(f"[red]error:[/red] {error}")
        _leave(1)
    except SystemExit as ended:
        _leave(ended.code)


def _leave(code: int | str | None) -> NoReturn:
    """Ends the process at once: threads of Arrow and torch can abort an interpreter that is taken down around them."""
    if isinstance(code, str):
        print(code, file=sys.stderr)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
