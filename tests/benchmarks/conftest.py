"""Benchmarks are scripts: their parts are imported from the folder of the script, as Python does it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
