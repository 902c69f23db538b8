"""Results are kept in a file, one line each, and printed as one table per catalog.

In: measures by catalog, rival and seed. Out: lines of JSON, and a Markdown table with the mean and deviation over seeds.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path

from .quantizers import OURS

COLUMNS = {  # printed name and digits; more is better where the last entry is 1, less where it is -1, 0 compares nothing
    "bits": ("bits", 1, 0),
    "explained": ("explained", 3, 1),
    "explained_by_sums": ("explained by sums", 3, 1),
    "distinct": ("distinct / items", 3, 1),
    "unique": ("unique", 3, 1),
    "usage": ("usage", 2, 0),
    "perplexity": ("perplexity / K", 2, 0),
    "co-clicks lift_1": ("lift c1", 2, 0),
    "co-clicks matched_1": ("matched c1", 2, 1),
    "co-clicks matched_2": ("matched c1c2", 2, 1),
    "co-clicks beats": ("beats", 3, 1),
    "together matched_1": ("together, matched c1", 2, 1),
    "neighbors": ("neighbors kept", 3, 1),
    "auc": ("AUC", 4, 1),
    "auc_new": ("AUC, new products", 4, 1),
    "seconds": ("seconds", 1, -1),
}


class Results:
    """Figures in a file of lines of JSON.

    Args:
        file: The file. It need not exist.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.rows = file, []
        if file.is_file():
            self.rows = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]

    def has(self, catalog: str, rival: str, seed: int, figure: str) -> bool:
        """Return True if a figure was measured already."""
        wanted = (catalog, rival, seed)
        return any((row["catalog"], row["rival"], row["seed"]) == wanted and figure in row for row in self.rows)

    def add(self, catalog: str, rival: str, seed: int, figures: dict[str, float | None]) -> None:
        """Append figures to the file."""
        self.rows.append({"catalog": catalog, "rival": rival, "seed": seed, **figures})
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as lines:
            lines.write(json.dumps(self.rows[-1]) + "\n")

    def of(self, catalog: str) -> dict[str, list[dict]]:
        """Return the figures of a catalog by rival, each in the order of the seeds."""
        found: dict[str, dict[int, dict]] = {}
        for row in self.rows:
            if row["catalog"] == catalog:
                found.setdefault(row["rival"], {}).setdefault(row["seed"], {}).update(row)
        return {rival: [runs[seed] for seed in sorted(runs)] for rival, runs in found.items()}


def table(rows: dict[str, list[dict]]) -> Iterator[str]:
    """Yield the lines of a Markdown table.

    Args:
        rows: Figures by rival.
    """
    shown = [name for name in COLUMNS if any(row.get(name) is not None for runs in rows.values() for row in runs)]
    yield f"| rival | {' | '.join(COLUMNS[name][0] for name in shown)} |"
    yield f"| --- |{' ---: |' * len(shown)}"
    for rival, runs in rows.items():
        yield f"| {rival} | {' | '.join(_cell(runs, name) for name in shown)} |"


def winners(rows: dict[str, list[dict]], against: str = OURS) -> Iterator[str]:
    """Yield a line for each measure on which a rival is better than ours by two standard errors of the paired difference.

    Args:
        rows: Figures by rival, each in the order of the same seeds.
        against: Name of the rival that the others are compared with.
    """
    for rival, runs in rows.items():
        for name, (shown, digits, sign) in COLUMNS.items():
            pairs = [(run.get(name), own.get(name)) for run, own in zip(runs, rows.get(against, []))]
            gaps = [sign * (one - other) for one, other in pairs if one is not None and other is not None]
            if rival == against or sign == 0 or len(gaps) < 2:
                continue
            mean, error = statistics.mean(gaps), statistics.stdev(gaps) / math.sqrt(len(gaps))
            if mean > 2 * error and mean > 0.5 * 10**-digits:
                yield f"{rival} beats {against} in {shown}: {sign * mean:+.{digits}f}, {error:.{digits}f} standard error"


def _cell(runs: list[dict], name: str) -> str:
    values, digits = [run[name] for run in runs if run.get(name) is not None], COLUMNS[name][1]
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 and statistics.stdev(values) else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"
