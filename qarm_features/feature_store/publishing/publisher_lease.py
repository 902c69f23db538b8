"""The publishing lease: a row in a table of the registry's own database, which all publishers share.

In: the engine of the registry's database. Out: a lease that a thread renews while its holder runs. A holder that was killed
blocks the next one only until its lease expires. All times are read from the database's clock, because the clocks of the
publishers may differ. While the lease is held, each write to the registry renews it in the same transaction: a publisher that
stood still for too long changes nothing any more.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Double,
    Engine,
    MetaData,
    String,
    Table,
    Update,
    delete,
    event,
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
_WRITE = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE|MERGE)\b", re.IGNORECASE)
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
        on_lost: Function that is called in a thread when another publisher has taken the lease. It stops work that would
            change what that publisher wrote.

    Example:
        >>> from sqlalchemy import create_engine
        >>> with PublisherLease(create_engine("sqlite://"), "qarm", "anna@host", seconds=30).held() as lease:
        ...     lease.check()
    """

    def __init__(
        self,
        engine: Engine,
        project: str,
        holder: str,
        seconds: float,
        *,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine, self._project, self._holder, self._seconds = engine, project, holder, seconds
        self._token, self._on_lost = uuid.uuid4().hex, on_lost
        self._ended, self._lost = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator[PublisherLease]:
        """Take the lease, renew it in a thread, and give it back.

        If another holder renews the lease, the error comes at once. If it does not, this call waits until the lease expires.
        Meanwhile the engine refuses writes of a holder that has lost the lease.

        Raises:
            LeaseError: Another publisher holds the lease and renews it, or has taken it in the meantime.
        """
        _create_table(self._engine)
        self._acquire()
        beat = threading.Thread(target=self._beat, name="publisher-lease", daemon=True)
        beat.start()
        event.listen(self._engine, "before_cursor_execute", self._fence)
        try:
            yield self
        except Exception as error:
            if self._lost.is_set() and not isinstance(error, LeaseError):
                raise self._taken() from error  # for example of a Spark job that was cancelled
            raise
        finally:
            event.remove(self._engine, "before_cursor_execute", self._fence)
            self._ended.set()
            beat.join()
            with self._engine.begin() as database:
                database.execute(delete(_LEASES).where(self._is_mine()))

    def check(self) -> None:
        """Renew the lease, so that the caller is its only holder for the next ``seconds``.

        Raises:
            LeaseError: The lease expired while this process was suspended, and another publisher took it.
        """
        with self._engine.begin() as database:
            self._renew(database)

    def _fence(self, database: Connection, _cursor: object, statement: str, *_: Any) -> None:
        """Renew the lease in the transaction of a write to the registry, or fail the write.

        The renewal locks the row of the lease until the transaction ends, so nobody takes the lease in between.
        """
        if _WRITE.match(statement) and _LEASES.name not in statement:
            self._renew(database)

    def _renew(self, database: Connection) -> None:
        if not database.execute(self._renewal()).rowcount:
            raise self._taken()

    def _taken(self) -> LeaseError:
        return LeaseError(
            f"The publishing lease of {self._seconds:g} s expired while this process stood still, and another publisher took "
            "it. Readers have what that publisher served. Rows that this process loaded late may be older than those of the "
            "other publisher. Raise publishing.lease_seconds, and run: qarm publish-features"
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

    def _renewal(self) -> Update:
        return update(_LEASES).where(self._is_mine()).values(expires_at=_DatabaseClock() + self._seconds)

    def _beat(self) -> None:
        while not self._ended.wait(self._seconds / _BEATS):
            try:
                self.check()
            except LeaseError:
                self._lost.set()
                self._on_lost()
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
