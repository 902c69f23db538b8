"""The table of ``qarm monitor``: each figure of the new items beside its limit, and what follows.

In: figures of ``evaluation.fit_drift`` and verdicts. Out: lines for a terminal.
"""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table

from qarm_features.evaluation.refit_advice import Verdict, refit_pays
from qarm_features.terminal import literal

_MARKS = {"ok": ("✓", "green"), "past": ("✗", "red"), "unknown": ("-", "dim")}


def drift_table(drift: dict[str, Any], found: list[Verdict], *, codebook_version: int) -> Group:
    """Make the table.

    Args:
        drift: Figures of ``fit_drift``.
        found: One verdict per figure.
        codebook_version: Codebook version of the promoted release.
    """
    title = f"codebooks v{codebook_version}: {drift['items']:,} items of the fit, {drift['new_items']:,} came later"
    table = Table(title=title, title_justify="left", box=None)
    for name, justify in (
        ("", "left"),
        ("figure", "left"),
        ("value", "right"),
        ("limit", "right"),
        ("rests on", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]  # mypy widens the literals
    for one in found:
        mark, style = _MARKS[one.state]
        value = "-" if one.value is None else f"{one.value:.3f}"
        table.add_row(literal(mark, style), *map(literal, (one.what, value, f"{one.limit:g}", one.remark)))
    return Group(table, *map(literal, _conclusion(drift, found)))


def _conclusion(drift: dict[str, Any], found: list[Verdict]) -> list[str]:
    lines = []
    used = [f"{level['new_codes']:,} of {level['codebook_size']:,}" for level in drift["code_usage"]]
    if used:
        lines.append(f"Codes that new items alone use, by level: {', '.join(used)}.")
    if drift["gain"] is not None:
        lines.append(
            f"The mean error of all items would fall by {drift['gain']:.1%} if codes of new items became as near as those of "
            "the fit: a refit gains at most about that."
        )
    if refit_pays(found):
        lines.append("A refit pays. It keeps the semantic IDs that fit: qarm fit-codebooks --refit, then qarm run")
    elif drift["new_items"] == 0:
        lines.append("No item came since the fit, so nothing can be compared.")
    else:
        lines.append("No refit is due.")
    return lines
