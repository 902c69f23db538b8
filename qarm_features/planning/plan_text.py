"""A plan as lines of text.

In: a ``Plan``. Out: lines: where the figures come from, a table of the stages, what things weigh, and what gives way first.
"""

from __future__ import annotations

from collections.abc import Iterator

from qarm_features.planning.estimate import StageEstimate
from qarm_features.planning.limits import Limit
from qarm_features.planning.plan import Plan

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_FLOPS = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
_HEADS = ("stage", "rows in", "rows out", "read", "written", "shuffled", "FLOPs", "executor h", "alone h", "wall h")
_OLD_DAYS = 365
_SHOWN_LIMITS = 12


def plan_lines(plan: Plan) -> Iterator[str]:
    """Yields the lines of a plan."""
    yield from _origin(plan)
    yield ""
    yield from _table(plan.stages)
    yield f"A run takes {hours(plan.wall_hours)} h, one stage after another. A star: qarm run leaves it out by default."
    yield ""
    for name, size in plan.artifact_bytes.items():
        yield f"{name}: {scaled(size)}"
    yield ""
    yield from _limits(plan)


def _origin(plan: Plan) -> Iterator[str]:
    known, sizes, cluster = plan.constants, plan.sizes, plan.cluster
    machine = known.machine
    yield (
        f"ESTIMATE for {sizes.items:,} items of {sizes.dim} numbers, {sizes.events:,} events of {sizes.users:,} users, "
        f"{sizes.levels} levels of {sizes.codebook_size:,}, on {cluster.executors:,} executors of "
        f"{cluster.cores_per_executor} cores."
    )
    most = max(run["items"] for run in known.runs)
    yield (
        f"Constants: measured on {known.measured_on} ({plan.age_days:,} days ago) on {machine.cores} cores, "
        f"{machine.processor}, {machine.memory_gib:.0f} GiB, with at most {most:,} items. {known.about}"
    )
    yield (
        f"Assumed: cores are used to {known.parallel_efficiency:.0%}; processors are as fast as the measured one; "
        "the network and the store of the tables keep up with the cores."
    )
    if plan.age_days > _OLD_DAYS:
        yield "These constants are old. Measure them anew: make calibrate"
    if sizes.items > 100 * most:
        yield f"That is {sizes.items / most:,.0f} times as many items as were measured: read it as an order of magnitude."


def _table(stages: list[StageEstimate]) -> Iterator[str]:
    rows = [_HEADS, *(_row(stage) for stage in stages)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEADS))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        yield "  ".join(cells)


def _row(stage: StageEstimate) -> tuple[str, ...]:
    return (
        stage.stage.replace("_", "-") + ("" if stage.in_run else " *"),
        scaled(stage.rows_in, _FLOPS),
        scaled(stage.rows_out, _FLOPS),
        scaled(stage.read_bytes),
        scaled(stage.written_bytes),
        scaled(stage.shuffle_bytes),
        "-" if stage.flops is None else scaled(stage.flops, _FLOPS),
        hours(stage.executor_hours),
        hours(stage.one_process_hours),
        hours(stage.wall_hours),
    )


def _limits(plan: Plan) -> Iterator[str]:
    verdict = {"Fails": plan.first_failure, "Gets too slow": plan.first_slowness, "Sorts on disk": plan.first_spill}
    for words, limit in verdict.items():
        if limit is None:
            yield f"{words} first: nothing that is known, at any size."
            continue
        at = f"from {limit.breaks_at_items:,} items" + (", which this plan exceeds" if limit.is_reached else "")
        yield f"{words} first: {limit.part}, {at}. It moves with {limit.setting}."
    yield ""
    for limit in plan.limits[:_SHOWN_LIMITS]:
        yield _line_of(limit)


def _line_of(limit: Limit) -> str:
    at = "at no size" if limit.breaks_at_items is None else f"from {scaled(limit.breaks_at_items, _FLOPS)} items"
    needs = f"needs {number(limit.needed)} of {number(limit.available)} {limit.unit}"
    mark = "!" if limit.is_reached else " "
    return f"{mark} {limit.kind} {at}: {limit.part}{'' if limit.in_run else ' *'} ({needs}; {limit.setting})"


def scaled(value: float, units: tuple[str, ...] = _UNITS) -> str:
    """Returns a number with the prefix of its size.

    Example:
        >>> scaled(1_500_000), scaled(12, ("", "k"))
        ('1.5 MB', '12')
    """
    place = 0
    while abs(value) >= 999.5 and place < len(units) - 1:
        value, place = value / 1000, place + 1
    return f"{number(value)} {units[place]}".strip()


def number(value: float) -> str:
    """Returns a number with three digits.

    Example:
        >>> number(1234.5), number(0.01234)
        ('1,234', '0.0123')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def hours(value: float) -> str:
    """Returns hours; those below a hundredth as such.

    Example:
        >>> hours(0.001), hours(12.345)
        ('<0.01', '12.3')
    """
    return "<0.01" if 0 < value < 0.01 else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
