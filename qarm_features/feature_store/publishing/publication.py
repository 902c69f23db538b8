"""The result of a publication, for people: what it wrote, what it deleted and what it held back.

In: numbers per view. Out: a remark for the log, and lines for ``--dry-run``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple


class HeldBack(NamedTuple):
    """Rows of a view whose event time lies after the moment of the publication.

    Attributes:
        rows: Number of rows.
        latest: The latest event time, in UTC.
    """

    rows: int
    latest: datetime


@dataclass
class Publication:
    """What a publication did, or would do.

    Attributes:
        moment: The one moment of the publication. Rows up to it are loaded and verified.
        store: Type of the online store.
        rows: Rows of each view.
        deleted: Keys that left, and were deleted, of each view that had some.
        not_deleted: Keys that left and are still served, because the store deletes no single rows, of each view that had
            some.
        held_back: Rows of the future of each view that has some.
        expires_in: Seconds after which the rows expire in the online store; None for never.
    """

    moment: datetime
    store: str
    rows: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    not_deleted: dict[str, int] = field(default_factory=dict)
    held_back: dict[str, HeldBack] = field(default_factory=dict)
    expires_in: int | None = None

    def add_gone(self, view_name: str, keys: int, *, deleted: bool) -> None:
        """Add keys of a view that left.

        Args:
            view_name: Name of the view.
            keys: Number of keys; 0 adds nothing.
            deleted: False if the store deletes no single rows.
        """
        if keys:
            counts = self.deleted if deleted else self.not_deleted
            counts[view_name] = counts.get(view_name, 0) + keys

    @property
    def remark(self) -> str:
        """What people must know; empty if all rows were published and nobody left."""
        parts = []
        if self.deleted:
            parts.append(f"{_sum(self.deleted)} that left were deleted online ({_by_view(self.deleted)})")
        if self.not_deleted:
            parts.append(
                f"{_sum(self.not_deleted)} that left are STILL SERVED ({_by_view(self.not_deleted)}), because rows of a "
                f"{self.store} store cannot be deleted one by one. Delete them by the store's own means"
            )
        if self.held_back:
            rows = {name: one.rows for name, one in self.held_back.items()}
            latest = max(one.latest for one in self.held_back.values())
            parts.append(
                f"{sum(rows.values()):,} rows of the future were held back ({_by_view(rows)}), the latest is of "
                f"{_time(latest)}. Check the clocks and time zones of the click log"
            )
        if self.expires_in:
            parts.append(
                f"all keys expire in {self.expires_in:,} s (key_ttl_seconds) unless they are published again before"
            )
        return "; ".join(parts)

    def lines(self) -> list[str]:
        """Return one line per view for ``--dry-run``."""
        lines = []
        for name, rows in self.rows.items():
            parts = [
                f"{rows:,} rows would be written",
                f"{self.deleted.get(name, 0):,} keys that left would be deleted",
            ]
            if name in self.not_deleted:
                parts[1] = (
                    f"{self.not_deleted[name]:,} keys that left would stay, because rows of a {self.store} store cannot be "
                    "deleted one by one"
                )
            if name in self.held_back:
                held = self.held_back[name]
                parts.append(f"{held.rows:,} rows of the future would be held back, the latest of {_time(held.latest)}")
            lines.append(f"{name}: {', '.join(parts)}")
        return lines


def _sum(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    return f"{total:,} key{'' if total == 1 else 's'}"


def _by_view(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
