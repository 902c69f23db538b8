"""``qarm vacuum``: removes old files of the tables, and spares what live releases name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qarm_features.settings.load import load_settings


def vacuum(
    config: Annotated[Path, typer.Option(help="Settings of the project.")] = Path("qarm.yaml"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the number of files that would be removed, and remove none.")
    ] = False,
) -> None:
    """Removes files of the tables that neither a live release nor the last 7 days need.

    It keeps every Delta version since the oldest one that a live release names, and is refused if one of them cannot be read.
    """
    from qarm_features.feature_store.publishing.named_versions import remove_old_files
    from qarm_features.jobs.context import JobContext
    from qarm_features.jobs.project_lock import held_for_run

    settings = load_settings(config)
    what = "would be removed" if dry_run else "were removed"
    with held_for_run(settings):
        context = JobContext(settings, spark_log_on_stderr=False)
        for name, files, hours in remove_old_files(context.spark, settings, dry_run=dry_run):
            typer.echo(f"{name}: {files:,} files {what}, those of the last {hours / 24:,.0f} days are kept")
