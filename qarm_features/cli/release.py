"""``qarm release``: lists, publishes, promotes, verifies and deletes releases.

Heavy libraries are imported by the command that needs them. Only ``publish`` and ``verify`` start Spark.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from qarm_features.settings.load import load_settings
from qarm_features.terminal import literal, plain_console, wide_console

if TYPE_CHECKING:
    from qarm_features.jobs.context import JobContext

app = typer.Typer(no_args_is_help=True, help="Publishes, lists, promotes, rolls back, verifies and retires releases.")
console = plain_console()
Config = Annotated[Path, typer.Option(help="Settings of the project.")]
Version = Annotated[int, typer.Argument(help="Codebook version of the release.", min=0)]
_CONFIG = Path("qarm.yaml")


@app.command()
def publish(
    config: Config = _CONFIG,
    codebook_version: Annotated[
        int | None, typer.Option(help="Codebook version to release; the newest by default.")
    ] = None,
    promote: Annotated[bool, typer.Option(help="Promote the release after it was loaded and verified.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be written, deleted and held back, and change nothing.")
    ] = False,
) -> None:
    """Loads a release into the online store, verifies it, and promotes it: readers get it from then on.

    Must have run before: assign-semantic-ids, build-user-behavior.
    """
    from qarm_features.jobs.command import run_job
    from qarm_features.jobs.publish_features import publish_features

    context = _context(config)
    run_job(publish_features, context, codebook_version=codebook_version, promote=promote, dry_run=dry_run)


@app.command(name="list")
def list_releases(config: Config = _CONFIG) -> None:
    """Lists all releases with their rows, their state, the services that name them, and who promoted them when."""
    from qarm_features.feature_store.publishing.release_list import release_lines

    table = Table("codebooks", "rows", "encoder", "Delta version", "state", "served by", "promoted")
    for line in release_lines(load_settings(config)):
        promoted = f"{line.promoted.at} by {line.promoted.by}" if line.promoted else ""
        numbers = (line.codebook_version, f"{line.rows:,}", line.encoder_version, line.delta_version)
        table.add_row(*map(literal, (*numbers, line.state, ", ".join(line.served_by), promoted)))
    wide_console(console).print(table)


@app.command()
def promote(codebook_version: Version, config: Config = _CONFIG) -> None:
    """Promotes a release that was loaded and verified before. It loads nothing."""
    from qarm_features.feature_store.publishing.releases import promote_release

    promote_release(load_settings(config), codebook_version)


@app.command()
def rollback(config: Config = _CONFIG) -> None:
    """Promotes the release before the promoted one. Run it twice to go two releases back. It loads nothing."""
    from qarm_features.feature_store.publishing.releases import items_without_codes, roll_back

    settings = load_settings(config)
    release = roll_back(settings)
    lacking = items_without_codes(settings, release)
    console.print(literal(f"{release.view_name} is served now, with {release.rows:,} items"))
    if lacking:
        assign = f"qarm assign-semantic-ids --codebook-version {release.codebook_version}"
        advice = (
            f"At least {lacking:,} items of today's catalog have no semantic ID in it and are served as not found. To add "
            f"them, run: {assign} and qarm release publish --codebook-version {release.codebook_version}"
        )
        console.print(literal(advice), soft_wrap=True)


@app.command()
def verify(codebook_version: Version, config: Config = _CONFIG) -> None:
    """Compares the online store with Delta: row counts, nulls, the codebook version, and a sample read by stock Feast."""
    from qarm_features.feature_store.publishing.releases import verify_release

    context = _context(config)
    manifest = verify_release(context.spark, context.settings, codebook_version)
    for name, rows in manifest.views.items():
        console.print(Text.assemble(("✓", "green"), literal(f" {name}: {rows.rows:,} rows, checksum {rows.checksum}")))


@app.command()
def retire(
    codebook_version: Version,
    config: Config = _CONFIG,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the number of rows that would be deleted, and delete none.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Retire the release although ranking models were trained on it.")
    ] = False,
) -> None:
    """Deletes a release that no service names: its views from the registry, and its rows from the online store.

    If it was interrupted, run it again.
    """
    from qarm_features.feature_store.publishing.retirement import retire_release, rows_to_retire

    settings = load_settings(config)
    if dry_run:
        for name, rows in rows_to_retire(settings, codebook_version, force=force).items():
            console.print(literal(f"{name}: {rows:,} rows would be deleted"))
        return
    for name in retire_release(settings, codebook_version, force=force):
        console.print(literal(f"{name} is retired"))


@app.command()
def adopt(
    fingerprint: Annotated[str, typer.Argument(help="Fingerprint of the earlier project, as the refusal names it.")],
    config: Config = _CONFIG,
) -> None:
    """Lets this project continue an earlier one whose folders are gone, and publish to its views and rows.

    Never use it while the other project still publishes: both would overwrite each other's rows.
    """
    from qarm_features.feature_store.publishing.ownership import adopt_project

    adopt_project(load_settings(config), fingerprint)
    console.print(literal(f"This project publishes as {fingerprint} now"))


def _context(config: Path) -> JobContext:
    from qarm_features.jobs.context import JobContext

    return JobContext(load_settings(config), spark_log_on_stderr=bool(os.environ.get("QARM_DEBUG")))
