"""The measured constants of a plan: seconds and bytes of a unit of work, with the machine and the day of their measurement.

In: a JSON file that ``benchmarks/calibrate.py`` wrote; one ships with the package. Out: ``Constants``.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qarm_features.planning.sizes import PlanError

SHIPPED = Path(__file__).with_name("constants.json")
FIXED = "fixed"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Machine(_Part):
    """The machine of the measurement."""

    processor: str
    cores: int = Field(ge=1)
    memory_gib: float
    load_average: float
    versions: dict[str, str]


class StageConstants(_Part):
    """What a stage takes by unit of work, and beside that once (``fixed``).

    Attributes:
        cpu_seconds: Processor seconds that executors share.
        driver_seconds: Processor seconds of one process alone.
        read_bytes: Bytes that Spark read from tables and files.
        written_bytes: Bytes of the files that Spark wrote.
        shuffle_bytes: Bytes that Spark's tasks sent to each other.
    """

    cpu_seconds: dict[str, float]
    driver_seconds: dict[str, float] = {}
    read_bytes: dict[str, float] = {}
    written_bytes: dict[str, float] = {}
    shuffle_bytes: dict[str, float] = {}


class RedisConstants(_Part):
    """Bytes of keys in a Redis server.

    Attributes:
        item_key: Bytes of an item's key: ``fixed``, ``release`` for each release, and ``code`` for each of its codes.
        user_key: Lengths of sequences, and the bytes of a user's key with two sequences of each length.
    """

    item_key: dict[str, float]
    user_key: list[tuple[float, float]] = Field(min_length=2)


class Constants(_Part):
    """All constants of a plan.

    Attributes:
        machine: Machine of the measurement.
        measured_on: Day of the measurement.
        about: How they were measured, in a sentence.
        runs: Sizes of the measured runs.
        parallel_efficiency: Share of the cores' time that a cluster is assumed to use; an assumption, not a measurement.
        trainer_cores: Number of cores that a training process uses.
        stages: Constants by stage.
        redis: Constants of Redis.
    """

    machine: Machine
    measured_on: date
    about: str
    runs: list[dict[str, int]]
    parallel_efficiency: float = Field(gt=0, le=1)
    trainer_cores: int = Field(2, ge=1)
    stages: dict[str, StageConstants]
    redis: RedisConstants

    def of(self, stage: str) -> StageConstants:
        """Returns the constants of a stage.

        Raises:
            PlanError: The file has none.
        """
        if stage not in self.stages:
            raise PlanError(f"The constants say nothing of {stage}. Measure them anew: make calibrate")
        return self.stages[stage]

    def age_days(self, today: date) -> int:
        """Returns the number of days since the measurement."""
        return (today - self.measured_on).days


def load_constants(path: Path = SHIPPED) -> Constants:
    """Returns the constants in a file.

    Raises:
        PlanError: The file does not exist, or holds something else.
    """
    if not path.is_file():
        raise PlanError(f"--constants is {path}, must be a file. Write one: make calibrate")
    try:
        return Constants.model_validate(json.loads(path.read_text()))
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        why = str(error) if first is None else f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise PlanError(
            f"--constants is {path}, which holds no constants of a plan ({why}). Write one: make calibrate"
        ) from None
