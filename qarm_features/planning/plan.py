"""A plan: the estimates of all stages, what the artifacts and the memory will be, and what gives way first.

In: sizes, a cluster, constants and the day. Out: a ``Plan``, which the command line prints as text or as JSON.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from qarm_features.planning import memory, work
from qarm_features.planning.constants import Constants
from qarm_features.planning.estimate import StageEstimate, estimates
from qarm_features.planning.limits import Limit, first_to_break, limits
from qarm_features.planning.sizes import Cluster, Sizes


@dataclass(frozen=True)
class Plan:
    """An estimate of a run.

    Attributes:
        sizes: Sizes of the catalog.
        cluster: Sizes of the cluster.
        constants: Measured constants.
        age_days: Days since their measurement.
        stages: Estimates of all stages.
        artifact_bytes: Bytes of what a run makes or holds, by its name.
        limits: Parts that give way at some size, the first one at the top.
    """

    sizes: Sizes
    cluster: Cluster
    constants: Constants
    age_days: int
    stages: list[StageEstimate]
    artifact_bytes: dict[str, float]
    limits: list[Limit]

    @property
    def first_failure(self) -> Limit | None:
        """The limit at which a run fails first."""
        return first_to_break(self.limits, "fails")

    @property
    def first_slowness(self) -> Limit | None:
        """The limit at which a run gets too slow first."""
        return first_to_break(self.limits, "slow")

    @property
    def first_spill(self) -> Limit | None:
        """The limit from which Spark sorts on disk."""
        return first_to_break(self.limits, "spills")

    @property
    def wall_hours(self) -> float:
        """Hours of the stages that a run takes by default, one after another."""
        return sum(one.wall_hours for one in self.stages if one.in_run)

    def to_json(self) -> dict[str, Any]:
        """Returns all of the plan as JSON values."""
        known = self.constants
        return {
            "is_an_estimate": True,
            "constants": {
                "machine": known.machine.model_dump(),
                "measured_on": known.measured_on.isoformat(),
                "age_days": self.age_days,
                "about": known.about,
                "parallel_efficiency": known.parallel_efficiency,
            },
            "sizes": asdict(self.sizes),
            "cluster": asdict(self.cluster),
            "wall_hours": self.wall_hours,
            "stages": [asdict(one) for one in self.stages],
            "artifact_bytes": self.artifact_bytes,
            "limits": [asdict(one) | {"is_reached": one.is_reached} for one in self.limits],
            "first_failure": _part(self.first_failure),
            "first_slowness": _part(self.first_slowness),
            "first_spill": _part(self.first_spill),
        }


def _part(limit: Limit | None) -> str | None:
    return None if limit is None else limit.part


def make_plan(sizes: Sizes, cluster: Cluster, constants: Constants, today: date) -> Plan:
    """Returns the plan of a run.

    Raises:
        PlanError: The constants lack a stage or a unit.
    """
    return Plan(
        sizes=sizes,
        cluster=cluster,
        constants=constants,
        age_days=constants.age_days(today),
        stages=estimates(sizes, cluster, constants),
        artifact_bytes={
            "item_embeddings": work.item_table_bytes(sizes),
            "codebooks": float(work.codebook_bytes(sizes)),
            "bank": work.bank_bytes(sizes),
            "content tokens": work.token_bytes(sizes),
            "Redis": memory.redis_bytes(sizes, constants.redis),
            "driver memory of a fit": float(memory.driver_bytes(sizes, cluster)),
            "memory of a training process": memory.trainer_bytes(sizes),
        },
        limits=limits(sizes, cluster, constants),
    )
