"""The house's floors: imports only go down, and a torch user never loads Spark."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {
    1: (
        "settings",
        "settings_sections",
        "settings_codes",
        "settings_ranking",
        "settings_publishing",
        "tables",
        "warehouse",
        "artifacts",
        "encoders",
        "q_former",
        "quantizers",
        "ranking",
    ),
    2: (
        "ingest",
        "ingest_columns",
        "item_encoder",
        "encoder_tasks",
        "encoder_versions",
        "item_pairs",
        "time_split",
        "semantic_ids",
        "semantic_id_files",
        "semantic_id_export",
        "ordered_batches",
        "nearest_items",
        "code_errors",
        "code_matching",
        "level_figures",
        "codebook_fit",
        "codebook_refit",
        "codebook_updates",
        "collisions",
        "user_behavior",
        "impression_history",
        "quality",
        "neighborhoods",
        "code_behavior",
        "prefix_neighbors",
        "project",
    ),
    3: (
        "alignment",
        "alignment_data",
        "embedding",
        "content_tokens",
        "content_layout",
        "encoder_export",
        "encoder_evaluation",
        "code_evaluation",
        "point_in_time",
        "training_set",
        "feature_store",
        "ranking_models",
        "encoder_alignment",
    ),
    4: ("report", "screen", "code_screen", "cli", "cli_release", "doctor"),
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
LAUNCHERS = {"cli", "cli_release", "doctor"}


def imports(path: Path) -> set[str]:
    """Returns the full names of all that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms():
    files = [
        path
        for path in (ROOT / "qarm_features").rglob("*.py")
        if path.parent.name != "qarm_features" or path.stem != "__init__"
    ]
    return [(path.relative_to(ROOT / "qarm_features").parts[0].removesuffix(".py"), path) for path in files]


def test_every_room_has_a_floor():
    assert {room for room, _ in rooms()} == set(FLOOR_OF)


def test_imports_only_go_down():
    upward = [
        f"{path.relative_to(ROOT)} imports {name}"
        for room, path in rooms()
        for name in imports(path)
        if name.startswith("qarm_features.")
        and (other := name.split(".")[1]) != room
        and other in FLOOR_OF
        and FLOOR_OF[other] > FLOOR_OF[room]
    ]
    assert upward == []


# Products on an executor's GPU, imported when a device asks for them: quantizers do without torch, as a test below holds.
ON_REQUEST = {("torch_products.py", "torch")}


@pytest.mark.parametrize(
    ("places", "never"),
    [
        (("ranking",), ("pyspark", "feast", "delta")),
        (("encoders", "q_former", "alignment"), ("pyspark", "feast", "delta")),
        (("quantizers",), ("torch", "feast")),
    ],
)
def test_what_a_room_never_imports(places, never):
    broken = [
        f"{path.name} imports {name}"
        for room, path in rooms()
        if room in places
        for name in imports(path)
        if name.split(".")[0] in never and (path.name, name.split(".")[0]) not in ON_REQUEST
    ]
    assert broken == []


def test_only_the_launchers_import_the_jobs_and_nothing_imports_the_feature_repo():
    for room, path in rooms():
        names = {name.split(".")[0] for name in imports(path)}
        assert "feature_repo" not in names
        assert "spark_jobs" not in names or room in LAUNCHERS


def test_only_the_warehouse_touches_delta():
    touching = {
        room for room, path in rooms() if {"delta", "deltalake"} & {name.split(".")[0] for name in imports(path)}
    }
    assert touching == {"warehouse"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("qarm_features", ("torch", "pyspark", "feast", "numpy")),
        ("qarm_features.ranking", ("pyspark", "feast", "delta")),
        ("qarm_features.quantizers", ("torch", "feast")),
    ],
)
def test_importing_a_module_loads_no_heavy_stranger(module, absent):
    code = f"import sys, {module}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
