"""The house's floors: imports only go down, rooms are folders, and a torch user never loads Spark."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.import_graph import PACKAGE, arrows, circles, edges, imports, modules

# From the ground up; the folders of one floor do not import each other.
FLOORS = (
    ("extras", "terminal", "torch_processes", "training_log"),
    ("storage", "importers"),
    ("settings",),
    ("decoding", "telemetry"),
    ("fusion",),
    ("encoders", "quantizers", "ranking", "behavior"),
    ("catalog", "item_pairs", "embedding", "codebooks", "feature_store", "planning"),
    ("alignment", "semantic_ids", "training"),
    ("evaluation", "following"),
    ("report",),
    ("explorer",),
    ("jobs",),
    ("cli",),
)
# The large public packages have floors of their own.
INNER_FLOORS = {
    "quantizers": (("arrays",), ("passes", "params")),
    "ranking": (("data",), ("modules",), ("model",), ("train",), ("serve",)),
    "feature_store": (("views", "bulk_write"), ("reading", "publishing")),
}


def top(name: str) -> str:
    """Returns the room of a module: its first folder."""
    return name.split(".")[0]


def inner(name: str) -> str | None:
    """Returns the room inside a large package, as ``ranking.data``; None for a module that stands in no such room."""
    parts = name.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 and parts[0] in INNER_FLOORS and _is_folder(parts[:2]) else None


def _is_folder(parts: list[str]) -> bool:
    return PACKAGE.joinpath(*parts).is_dir()


def floors_of(floors: tuple[tuple[str, ...], ...], prefix: str = "") -> dict[str, int]:
    return {prefix + room: number for number, rooms in enumerate(floors) for room in rooms}


def test_every_room_has_a_floor_and_is_a_folder():
    rooms = {top(name) for name in modules()}

    assert rooms == set(floors_of(FLOORS))
    assert {room for room in rooms if not _is_folder([room])} == {
        "extras",
        "terminal",
        "torch_processes",
        "training_log",
    }


def test_imports_between_rooms_only_go_down():
    level = floors_of(FLOORS)
    between = arrows(edges(), top)
    upward = sorted(f"{a} imports {b}" for a, b in between if level[b] >= level[a])

    print(
        f"{len(level)} rooms, {len(between)} arrows, {len(upward)} of them up or level, {len(circles(edges()))} circles"
    )
    assert upward == []


@pytest.mark.parametrize("package", INNER_FLOORS)
def test_imports_inside_a_large_package_only_go_down(package):
    level = floors_of(INNER_FLOORS[package], f"{package}.")
    between = {(a, b) for a, b in arrows(edges(), inner) if top(a) == top(b) == package}

    assert {inner(name) for name in modules() if top(name) == package} - {None} == set(level)
    assert sorted(f"{a} imports {b}" for a, b in between if level[b] >= level[a]) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circles(edges()) == []


# A device that asks for torch gets the products of an executor's GPU; every other quantizer runs without torch.
ON_REQUEST = {("torch_products.py", "torch")}


@pytest.mark.parametrize(
    ("rooms", "never"),
    [
        (("ranking", "fusion"), ("pyspark", "feast", "delta", "deltalake")),
        (("encoders",), ("pyspark", "feast", "delta", "deltalake")),
        (("decoding",), ("torch", "pyspark", "pyarrow", "pydantic")),
        (("quantizers",), ("torch", "feast")),
        (("quantizers.arrays",), ("pyspark", "pyarrow", "feast")),
    ],
)
def test_what_a_room_never_imports(rooms, never):
    broken = [
        f"{path.name} imports {name}"
        for module, path in modules().items()
        if top(module) in rooms or inner(module) in rooms
        for name in imports(path)
        if name.split(".")[0] in never and (path.name, name.split(".")[0]) not in ON_REQUEST
    ]
    assert broken == []


def test_nothing_imports_the_launchers_or_the_feature_repo():
    strangers = {"spark_jobs", "feature_repo"}

    assert [m for m, path in modules().items() if strangers & {name.split(".")[0] for name in imports(path)}] == []


def test_only_the_command_line_imports_the_jobs():
    assert {top(name) for name, others in edges().items() for other in others if top(other) == "jobs"} <= {
        "jobs",
        "cli",
    }


def test_only_the_warehouse_and_the_session_touch_delta():
    touching = {
        name
        for name, path in modules().items()
        if {"delta", "deltalake"} & {one.split(".")[0] for one in imports(path)}
    }
    beside_it = {
        "storage.plain_files",
        "storage.change_feed",
        "storage.conditional_writes",
        "storage.project_fingerprint",
        "storage.retention",
    }
    assert touching == {"storage.warehouse", "jobs.spark_session"} | beside_it


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("qarm_features", ("torch", "pyspark", "feast", "numpy")),
        ("qarm_features.ranking", ("pyspark", "feast", "delta")),
        ("qarm_features.fusion.q_former", ("pyspark", "feast", "delta")),
        ("qarm_features.decoding.child", ("torch", "pyspark", "pyarrow")),
        ("qarm_features.quantizers", ("torch", "feast")),
        ("qarm_features.explorer.store", ("torch", "pyspark", "feast", "delta", "deltalake", "pyarrow")),
    ],
)
def test_importing_a_module_loads_no_heavy_stranger(module, absent):
    assert loaded_strangers([module], absent) == "[]"


# The job that runs on the driver prepares and publishes; everything else in the folder runs inside a torch worker.
SPARK_SIDE_OF_ALIGNMENT = {"alignment.align_encoder", "alignment.export_pairs"}


def test_a_torch_worker_loads_no_module_of_alignment_that_needs_spark():
    names = {name for name in modules() if top(name) == "alignment"}
    torch_side = sorted(f"qarm_features.{name}" for name in names - SPARK_SIDE_OF_ALIGNMENT)

    assert names > SPARK_SIDE_OF_ALIGNMENT
    assert loaded_strangers(torch_side, ("pyspark", "feast", "delta", "deltalake")) == "[]"


def loaded_strangers(names: list[str], absent: tuple[str, ...]) -> str:
    """Returns which of the absent packages a fresh process has loaded after it imported modules, as a printed list."""
    code = f"import sys, {', '.join(names)}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[1],
    )
    return done.stdout.strip()
