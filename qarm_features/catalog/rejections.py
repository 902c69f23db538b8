"""The share of rejected rows that a run may have.

In: counts of rows by table and reason. Out: nothing, or one error that names every table and reason over its share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from qarm_features.catalog.checks import IngestError
from qarm_features.catalog.deletions import DELETED
from qarm_features.settings.sources import RejectedShares

_MOST_DELETED = 0.5


class RowCounts(NamedTuple):
    """Row counts of one table.

    Attributes:
        table: Name of the table, ``items`` or ``interactions``.
        accepted: Number of accepted rows.
        by_reason: Number of rejected rows by reason.
        lines: Number of lines of text files that the rows stand for.
    """

    table: str
    accepted: int
    by_reason: Mapping[str, int]
    lines: int = 0

    @property
    def rejected(self) -> int:
        """Number of rejected rows."""
        return sum(self.by_reason.values())

    @property
    def rows_in(self) -> int:
        """Number of rows of the source."""
        return self.accepted + self.rejected


def require_all_lines(counts: RowCounts, lines: int | None, path: str | None) -> None:
    """Raise an error if the rows do not stand for all lines of their files.

    Args:
        counts: Counts of the rows after the checks.
        lines: Number of lines that were counted apart from the rows. None for other formats than text.
        path: Path of the source, for the message.

    Raises:
        IngestError: Lines are missing, or there are more than were counted.
    """
    if lines is not None and counts.lines != lines:
        raise IngestError(
            f"{path} has {lines:,} lines that hold rows, and the rows that were read stand for {counts.lines:,}. The files "
            "changed while they were read: run the job again."
        )


def require_few_rejected(tables: Sequence[RowCounts], shares: RejectedShares) -> None:
    """Raise an error if too large a share of the rows of any table was rejected.

    A reason that ``shares.reasons`` names has a share of its own, and its rows do not count for that of the table. So has the
    reason of deleted items: by default half of the rows, which a column that means something else is likely to pass.

    Args:
        tables: Row counts of each table.
        shares: Section ``max_rejected_share`` of the settings.

    Raises:
        IngestError: A source has no rows, or a share is too large. The message has one line for each.

    Example:
        >>> require_few_rejected([RowCounts("items", 99, {"item_id is null": 1})], RejectedShares())
    """
    faults = [fault for counts in tables for fault in _faults(counts, shares)]
    seen = {reason for counts in tables for reason in counts.by_reason}
    if faults and (unused := [reason for reason in shares.reasons if reason not in seen]):
        faults.append(f"max_rejected_share.reasons names {', '.join(unused)}, for which no row was rejected.")
    if faults:
        raise IngestError("\n".join(faults))


def _faults(counts: RowCounts, shares: RejectedShares) -> list[str]:
    if counts.rows_in == 0:
        return [f"{counts.table} has no rows at its source, must have at least 1. Check its path."]
    share_of = {DELETED: _MOST_DELETED, **shares.reasons}
    named = {reason: rows for reason, rows in counts.by_reason.items() if reason in share_of}
    other = {reason: rows for reason, rows in counts.by_reason.items() if reason not in share_of}
    faults = []
    of_table: float = getattr(shares, counts.table)
    if sum(other.values()) > of_table * counts.rows_in:
        listed = "; ".join(f"{reason}: {rows:,}" for reason, rows in sorted(other.items(), key=lambda entry: -entry[1]))
        setting = f"max_rejected_share.{counts.table}"
        faults.append(_fault(counts, sum(other.values()), of_table, setting, f" By reason: {listed}."))
    for reason, rows in named.items():
        if rows > share_of[reason] * counts.rows_in:
            setting = f'max_rejected_share.reasons["{reason}"]'
            faults.append(_fault(counts, rows, share_of[reason], setting, ""))
    return faults


def _fault(counts: RowCounts, rows: int, highest: float, setting: str, reasons: str) -> str:
    return (
        f"{rows:,} of {counts.rows_in:,} rows of {counts.table} are rejected ({rows / counts.rows_in:.1%}), must be at most "
        f"{highest:.1%} ({setting}).{reasons} The rows are in rejected_rows."
    )
