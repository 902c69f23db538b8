"""Trials are kept in a file, one line of JSON each, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

from .trials import Figures, Trial


def as_line(trial: Trial, scale: float, epochs: int) -> str:
    """Return a trial as a line of JSON, with the scale of its world and the largest number of epochs."""
    figures = {name: getattr(trial, name)._asdict() for name in ("new_items", "all_items")}
    return json.dumps({"scale": scale, "epochs": epochs, **trial._asdict(), **figures})


def kept_trials(results: Path | None, scale: float, epochs: int) -> dict[tuple[str, bool, int], Trial]:
    """Return the trials of a file, of this scale and number of epochs, by idea, world and seed."""
    found = {}
    for line in results.read_text().splitlines() if results is not None and results.is_file() else ():
        row = json.loads(line)
        if (row.pop("scale"), row.pop("epochs")) == (scale, epochs):
            figures = {name: Figures(**row[name]) for name in ("new_items", "all_items")}
            trial = Trial(**{**row, **figures})
            found[trial[:3]] = trial
    return found
