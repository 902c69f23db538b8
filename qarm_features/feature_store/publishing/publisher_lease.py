"""One publisher at a time: a lease in a table of the registry's own database, which all publishers share.

In: the engine of the registry's database. Out: a lease that a thread renews while its holder lives. One that was
killed blocks the next until its lease has run out, no longer. Times are those of the database's clock: others may differ.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Column, Double, Engine, MetaData, String, Table, delete, insert, inspect, or_, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

_LEASES = Table(
    "qarm_publisher_lease",
    MetaData(),
    Column("project_id", String(255), primary_key=True),
    Column("token", String(32), nullable=False),
    Column("holder", String(255), nullable=False),
    Column("expires_at", Double, nullable=False),
)
_BEATS = 3  # renewals within the time of a lease
_log = logging.getLogger(__name__)


class LeaseError(ValueError):
    """Another publisher is at work."""


class _DatabaseClock(FunctionElement):
    """Seconds since 1970 as the database counts them."""

    type = Double()
    inherit_cache = True


compiles(_DatabaseClock, "sqlite")(lambda *_, **__: "((julianday('now') - 2440587.5) * 86400.0)")
compiles(_DatabaseClock, "postgresql")(
    lambda *_, **__: "CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)"
)
for _dialect in ("mysql", "mariadb"):
    compiles(_DatabaseClock, _dialect)(lambda *_, **__: "UNIX_TIMESTAMP(NOW(6))")


class _Held(NamedTuple):
    token: str
    holder: str
    expires_at: float
    seconds_left: float


class PublisherLease:
    """A lease on publishing in one project; use `held`.

    Args:
        engine: Of the registry's database.
        project: Feast's project.
        holder: Who asks, for the message that others get.
        seconds: For how long it holds without being renewed.
    """

    def __init__(self, engine: Engine, project: str, holder: str, seconds: float):
        self._engine, self._project, self._holder, self._seconds = engine, project, holder, seconds
        self._token = uuid.uuid4().hex
        self._ended = threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator[PublisherLease]:
        """Takes the lease, renews it in a thread, and gives it back.

        A holder that renews is alive: the caller is told at once. One that does not is waited for until its lease ends.

        Raises:
            LeaseError: A living publisher holds it.
        """
        _create_table(self._engine)
        self._acquire()
        beat = threading.Thread(target=self._beat, name="publisher-lease", daemon=True)
        beat.start()
        try:
            yield self
        finally:
            self._ended.set()
            beat.join()
            with self._engine.begin() as database:
                database.execute(delete(_LEASES).where(self._is_mine()))

    def check(self) -> None:
        """Renews the lease, so that what follows at once is done as its only holder.

        Raises:
            LeaseError: It ran out while this process stood still, and another took it.
        """
        if not self._renew():
            raise LeaseError(
                f"The lease of {self._seconds:g} s ran out and another publisher took it, must be renewed in time. "
                "Nothing was flipped. Raise publishing.lease_seconds, and run it again."
            )

    def _acquire(self) -> None:
        first = None
        while not self._take():
            held = self._look()
            if held is None:
                continue
            if first is None:
                first = held
                _log.info("%s holds the lease of publishing; is it alive?", held.holder)
            elif (held.token, held.expires_at) != (first.token, first.expires_at):
                raise LeaseError(
                    f"{held.holder} is publishing in project {self._project}, must be the only one. "
                    "Run it again when that has ended."
                )
            time.sleep(min(max(held.seconds_left, 0.0) + 0.01, self._seconds / (2 * _BEATS), 1.0))

    def _take(self) -> bool:
        values = {"token": self._token, "holder": self._holder, "expires_at": _DatabaseClock() + self._seconds}
        free = or_(_LEASES.c.expires_at < _DatabaseClock(), _LEASES.c.token == self._token)
        with self._engine.begin() as database:
            taken = database.execute(update(_LEASES).where(_LEASES.c.project_id == self._project, free).values(values))
            if taken.rowcount:
                return True
        try:
            with self._engine.begin() as database:
                database.execute(insert(_LEASES).values(project_id=self._project, **values))
            return True
        except IntegrityError:
            return False

    def _look(self) -> _Held | None:
        columns = (_LEASES.c.token, _LEASES.c.holder, _LEASES.c.expires_at, _LEASES.c.expires_at - _DatabaseClock())
        with self._engine.connect() as database:
            row = database.execute(select(*columns).where(_LEASES.c.project_id == self._project)).first()
        return row and _Held(*row)

    def _renew(self) -> bool:
        with self._engine.begin() as database:
            until = _DatabaseClock() + self._seconds
            return bool(database.execute(update(_LEASES).where(self._is_mine()).values(expires_at=until)).rowcount)

    def _beat(self) -> None:
        while not self._ended.wait(self._seconds / _BEATS):
            try:
                if not self._renew():
                    return
            except DBAPIError as error:  # its text may name the database's address
                _log.warning("The lease of publishing was not renewed (%s); trying again.", type(error).__name__)

    def _is_mine(self):
        return (_LEASES.c.project_id == self._project) & (_LEASES.c.token == self._token)


def _create_table(engine: Engine) -> None:
    try:
        _LEASES.metadata.create_all(engine)
    except DBAPIError:  # another publisher created it in between
        if not inspect(engine).has_table(_LEASES.name):
            raise
