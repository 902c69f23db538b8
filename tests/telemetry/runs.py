"""Runs of stages for the tests of telemetry."""

import uuid
from datetime import UTC, datetime, timedelta

from qarm_features.telemetry.stage_run import StageRun

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def run_of(stage="ingest_catalog", *, at=START, seconds=2.5, **fields) -> StageRun:
    known = {
        "state": "succeeded", "rows_in": 100, "rows_out": 97, "rows_rejected": 3, "bytes_written": 4_096,
        "rejected_by_reason": {"item_id is missing": 2, 'label is "x"\nnot 0 or 1': 1},
        "read": {"items": 4}, "written": {"interactions": 7},
    } if fields.get("state", "succeeded") == "succeeded" else {}  # fmt: skip
    return StageRun(
        **{
            "stage": stage, "run_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{stage} {at}")), "project": "/srv/shop/data",
            "code": "1.0", "host": "driver-1", "pid": 7, "started_at": at, "ended_at": at + timedelta(seconds=seconds),
            **known, **fields,
        }
    )  # fmt: skip
