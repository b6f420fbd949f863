"""How this process reaches PostgreSQL: single connections for the lanes, a pool for everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import asyncpg
import structlog

from execution.errors import DatabaseUnavailableError
from execution.repository.patience import patient_connection
from execution.repository.presence import Presence

log = structlog.get_logger(__name__)

_HOT_PATH_PLANNING = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
    "timezone": "UTC",
}
"""Planning settings of the connections that run `statements.sql`; the reason stands at the top of that file."""

DRIVER_ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # No relative of the two above: a connection that breaks between a query and its return to the pool raises it.
    asyncpg.InternalClientError,
)
"""What the driver raises, whatever went wrong."""

CLOSE_TIMEOUT = 2.0
"""Seconds an orderly close of a connection may take before it is cut."""
ANSWER_SECONDS = 2.0
"""Seconds within which a server that is asked whether it is there lets somebody in; one that does not is away."""
BREAK_OFF_SECONDS = 0.5
"""Seconds the server gets to end a query whose caller was cancelled; then its connection is cut."""
_QUERIES, _INACTIVE_SECONDS = 50_000, 300.0
"""When a pooled connection is replaced: after so many queries, or so long without any. The driver's own values."""


class Connector:
    """Opens connections with the deadlines and planning settings of the hot statements."""

    def __init__(self, url: str, *, connect_timeout: float, statement_timeout: float, application_name: str) -> None:
        self.presence = Presence(self._lets_in)
        self._url = url
        self._connect_timeout = connect_timeout
        # The time limit of a commit-bearing statement lives in PostgreSQL: a limit on this side would leave it unknown
        # whether the statement was applied. The client's own limit is only for a server that does not answer at all.
        self._patience = statement_timeout + 5.0
        self._patient_connection = patient_connection(self._patience)
        self._server_settings = _HOT_PATH_PLANNING | {
            "statement_timeout": str(int(statement_timeout * 1000)),
            "lock_timeout": str(int(statement_timeout * 500)),
            "idle_in_transaction_session_timeout": str(int(statement_timeout * 2000)),
            "application_name": application_name,
        }

    async def connect(self) -> asyncpg.Connection:
        """A new connection.

        Raises:
            DatabaseUnavailableError: no connection within the connect timeout; the message names the host, no password.
        """
        return await self._open(connection_class=self._patient_connection, server_settings=self._server_settings)

    async def connect_for_engine(self, **other_settings: str) -> asyncpg.Connection:
        """A connection that SQLAlchemy can use, which prepares its statements; otherwise as `connect`.

        `other_settings` are server settings that differ from those of the hot statements.
        """
        connection = await self._open(
            connection_class=_EngineConnection,
            command_timeout=self._patience,
            server_settings=self._server_settings | other_settings,
        )
        assert isinstance(connection, _EngineConnection)
        connection.discard = self.discard
        return connection

    async def create_pool(self, size: int, *, least: int = 1, **other_settings: str) -> asyncpg.Pool:
        """A pool of such connections, `least` of them open already.

        Raises:
            DatabaseUnavailableError: as `connect`.
        """
        pool = _Pool(
            self._url,
            min_size=least,
            max_size=size,
            max_queries=_QUERIES,
            max_inactive_connection_lifetime=_INACTIVE_SECONDS,
            connect=None,
            setup=None,
            init=None,
            reset=_nothing_to_reset,
            loop=None,
            connection_class=self._patient_connection,
            record_class=asyncpg.Record,
            timeout=self._connect_timeout,
            command_timeout=None,
            server_settings=self._server_settings | other_settings,
        )
        try:
            await pool
        except DRIVER_ERRORS as error:
            pool.terminate()
            raise unreachable(error) from error
        return pool

    async def _lets_in(self) -> bool:
        """Is PostgreSQL there? Says so in a few seconds, whatever it does."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                connection = await self.connect()
        except (DatabaseUnavailableError, TimeoutError) as error:
            return isinstance(error.__cause__, asyncpg.TooManyConnectionsError)
        await self.discard(connection)
        return True

    async def _open(self, **options: Any) -> asyncpg.Connection:
        try:
            connection: asyncpg.Connection = await asyncpg.connect(self._url, timeout=self._connect_timeout, **options)
        except DRIVER_ERRORS as error:
            raise unreachable(error) from error
        self.presence.let_in()
        return connection

    async def discard(self, connection: asyncpg.Connection) -> None:
        """Close a connection in whatever condition it is; without a word where PostgreSQL says none."""
        if not self.presence.is_silent:
            with suppress(*DRIVER_ERRORS):
                await self._say_goodbye(connection)
        connection.terminate()

    async def _say_goodbye(self, connection: asyncpg.Connection) -> None:
        try:
            await connection.close(timeout=CLOSE_TIMEOUT)
        except TimeoutError:
            self.presence.said_nothing()


class _EngineConnection(asyncpg.Connection):
    """A connection that is closed as all others are: SQLAlchemy would wait for the server as for a statement."""

    __slots__ = ("discard",)

    discard: Callable[[asyncpg.Connection], Awaitable[None]]

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the driver's signature
        if timeout is None:
            await self.discard(self)
        else:
            await super().close(timeout=timeout)


class _Pool(asyncpg.Pool):
    """A pool whose callers need not wait, when they are cancelled, until the server obeys: one that hangs never does.

    The driver's would let them wait for the client's own limit of a statement, and with them whoever gave them a time.
    """

    __slots__ = ()

    async def release(
        self,
        connection: asyncpg.pool.PoolConnectionProxy,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the driver's signature
    ) -> None:
        """Take a connection back. One whose query was broken off, and is not over in a moment, is cut instead."""
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            await super().release(connection, timeout=timeout)
            return
        await asyncio.shield(self._take_back(connection, BREAK_OFF_SECONDS if timeout is None else timeout))

    async def _take_back(self, connection: asyncpg.pool.PoolConnectionProxy, seconds: float) -> None:
        try:
            await super().release(connection, timeout=seconds)
        except TimeoutError:
            log.info("database.query_not_broken_off")


async def _nothing_to_reset(_connection: object) -> None:
    """The pool runs single statements, which leave nothing behind; the driver's own reset would be one more query."""


def unreachable(error: Exception) -> DatabaseUnavailableError:
    """The error for a connection that could not be made."""
    problem = f"{type(error).__name__}: {error}".rstrip(": .")
    return DatabaseUnavailableError(
        "Connecting to PostgreSQL", f"{problem}. Check EXECUTION_DATABASE_URL and that the server is running"
    )


def is_connection_lost(error: BaseException) -> bool:
    """Does the error mean that the connection is gone (and not that the statement was refused)?"""
    return isinstance(
        error,
        OSError
        | TimeoutError
        | DatabaseUnavailableError
        | asyncpg.InterfaceError
        | asyncpg.PostgresConnectionError
        | asyncpg.AdminShutdownError
        | asyncpg.CrashShutdownError
        | asyncpg.CannotConnectNowError
        | asyncpg.IdleInTransactionSessionTimeoutError
        | asyncpg.TooManyConnectionsError
        | asyncpg.InternalClientError,
    )
