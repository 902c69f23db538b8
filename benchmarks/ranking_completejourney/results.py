"""Each trained model is one JSON file and one file of logits, so that a killed run continues after the last one.

In: a run and its figures. Out: files. The name of a file is the run and a fingerprint of all that decides its result.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ranking_completejourney.source import FILES
from ranking_completejourney.variants import Run


def fingerprint(content: Any) -> str:
    """Return a short hash of settings, equal for equal ones whatever the order of their names."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def data_fingerprint(folder: Path) -> str:
    """Return a short hash of the bytes of the three files."""
    return fingerprint([hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES])


class Results:
    """The finished runs of a folder.

    Args:
        folder: Folder of the files; it is created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def file(self, run: Run, key: str) -> Path:
        """Return the JSON file of a run with the fingerprint ``key``."""
        words = re.sub(r"[^a-z0-9]+", "-", run.name.lower()).strip("-")
        return self.folder / f"{words}-{key}.json"

    def find(self, run: Run, key: str) -> dict[str, Any] | None:
        """Return the figures of a finished run with its logits of the test rows, None if it is not finished."""
        file = self.file(run, key)
        if not file.is_file():
            return None
        return {**json.loads(file.read_text()), "logit": np.load(file.with_suffix(".npy"))}

    def write(self, run: Run, key: str, figures: Mapping[str, Any], logit: np.ndarray) -> None:
        """Write a finished run. The JSON file appears last and at once, so that a killed run leaves none."""
        file = self.file(run, key)
        logits, text = file.with_suffix(".npy"), json.dumps({"run": run.name, **figures}, indent=1)
        _replace(logits, lambda temporary: np.save(temporary, logit.astype(np.float32)))
        _replace(file, lambda temporary: temporary.write_text(text))

    def minutes_of(self, name: str) -> float | None:
        """Return the mean minutes of finished runs of a row, else of all finished runs, None if there is none."""
        finished = [json.loads(file.read_text()) for file in sorted(self.folder.glob("*.json"))]
        of_row = [one for one in finished if one["row"] == name]
        minutes = [one["minutes"] for one in of_row or finished]
        return float(np.mean(minutes)) if minutes else None


def estimate(results: Results, runs: Iterable[tuple[Run, str]]) -> tuple[list[str], float | None]:
    """Return a line per run that says whether it is done and how long it takes, and the minutes of all that are not.

    The minutes are None where no run is finished that they could be estimated from.
    """
    lines, total = [], 0.0
    known = True
    for run, key in runs:
        if results.file(run, key).is_file():
            lines.append(f"done     {run.name}")
            continue
        minutes = results.minutes_of(run.row.name)
        known = known and minutes is not None
        total += minutes or 0.0
        lines.append(f"to do    {run.name}: " + ("time unknown" if minutes is None else f"about {minutes:.1f} min"))
    return lines, total if known else None


def _replace(file: Path, write: Any) -> None:
    temporary = file.with_name(f".{os.getpid()}-{file.name}")
    write(temporary)
    os.replace(temporary, file)
