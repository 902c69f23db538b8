"""The estimate: what each stage takes with a cluster.

In: sizes, a cluster and measured constants. Out: one ``StageEstimate`` per stage.

Processor seconds of a stage grow by its units of work. Its wall time has three parts that follow each other: what is done
once for the whole stage, what one process does alone, and what all cores share at the stated efficiency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qarm_features.planning.constants import FIXED, Constants
from qarm_features.planning.sizes import Cluster, PlanError, Sizes
from qarm_features.planning.work import Work, works

_HOUR = 3600.0


@dataclass(frozen=True)
class StageEstimate:
    """What a stage takes, as an estimate.

    Attributes:
        stage: Name of the job.
        in_run: True if ``qarm run`` takes the stage by default.
        rows_in: Number of rows that it reads.
        rows_out: Number of rows that it writes.
        read_bytes: Bytes that it reads.
        written_bytes: Bytes that it writes.
        shuffle_bytes: Bytes that its tasks send to each other.
        flops: Floating-point operations; None where they say nothing about the stage.
        core_hours: Processor hours that cores share.
        one_process_hours: Hours of one process that nothing shares.
        wall_hours: Hours from its start to its end.
        executor_hours: Wall hours times executors.
    """

    stage: str
    in_run: bool
    rows_in: float
    rows_out: float
    read_bytes: float
    written_bytes: float
    shuffle_bytes: float
    flops: float | None
    core_hours: float
    one_process_hours: float
    wall_hours: float
    executor_hours: float


def estimates(sizes: Sizes, cluster: Cluster, constants: Constants) -> list[StageEstimate]:
    """Returns the estimates of all stages in their order."""
    return [estimate(work, cluster, constants) for work in works(sizes)]


def estimate(work: Work, cluster: Cluster, constants: Constants) -> StageEstimate:
    """Returns the estimate of a stage.

    Raises:
        PlanError: The constants lack a unit of the stage.
    """
    known = constants.of(work.stage)
    shared = total(work.units, known.cpu_seconds, work.stage)
    once = known.cpu_seconds.get(FIXED, 0.0) + known.driver_seconds.get(FIXED, 0.0)
    alone = total(work.driver_units, known.driver_seconds, work.stage)
    if work.one_process:
        alone /= constants.trainer_cores * constants.parallel_efficiency
    wall = once + alone + shared / (cluster.cores * constants.parallel_efficiency)
    return StageEstimate(
        stage=work.stage,
        in_run=work.in_run,
        rows_in=work.rows_in,
        rows_out=work.rows_out,
        read_bytes=bytes_of(work, known.read_bytes),
        written_bytes=bytes_of(work, known.written_bytes),
        shuffle_bytes=bytes_of(work, known.shuffle_bytes),
        flops=work.flops,
        core_hours=shared / _HOUR,
        one_process_hours=(once + alone) / _HOUR,
        wall_hours=wall / _HOUR,
        executor_hours=wall * cluster.executors / _HOUR,
    )


def total(units: Mapping[str, float], seconds: Mapping[str, float], stage: str) -> float:
    """Returns the seconds of all units of a stage.

    Raises:
        PlanError: The constants lack a unit.
    """
    lacking = [name for name, amount in units.items() if amount and name not in seconds]
    if lacking:
        raise PlanError(f"The constants of {stage} lack {', '.join(lacking)}. Measure them anew: make calibrate")
    return sum(amount * seconds[name] for name, amount in units.items() if amount)


def bytes_of(work: Work, known: Mapping[str, float]) -> float:
    """Returns the bytes of all units of a stage that have some."""
    return known.get(FIXED, 0.0) + sum(amount * known.get(name, 0.0) for name, amount in work.units.items())
