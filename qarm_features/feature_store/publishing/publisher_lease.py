"""The publishing lease: a row in a table of the registry's own database, which all publishers share.

In: the engine of the registry's database. Out: a lease that a thread renews while its holder runs. A holder that was killed
blocks the next one only until its lease expires. All times are read from the database's clock, because the clocks of the
publishers may differ.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Double,
    Engine,
    MetaData,
    String,
    Table,
    delete,
    insert,
    inspect,
    or_,
    select,
    update,
)
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
_BEATS = 3  # renewals during the time of a lease
_log = logging.getLogger(__name__)


class LeaseError(ValueError):
    """Another publisher holds the lease."""


class _DatabaseClock(FunctionElement):
    """Seconds since 1970 by the database's clock."""

    type = Double()
    inherit_cache = True


compiles(_DatabaseClock, "sqlite")(lambda *_, **__: "((julianday('now') - 2440587.5) * 86400.0)")
compiles(_DatabaseClock, "postgresql")(
    lambda *_, **__: "CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)"
)
for _dialect in ("mysql", "mariadb"):
    compiles(_DatabaseClock, _dialect)(lambda *_, **__: "UNIX_TIMESTAMP(NOW(6))")


class _Held(NamedTuple):
    """A lease that is held, by the database's clock in seconds since 1970."""

    token: str
    holder: str
    expires_at: float
    seconds_left: float


class PublisherLease:
    """A lease on publishing in one project, taken by ``held``.

    Args:
        engine: SQLAlchemy engine of the registry's database.
        project: Name of the Feast project.
        holder: Name of the publisher, for the error that others get.
        seconds: Time in seconds after which the lease expires unless it is renewed.

    Example:
        >>> from sqlalchemy import create_engine
        >>> with PublisherLease(create_engine("sqlite://"), "qarm", "anna@host", seconds=30).held() as lease:
        ...     lease.check()
    """

    def __init__(self, engine: Engine, project: str, holder: str, seconds: float) -> None:
        self._engine, self._project, self._holder, self._seconds = engine, project, holder, seconds
        self._token = uuid.uuid4().hex
        self._ended = threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator[PublisherLease]:
        """Take the lease, renew it in a thread, and give it back.

        If another holder renews the lease, the error comes at once. If it does not, this call waits until the lease expires.

        Raises:
            LeaseError: Another publisher holds the lease and renews it.
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
        """Renew the lease, so that the caller is its only holder for the next ``seconds``.

        Raises:
            LeaseError: The lease expired while this process was suspended, and another publisher took it.
        """
        if not self._renew():
            raise LeaseError(
                f"The publishing lease of {self._seconds:g} s expired and another publisher took it. Readers keep the "
                "release they had. Raise publishing.lease_seconds and run the command again."
            )

    def _acquire(self) -> None:
        first = None
        while not self._take():
            held = self._look()
            if held is None:
                continue
            if first is None:
                first = held
                _log.info("%s holds the publishing lease. Waiting to see if it is renewed.", held.holder)
            elif (held.token, held.expires_at) != (first.token, first.expires_at):
                raise LeaseError(
                    f"{held.holder} is publishing in project {self._project}, and only one publisher may run at a time. "
                    "Run the command again when it has ended."
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
        return None if row is None else _Held(*row)

    def _renew(self) -> bool:
        with self._engine.begin() as database:
            until = _DatabaseClock() + self._seconds
            return bool(database.execute(update(_LEASES).where(self._is_mine()).values(expires_at=until)).rowcount)

    def _beat(self) -> None:
        while not self._ended.wait(self._seconds / _BEATS):
            try:
                if not self._renew():
                    return
            except DBAPIError as error:  # the text of the error may hold the database's address
                _log.warning("The publishing lease was not renewed (%s). Trying again.", type(error).__name__)

    def _is_mine(self) -> ColumnElement[bool]:
        return (_LEASES.c.project_id == self._project) & (_LEASES.c.token == self._token)


def _create_table(engine: Engine) -> None:
    try:
        _LEASES.metadata.create_all(engine)
    except DBAPIError:  # another publisher created it in between
        if not inspect(engine).has_table(_LEASES.name):
            raise
