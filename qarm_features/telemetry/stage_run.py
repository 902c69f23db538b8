"""A run of a stage, as operators are told of it.

In: what a job knows about itself. Out: a ``StageRun``, and its form as one JSON line.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self

from qarm_features import __version__

State = Literal["running", "succeeded", "failed", "interrupted"]


@dataclass(frozen=True)
class StageRun:
    """One run of one stage. Its fields are the keys of the JSON line.

    Attributes:
        stage: Name of the job.
        run_id: UUID of the run.
        project: Warehouse of the project, as a URI.
        code: Version of this package.
        host: Name of the driver's machine.
        pid: Process of the driver.
        started_at: Start, in UTC.
        state: ``running`` until the run has ended.
        ended_at: End, in UTC. None while it runs.
        rows_in, rows_out, rows_rejected: Row counts; rows in are rows out plus rows rejected. None unless it succeeded.
        rejected_by_reason: Number of rejected rows of the most frequent reasons, by reason.
        read: Delta version of each table and number of each artifact that it read.
        written: The same for what it wrote. What it left as it was is not among them.
        bytes_written: Bytes of the files that it added to tables. None unless it succeeded.
        remark: What the job says about its result.
        warnings: Results that somebody should look at.
        error: Why it failed, in one line. Empty unless it failed.
        lag_seconds: Longest time from the change of a file to its rows online. None but for a batch of ``qarm follow``.
    """

    stage: str
    run_id: str
    project: str
    code: str
    host: str
    pid: int
    started_at: datetime
    state: State = "running"
    ended_at: datetime | None = None
    rows_in: int | None = None
    rows_out: int | None = None
    rows_rejected: int | None = None
    rejected_by_reason: dict[str, int] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    bytes_written: int | None = None
    remark: str = ""
    warnings: tuple[str, ...] = ()
    error: str = ""
    lag_seconds: float | None = None

    @classmethod
    def begun(cls, stage: str, project: str, *, read: dict[str, int] | None = None) -> Self:
        """Return a run of this process that begins now.

        Args:
            stage: Name of the job.
            project: Warehouse of the project.
            read: Versions of what it reads.
        """
        return cls(
            stage=stage,
            run_id=str(uuid.uuid4()),
            project=project,
            code=__version__,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=datetime.now(UTC),
            read=read or {},
        )

    @property
    def seconds(self) -> float | None:
        """Duration in seconds. None while it runs."""
        return None if self.ended_at is None else (self.ended_at - self.started_at).total_seconds()

    @property
    def numbers(self) -> dict[str, float]:
        """Duration in seconds, row counts and bytes, of those that are known."""
        names = ("seconds", "rows_in", "rows_out", "rows_rejected", "bytes_written", "lag_seconds")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def versions(self) -> dict[str, int]:
        """Versions of what it read and wrote, as ``read.<name>`` and ``written.<name>``."""
        return {f"read.{name}": number for name, number in self.read.items()} | {
            f"written.{name}": number for name, number in self.written.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return the run as values that JSON can hold."""
        content = {**dataclasses.asdict(self), "seconds": self.seconds}
        for name in ("started_at", "ended_at"):
            moment = content[name]
            content[name] = moment and moment.astimezone(UTC).isoformat(timespec="milliseconds")
        return content

    def to_line(self) -> str:
        """Return the run as one JSON line, without a line break at its end."""
        return json.dumps(self.to_json(), ensure_ascii=False)

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Return the run of a JSON line. Keys that this version does not know are left out."""
        known = {one.name for one in dataclasses.fields(cls)}
        content: dict[str, Any] = {name: value for name, value in json.loads(line).items() if name in known}
        for name in ("started_at", "ended_at"):
            content[name] = content.get(name) and datetime.fromisoformat(content[name])
        return cls(**{**content, "warnings": tuple(content.get("warnings", ()))})
