"""The screen of ``qarm status``.

In: the state of a project. Out: lines and a table for people.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from qarm_features.jobs.status import ProjectStatus, Served, StageState
from qarm_features.terminal import literal


def status_lines(found: ProjectStatus) -> Iterator[RenderableType]:
    """Yields what is served, who works in the project, the rows of the tables, and a table of the stages."""
    yield literal(_served(found.served))
    for holder in found.running:
        yield literal("{command} runs since {started} as process {pid} on {host}.".format(**holder))
    if found.followed is not None:
        yield literal(_followed(found.followed))
    if found.rows:
        yield literal("Rows: " + ", ".join(f"{name} {count:,}" for name, count in found.rows.items()) + ".")
    table = Table("job", "a run would", "last run", "ended", "seconds", "rows in", "out", "rejected")
    for stage in found.stages:
        table.add_row(literal(stage.stage.replace("_", "-")), literal(_would(stage)), *map(literal, _runs(stage)))
    yield table
    for stage in found.stages:
        if stage.last and stage.last["error"]:
            yield literal(f"{stage.stage.replace('_', '-')} {stage.last['state']}: {stage.last['error']}")


def _served(served: Served | None) -> str:
    if served is None:
        return "No release is served. Run: qarm run"
    since = "" if served.since is None else f" since {served.since} ({age(served.age_seconds or 0.0)})"
    waiting = ", ".join(map(str, served.waiting))
    more = f" Verified and not promoted: codebook version {waiting}." if waiting else ""
    return (
        f"{served.release} is served{since}: {served.items:,} items, codebook version {served.codebook_version}, encoder "
        f"version {served.encoder_version}.{more}"
    )


def _followed(batch: dict[str, Any]) -> str:
    ended = datetime.fromisoformat(batch["ended_at"])
    lag = "" if batch["lag_seconds"] is None else f", lag {batch['lag_seconds']:.1f} s"
    return (
        f"The last batch of qarm follow ended {ended:%Y-%m-%d %H:%M:%S} UTC "
        f"({age((datetime.now(UTC) - ended).total_seconds())}): {_number(batch['rows_in'])} rows in, "
        f"{_number(batch['rows_out'])} out, {_number(batch['rows_rejected'])} rejected, {batch['seconds']:.1f} s{lag}."
    )


def _would(stage: StageState) -> str:
    if stage.state == "changed":
        return f"run it, because of {', '.join(stage.changed)}"
    return "skip it" if stage.state == "current" else "run it for the first time"


def _runs(stage: StageState) -> list[str]:
    if stage.last is None:
        return [""] * 6
    counts = stage.success or {}
    ended = datetime.fromisoformat(stage.last["ended_at"])
    ago = age((datetime.now(UTC) - ended).total_seconds())
    return [
        stage.last["state"],
        f"{ended:%Y-%m-%d %H:%M:%S} UTC ({ago})",
        f"{stage.last['seconds']:.1f}",
        *(_number(counts.get(name)) for name in ("rows_in", "rows_out", "rows_rejected")),
    ]


def _number(value: Any) -> str:
    return "" if value is None else f"{value:,}"


def age(seconds: float) -> str:
    """Returns how long ago something was.

    Example:
        >>> age(59), age(7_300), age(200_000)
        ('59 seconds ago', '2 hours ago', '2 days ago')
    """
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count = int(max(seconds, 0.0) // length)
        if count or unit == "second":
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    raise AssertionError("seconds are counted in any case")
