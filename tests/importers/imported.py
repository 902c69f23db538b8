"""Files of a source from literal text, and what an import makes of them."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import pyarrow.parquet as pq

from qarm_features.importers.formats import FORMATS
from qarm_features.importers.plan import Options
from qarm_features.importers.write_tables import write_tables

PACK = {".gz": gzip.compress, ".bz2": bz2.compress}


def write_files(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(PACK.get(path.suffix, bytes)(data))
    return folder


def imported(tmp_path: Path, name: str, files: dict[str, str | bytes], *, limit: int | None = None, **options):
    """Returns the rows of both tables, the reasons of both tallies and the plan."""
    source = write_files(tmp_path / "source", files)
    plan = FORMATS[name].plan(source, Options(**options))
    tallies = write_tables(plan, tmp_path / "catalog", limit=limit)
    tables = [
        pq.read_table(tmp_path / "catalog" / f"{table}.parquet").to_pylist() for table in ("items", "interactions")
    ]
    for tally, rows in zip(tallies, tables, strict=True):
        assert tally.written == len(rows)
        assert tally.read == tally.written + tally.left_out.total()
    return (*tables, *(dict(tally.left_out) for tally in tallies), plan)
