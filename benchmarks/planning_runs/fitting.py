"""Constants of a plan from measured runs: what a unit of work takes, and what a stage takes once.

In: records of stages at several sizes. Out: constants by stage. They are the numbers of at least 0 with which the formulas of
``qarm_features/planning/work.py`` come nearest to the records, in the least sum of squared relative errors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import nnls

from planning_runs.world import World
from qarm_features.planning.constants import FIXED
from qarm_features.planning.sizes import Sizes
from qarm_features.planning.work import Work, works

BYTES = {"read_bytes": "input", "written_bytes": "output", "shuffle_bytes": "shuffle"}


def sizes_of(world: World, steps: int | None = None) -> Sizes:
    """Return the sizes of a plan for a measured world.

    Args:
        world: Sizes of the measured project.
        steps: Number of Lloyd steps of all levels that the fit did; None takes the maximum.
    """
    sizes = Sizes(
        items=world.items,
        events=world.events,
        users=world.users,
        dim=world.dim,
        levels=world.levels,
        codebook_size=world.codebook_size,
        exact_up_to=0,
        epochs=1,
    )
    return sizes if steps is None else replace(sizes, max_iter=max(1, round(steps / world.levels)))


def work_of(record: dict[str, Any]) -> Work:
    """Return the work that the formulas see in a measured stage."""
    sizes = sizes_of(World(**record["world"]), record["iterations"])
    return next(work for work in works(sizes) if work.stage == record["stage"])


def stage_constants(records: list[dict[str, Any]], rates: dict[str, float]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the constants of one stage from its records at several sizes.

    Args:
        records: Records of the stage.
        rates: Seconds of units that were measured apart; what they explain is subtracted first.
    """
    found = [work_of(record) for record in records]
    shared = [dict(work.units) for work in found]
    alone = [dict(work.driver_units) for work in found]
    if found[0].one_process:  # all processes belong to the training
        seconds = [record["cpu_seconds"] for record in records]
        return {"cpu_seconds": {}, "driver_seconds": fit(alone, seconds, rates)}
    driver = [record["driver_cpu_seconds"] for record in records]
    executors = [max(0.0, record["cpu_seconds"] - own) for record, own in zip(records, driver)]
    constants = {"cpu_seconds": fit(shared, executors, rates), "driver_seconds": fit(alone, driver, rates)}
    moved = [{name: n for name, n in units.items() if not name.endswith(("_adds", "_flops"))} for units in shared]
    for name, counted in BYTES.items():
        constants[name] = fit(moved, [record["spark"][counted] for record in records])
    return constants


def seconds_by_constants(work: Work, shared: dict[str, float], alone: dict[str, float]) -> float:
    """Return the processor seconds that constants give for the work of a stage, of all processes together."""
    pairs = ((shared, work.units), (alone, work.driver_units))
    return sum(
        known.get(FIXED, 0.0) + sum(known.get(name, 0.0) * amount for name, amount in units.items())
        for known, units in pairs
    )


def fit(
    units: list[dict[str, float]], measured: list[float], rates: dict[str, float] | None = None
) -> dict[str, float]:
    """Return the amount per unit, and the fixed amount, that come nearest to what was measured.

    A unit that is the same in all runs cannot be told from the fixed amount, and gets 0.

    Example:
        >>> fit([{"rows": 10.0}, {"rows": 30.0}], [7.0, 11.0])
        {'fixed': 5.0, 'rows': 0.2}
    """
    given = {name: rate for name, rate in (rates or {}).items() if name in units[0]}
    names = [name for name in units[0] if name not in given and len({one[name] for one in units}) > 1]
    unseen = {name: 0.0 for name in units[0] if name not in given and name not in names}
    explained = [sum(one[name] * rate for name, rate in given.items()) for one in units]
    rest = np.maximum(np.asarray(measured, float) - explained, 0.0)
    table = np.array([[1.0, *(one[name] for name in names)] for one in units])
    weights = 1 / np.maximum(np.asarray(measured, float), 0.05 * max(*measured, 1e-9))
    scale = table.max(axis=0)
    found, _ = nnls(table / scale * weights[:, None], rest * weights)
    fitted = dict(zip((FIXED, *names), found / scale)) | given
    return {name: float(f"{value:.4g}") for name, value in fitted.items()} | unseen


def redis_constants(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the constants of Redis from the bytes of keys: of item keys by releases and codes, of user keys by length."""
    items = [line for line in lines if line["key"] == "item_id"]
    units = [{"release": line["releases"], "code": line["releases"] * line["levels"]} for line in items]
    users = {line["length"]: line["bytes_per_row"] for line in lines if line["key"] == "user_id"}
    return {
        "item_key": fit(units, [line["bytes_per_row"] for line in items]),
        "user_key": [[float(length), size] for length, size in sorted(users.items())],
    }
