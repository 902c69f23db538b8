"""``qarm plan``: what a run at a size will take, as an estimate, before anything is bought or started.

In: sizes. Out: text or JSON. It starts no Spark and reads no project.
"""

from __future__ import annotations

import inspect
import json
import typing
from dataclasses import MISSING, Field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from qarm_features.planning.constants import SHIPPED, load_constants
from qarm_features.planning.plan import make_plan
from qarm_features.planning.plan_text import plan_lines
from qarm_features.planning.sizes import EVENTS_PER_ITEM, EVENTS_PER_USER, Cluster, Sizes, usual_events, usual_users
from qarm_features.terminal import one_line

_DERIVED = {
    "events": f"{EVENTS_PER_ITEM} for each item by default",
    "users": f"one for each {EVENTS_PER_USER} events by default",
}


def plan(
    constants: Annotated[
        Path | None, typer.Option(help="Constants that make calibrate wrote; those of the package by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    **flags: Any,
) -> None:
    """Estimates what a run at a size takes, stage by stage, and which part gives way first.

    It computes from formulas and from constants that were measured on the machine that the first lines name. It starts no
    Spark and reads no project.
    """
    if flags["events"] is None:
        flags["events"] = usual_events(flags["items"])
    if flags["users"] is None:
        flags["users"] = usual_users(flags["events"])
    sizes = Sizes(**{one.name: flags[one.name] for one in fields(Sizes)})
    cluster = Cluster(**{one.name: flags[one.name] for one in fields(Cluster)})
    made = make_plan(sizes, cluster, load_constants(constants or SHIPPED), datetime.now(UTC).date())
    if as_json:
        typer.echo(json.dumps(made.to_json(), indent=2))
        return
    for line in plan_lines(made):
        typer.echo(one_line(line))


def _flags() -> list[inspect.Parameter]:
    """Returns the parameters of the command: one for each size, then its own."""
    sizes = [_flag(one, typing.get_type_hints(of)[one.name]) for of in (Sizes, Cluster) for one in fields(of)]
    own = inspect.signature(plan, eval_str=True).parameters
    return [*sizes, *(own[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in ("constants", "as_json"))]


def _flag(one: Field[Any], kind: Any) -> inspect.Parameter:
    words, default = one.metadata["help"], one.default
    if one.name in _DERIVED:
        words, kind, default = f"{words[:-1]}; {_DERIVED[one.name]}.", kind | None, None
    elif default is MISSING:
        default = inspect.Parameter.empty
    annotation = Annotated[kind, typer.Option(help=words)]
    return inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_PARAMETERS = _flags()
plan.__signature__ = inspect.Signature(_PARAMETERS)  # type: ignore[attr-defined]  # typer reads the flags from it
plan.__annotations__ = {one.name: one.annotation for one in _PARAMETERS}
