"""The parts of a run that do not grow with the cluster, and the size at which each of them gives way.

In: sizes, a cluster and constants. Out: one ``Limit`` per part. A part *fails* when what it needs exceeds what there is: a
job ends with an error. It is *slow* when it goes on and takes too long. It *spills* when Spark sorts on disk from there on.
Sizes are searched with as many events and users per item as the plan has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from qarm_features.planning import memory
from qarm_features.planning.constants import Constants
from qarm_features.planning.estimate import StageEstimate, estimates
from qarm_features.planning.sizes import GIB, Cluster, Sizes
from qarm_features.planning.work import SPARSE_FROM, bank_bytes

MOST_ITEMS = 10**13
Needs = Callable[[Sizes], float]
Kind = Literal["fails", "slow", "spills"]


@dataclass(frozen=True)
class Limit:
    """A part that gives way at some size.

    Attributes:
        part: What gives way.
        kind: ``fails``, ``slow`` or ``spills``.
        needed: What the plan needs, in ``unit``.
        available: What there is.
        unit: GiB, hours or items.
        breaks_at_items: Smallest number of items that needs more than there is; None if no size does.
        setting: What moves the limit.
        in_run: True if ``qarm run`` meets it by default.
    """

    part: str
    kind: Kind
    needed: float
    available: float
    unit: str
    breaks_at_items: int | None
    setting: str
    in_run: bool = True

    @property
    def is_reached(self) -> bool:
        """True if the plan needs more than there is."""
        return self.needed > self.available


def limits(sizes: Sizes, cluster: Cluster, constants: Constants) -> list[Limit]:
    """Returns all limits, the one that is reached first at the top."""
    found = [_limit(sizes, *one) for one in (*_of_memory(cluster, constants), *_of_ids())]
    found += _of_time(sizes, cluster, constants)
    found.append(_of_spilling(sizes, cluster, constants))
    return sorted(found, key=lambda one: (one.breaks_at_items is None, one.breaks_at_items or 0, one.part))


def first_to_break(found: list[Limit], kind: Kind) -> Limit | None:
    """Returns the limit of a kind that a run reaches first, of those that it meets by default; None if it reaches none."""
    met = [one for one in found if one.kind == kind and one.in_run and one.breaks_at_items is not None]
    return min(met, key=lambda one: one.breaks_at_items or 0, default=None)


def breaking_size(sizes: Sizes, needs: Needs, available: float) -> int | None:
    """Returns the smallest number of items that needs more than there is, or None; needs never fall with the items."""
    low, high = 0, MOST_ITEMS
    if needs(sizes.scaled(high)) <= available:
        return None
    while high - low > max(1, low // 10_000):
        middle = (low + high) // 2
        if needs(sizes.scaled(middle)) > available:
            high = middle
        else:
            low = middle
    return high


def _limit(
    sizes: Sizes, part: str, needs: Needs, available: float, unit: str, setting: str, in_run: bool = True
) -> Limit:
    return Limit(part, "fails", needs(sizes), available, unit, breaking_size(sizes, needs, available), setting, in_run)


def _gib(needs: Needs) -> Needs:
    return lambda sizes: needs(sizes) / GIB


def _of_memory(cluster: Cluster, constants: Constants) -> list[tuple]:
    driver, disk = cluster.driver_memory_gib, cluster.executor_disk_gib
    return [
        ("results of a Lloyd step on the driver", _gib(lambda s: memory.fetched_bytes(s, cluster)),
         cluster.driver_results_gib, "GiB", "--driver-results-gib (spark.driver.maxResultSize), or a smaller codebook"),
        ("driver memory of a fit", _gib(lambda s: memory.driver_bytes(s, cluster)), driver, "GiB", "--driver-memory-gib"),
        ("driver memory of a refit: counts of pairs of codes", _gib(memory.refit_pairs_bytes), driver, "GiB",
         "--driver-memory-gib, or a smaller codebook", False),
        ("Redis memory", _gib(lambda s: memory.redis_bytes(s, constants.redis)), cluster.redis_memory_gib, "GiB",
         "--redis-memory-gib"),
        ("table of item IDs in a training process", _gib(memory.trainer_bytes), driver, "GiB",
         "--driver-memory-gib, or variants without item IDs"),
        ("executor memory of a Lloyd step", _gib(lambda s: memory.step_memory_bytes(s, cluster)),
         cluster.executor_memory_gib, "GiB", "--executor-memory-gib, or a smaller codebook"),
        ("executor disk of a fit", _gib(lambda s: memory.fit_disk_bytes(s, cluster)), disk, "GiB",
         "--executor-disk-gib or --executors"),
        ("executor disk of the bank, which every machine holds", _gib(bank_bytes), disk,
         "GiB", "--executor-disk-gib", False),
    ]  # fmt: skip


def _of_ids() -> list[tuple]:
    part, numbers = "32-bit numbers of items in mine-item-pairs", 2.0**31 - 1
    return [(part, lambda s: float(s.items), numbers, "items", "a wider type in the code", False)]


def _of_time(sizes: Sizes, cluster: Cluster, constants: Constants) -> list[Limit]:
    """Returns a limit for each stage: its hours."""

    def hours(place: int) -> Needs:
        def needed(s: Sizes) -> float:
            # Training is slower just below this size than just above it.
            tried = [s] if s.items < SPARSE_FROM else [s, s.scaled(SPARSE_FROM - 1)]
            return max(estimates(one, cluster, constants)[place].wall_hours for one in tried)

        return needed

    found = []
    for place, stage in enumerate(estimates(sizes, cluster, constants)):
        breaks_at = breaking_size(sizes, hours(place), cluster.deadline_hours)
        part = f"time of {stage.stage.replace('_', '-')}{_alone(stage)}"
        setting = "--deadline-hours" if _alone(stage) else "--deadline-hours or --executors"
        found.append(
            Limit(part, "slow", stage.wall_hours, cluster.deadline_hours, "hours", breaks_at, setting, stage.in_run)
        )
    return found


def _alone(stage: StageEstimate) -> str:
    return ", most of it in one process" if 2 * stage.one_process_hours > stage.wall_hours else ""


def _of_spilling(sizes: Sizes, cluster: Cluster, constants: Constants) -> Limit:
    """Returns the limit from which the stage with the largest shuffle sorts on disk."""

    def largest(s: Sizes) -> StageEstimate:
        return max((one for one in estimates(s, cluster, constants) if one.in_run), key=lambda one: one.shuffle_bytes)

    def needs(s: Sizes) -> float:
        return largest(s).shuffle_bytes * memory.EXPANSION / cluster.shuffle_partitions / GIB

    available = cluster.executor_memory_gib * memory.SORT_SHARE / cluster.cores_per_executor
    part = f"memory of a partition that {largest(sizes).stage.replace('_', '-')} sorts"
    setting = "--shuffle-partitions (spark.sql.shuffle.partitions)"
    return Limit(part, "spills", needs(sizes), available, "GiB", breaking_size(sizes, needs, available), setting)
