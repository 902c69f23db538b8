"""Whether the item IDs of a click log are those of a catalog.

In: samples of both. Out: the share of the rows of the log whose item is in the catalog.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from qarm_features.importers.guessing.profile import Profile
from qarm_features.importers.guessing.sample import Sample, values_of

CATALOG_BYTES = 64 * 2**20
_LOG_ROWS = 20_000
_MAX_NAMED = 3


class Meeting(NamedTuple):
    """How many rows of a log have their item in the catalog.

    Attributes:
        rows: Number of rows of the log that were looked at.
        found: Number of them whose item is in the catalog.
        whole: Whether all of the catalog was looked at.
        missing: IDs of the log that the catalog lacks, at most three.
        present: IDs of the catalog, at most three.
    """

    rows: int
    found: int
    whole: bool
    missing: tuple[str, ...]
    present: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of the rows, from 0 to 1."""
        return self.found / max(self.rows, 1)


def meet(catalog: Sample, item_id: str, log: Sample, log_item_id: str, *, is_integer: bool) -> Meeting:
    """Returns how many rows of the head of a log have their item in the head of a catalog.

    Args:
        catalog: Sample of the catalog, of which up to 64 MB are read here.
        item_id: Its column of the item ID.
        log: Sample of the log.
        log_item_id: Its column of the item ID.
        is_integer: Whether 10.0 and 10 are one ID; as strings they are two.
    """
    plain_of = _plain if is_integer else str.strip
    asked = [plain_of(value) for value in islice(log.columns[log_item_id], _LOG_ROWS) if value]
    wanted = set(asked)
    values, whole = values_of(catalog, item_id, CATALOG_BYTES)
    present: list[str] = []
    known = set()
    for value in values:
        if value:
            if len(present) < _MAX_NAMED:
                present.append(value)
            if (plain := plain_of(value)) in wanted:
                known.add(plain)
    missing = tuple(dict.fromkeys(value for value in asked if value not in known))[:_MAX_NAMED]
    return Meeting(len(asked), sum(value in known for value in asked), whole, missing, tuple(present))


def overlaps(
    catalog: Sample, items: Mapping[str, Profile], log: Sample, interactions: Mapping[str, Profile]
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the highest share of a column's rows that meet, by the columns of the catalog and by those of the log.

    Two columns of small whole numbers always meet, so that they say nothing.

    Args:
        catalog: Sample of the catalog.
        items: What is known about its columns.
        log: Sample of the log.
        interactions: What is known about its columns.
    """
    of_catalog: dict[str, float] = {}
    of_log: dict[str, float] = {}
    keys = [
        one for one in items.values() if one.unique > 0.9 and not one.is_nested and not one.unit and not _counts(one)
    ]
    for key in keys:
        known = {_plain(value) for value in catalog.columns[key.name] if value}
        for one in interactions.values():
            if one.is_nested or one.unit or _counts(one):
                continue
            values = [_plain(value) for value in log.columns[one.name][:_LOG_ROWS] if value]
            share = sum(value in known for value in values) / max(len(values), 1)
            of_catalog[key.name] = max(share, of_catalog.get(key.name, 0.0))
            of_log[one.name] = max(share, of_log.get(one.name, 0.0))
    return of_catalog, of_log


def _counts(one: Profile) -> bool:
    """Returns whether a column holds small whole numbers, such as counts or IDs that were numbered from 1."""
    return bool(one.numbers) and max(one.numbers) < 100_000


def _plain(value: str) -> str:
    return value.strip().removesuffix(".0")
