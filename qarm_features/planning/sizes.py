"""The sizes that a plan is made for: those of the catalog and its settings, and those of the cluster.

In: numbers, as the flags of ``qarm plan`` give them. Out: checked sizes. Defaults that ``qarm.yaml`` has too are those of the
settings, so that a plan speaks of the run that the settings would start.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

from qarm_features.settings.codes import Codebooks, NearestItems
from qarm_features.settings.ranking import Behavior, Ranking
from qarm_features.settings.sections import Encoder

GIB = 2**30
EVENTS_PER_ITEM, EVENTS_PER_USER = 10, 50  # where neither events nor users are given
_CODEBOOKS, _NEAREST = Codebooks(), NearestItems()
_BEHAVIOR, _RANKING, _ENCODER = Behavior(), Ranking(), Encoder()
_MOST = {"levels": 16, "codebook_size": 65_536, "dim": 65_536, "items": 10**13, "events": 10**15, "users": 10**13}
_AT_LEAST_0 = ("exact_up_to", "encoder_gflops_per_item", "positive_share", "impressions")


class PlanError(ValueError):
    """A size that no run can have, or constants that say nothing of it."""


def _size(words: str, default: Any = MISSING) -> Any:
    """Returns a field with its meaning, which is the help of its flag."""
    return field(default=default, metadata={"help": words})


@dataclass(frozen=True)
class Sizes:
    """Sizes of a catalog, its click log and its settings; what each means stands beside it."""

    items: int = _size("Number of items, for example 1_000_000_000.")
    events: int = _size("Number of labeled impressions in the click log.")
    users: int = _size("Number of users.")
    dim: int = _size("Dimension of the embeddings.", 256)
    levels: int = _size("Number of levels of a semantic ID.", _CODEBOOKS.num_levels)
    codebook_size: int = _size("Number of centroids of a level.", _CODEBOOKS.codebook_size)
    positive_share: float = _size("Share of the events that are positive, from 0 to 1.", 0.5)
    max_iter: int = _size("Number of Lloyd steps of a level.", _CODEBOOKS.max_iter)
    behaviors: int = _size("Number of positives that are kept of a user.", _BEHAVIOR.max_length)
    impressions: int = _size("Number of impressions that are kept of a user, 0 for none.", _BEHAVIOR.impression_length)
    releases: int = _size("Number of releases that are online at the same time.", 2)
    exact_up_to: int = _size("Number of items up to which nearest items are searched exactly.", _NEAREST.exact_up_to)
    probes: int = _size("Number of inverted lists of a shard that the search reads.", _NEAREST.num_probes)
    items_per_commit: int = _size("Number of items that are embedded per commit.", _ENCODER.items_per_commit)
    epochs: int = _size("Number of epochs of a ranking model.", _RANKING.epochs)
    variants: int = _size("Number of ranking models that are trained.", len(_RANKING.variants))
    item_dim: int = _size("Width of the embedding of an item ID in a ranking model.", 16)
    tokens_per_item: int = _size("Number of content tokens of an item.", _ENCODER.tokens_kept)
    token_dim: int = _size("Dimension of a content token.", 384)
    encoder_gflops_per_item: float = _size(
        "Billions of floating-point operations that encode an item; 0 if its vector is supplied.", 0.0
    )

    def __post_init__(self) -> None:
        """Refuses sizes that no run can have."""
        _check(self)
        if self.positive_share > 1:
            raise PlanError(f"--positive-share is {self.positive_share}, must be from 0 to 1.")
        if self.codebook_size > self.items:
            raise PlanError(
                f"--codebook-size is {self.codebook_size}, must be at most --items, {self.items}, because each "
                "centroid needs an item of its own."
            )

    def scaled(self, items: int) -> Sizes:
        """Returns sizes with another number of items, and with as many events and users per item as here."""
        share = items / self.items
        return replace(
            self,
            items=items,
            events=max(1, round(self.events * share)),
            users=max(1, round(self.users * share)),
            codebook_size=min(self.codebook_size, items),
        )

    @property
    def positives(self) -> float:
        """Number of positive interactions."""
        return self.events * self.positive_share


@dataclass(frozen=True)
class Cluster:
    """Sizes of a cluster, and how long a stage may take; what each means stands beside it."""

    executors: int = _size("Number of executors.", 8)
    cores_per_executor: int = _size("Number of cores of an executor.", 4)
    executor_memory_gib: float = _size("Memory of an executor, that of its Python workers included.", 32.0)
    executor_disk_gib: float = _size("Local disk of an executor.", 500.0)
    driver_memory_gib: float = _size("Memory of the driver, that of its Python process included.", 16.0)
    driver_results_gib: float = _size("Value of spark.driver.maxResultSize.", 1.0)
    redis_memory_gib: float = _size("Memory of Redis, all servers together.", 64.0)
    shuffle_partitions: int = _size("Value of spark.sql.shuffle.partitions.", 200)
    deadline_hours: float = _size("Hours that a stage may take.", 24.0)

    def __post_init__(self) -> None:
        """Refuses sizes that no cluster can have."""
        _check(self)

    @property
    def cores(self) -> int:
        """Number of cores of all executors."""
        return self.executors * self.cores_per_executor


def usual_events(items: int) -> int:
    """Returns the number of events that a plan takes where none is given."""
    return EVENTS_PER_ITEM * items


def usual_users(events: int) -> int:
    """Returns the number of users that a plan takes where none is given."""
    return max(1, events // EVENTS_PER_USER)


def flag_of(name: str) -> str:
    """Returns the flag of ``qarm plan`` that sets a size."""
    return "--" + name.replace("_", "-")


def _check(sizes: Any) -> None:
    for one in fields(sizes):
        value = getattr(sizes, one.name)
        whole = isinstance(one.default, int) or one.default is MISSING
        least = 0 if one.name in _AT_LEAST_0 else 1 if whole else None
        if least is None and not 0 < value < float("inf"):
            raise PlanError(f"{flag_of(one.name)} is {value}, must be above 0.")
        if least is not None and not value >= least:
            raise PlanError(f"{flag_of(one.name)} is {value}, must be at least {least}.")
        if value > _MOST.get(one.name, 10**15):
            raise PlanError(f"{flag_of(one.name)} is {value}, must be at most {_MOST.get(one.name, 10**15)}.")
